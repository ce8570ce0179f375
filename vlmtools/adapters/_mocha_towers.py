"""The frozen vision encoders that MoCHA looks through, and which of their features it takes.

Reference: arXiv:2507.22805.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from vlmtools.errors import BadInput

PAPER_TOWERS = (
    "google/siglip-large-patch16-384",
    "facebook/convnext-xlarge-384-22k-1k",
    "openai/clip-vit-large-patch14-336",
    "facebook/dinov2-large",
)
"""The paper's order and kinds. Its ConvNeXt-XXL is no Hugging Face checkpoint; this is the largest that is."""


@dataclass(frozen=True, slots=True, eq=False)
class Tower:
    """A frozen vision encoder and which of its features are taken.

    Args:
        module: A CLIP, SigLIP, DINOv2 or ConvNeXt vision model of transformers.
        channel_pool: Neighbouring channels averaged into one, from 1; MoCHA takes 3 of ConvNeXt-XXL's 3072.
        drop_first: Leave out the first patch, as the authors' SigLIP does by mistake; for loading their weights only.
    """

    module: nn.Module
    channel_pool: int = 1
    drop_first: bool = False

    @property
    def kind(self) -> str:
        """The encoder's `model_type`."""
        return str(getattr(getattr(self.module, "config", None), "model_type", type(self.module).__name__))

    @property
    def width(self) -> int:
        """Channels that come out."""
        config: Any = getattr(self.module, "config", None)
        sizes = getattr(config, "hidden_sizes", None)
        return int(sizes[-1] if sizes else config.hidden_size) // self.channel_pool

    @torch.no_grad()
    def features(self, pixels: Float[Tensor, "batch channel y x"]) -> Float[Tensor, "batch patch d_in"]:
        """Patch tokens, computed without gradient.

        Args:
            pixels: The picture.

        Raises:
            BadInput: An encoder of another kind.
        """
        name = self.kind.split("_")[0]
        if name not in _READERS:
            raise BadInput(f"MoCHA cannot read a {self.kind!r} encoder. It reads: {', '.join(_READERS)}.")
        tokens = _READERS[name](self.module, pixels.to(next(self.module.parameters()).dtype))[
            :, self.drop_first :
        ]
        return F.avg_pool1d(tokens, self.channel_pool) if self.channel_pool > 1 else tokens


def _before_last(module: Any, pixels: Tensor) -> Tensor:
    states = module(pixels, output_hidden_states=True, interpolate_pos_encoding=True).hidden_states
    before: Tensor = states[-2]
    return before


def _clip(module: Any, pixels: Tensor) -> Tensor:
    return _before_last(module, pixels)[:, 1:]


def _dinov2(module: Any, pixels: Tensor) -> Tensor:
    # the hidden states that come back may be normalised already: read what enters the last norm
    seen: list[Tensor] = []
    hook = module.layernorm.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    try:
        module(pixels)
    finally:
        hook.remove()
    return seen[0][:, 1:]


def _convnext(module: Any, pixels: Tensor) -> Tensor:
    stage: Tensor = module(pixels).last_hidden_state
    return stage.flatten(2).mT


_READERS = {"clip": _clip, "siglip": _before_last, "dinov2": _dinov2, "convnext": _convnext}
