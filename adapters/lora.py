"""LoRA: low-rank updates of projections; the plain yardstick, and a way to PEFT's files.

For training at scale use PEFT; `save_peft` writes what its `PeftModel.from_pretrained` reads.

Reference: arXiv:2106.09685, eq. 3.
"""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from vlmtools.adapters._files import CONFIG, WEIGHTS
from vlmtools.adapters.base import Adapter, Handle, Site, Sizes, attentions
from vlmtools.errors import BadInput, CannotAttach


class LowRank(nn.Module):
    """x → B A x, with B = 0 at the start.

    Args:
        d_in: Width of the input.
        d_out: Width of the output.
        rank: Between the two.
    """

    def __init__(self, d_in: int, d_out: int, rank: int) -> None:
        super().__init__()
        self.a, self.b = nn.Parameter(torch.empty(rank, d_in)), nn.Parameter(torch.zeros(d_out, rank))
        nn.init.kaiming_uniform_(self.a, a=math.sqrt(5))

    def forward(self, x: Tensor) -> Tensor:
        """The update.

        Args:
            x: Input of the projection.
        """
        return x.to(self.a.dtype) @ self.a.T @ self.b.T


@dataclass(eq=False, repr=False)
class Lora(Adapter):
    """Low-rank updates of the attention projections.

    Args:
        rank: Of the update, from 1.
        alpha: The update is multiplied by alpha / rank; 0 switches it off.
        targets: Names of the projections inside an attention module.
        tower: text, vision or all.
    """

    starts_neutral: ClassVar[bool] = True

    rank: int = 8
    alpha: float = 16.0
    targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj")
    tower: Literal["text", "vision", "all"] = "text"

    def check(self) -> None:
        """A rank must be positive."""
        if self.rank < 1 or not self.targets:
            raise BadInput(
                f"rank={self.rank}, targets={self.targets} cannot be. Choose a rank from 1 and at least one target."
            )

    def find(self, host: nn.Module) -> Sequence[Site]:
        """Every projection with one of the names.

        Args:
            host: The model.
        """
        blocks = attentions(host, self.tower)
        found = [
            (f"{one.name}.{name}", child)
            for one in blocks
            for name, child in one.module.named_children()
            if name in self.targets
        ]
        if not found:
            names = sorted({name for one in blocks for name, _ in one.module.named_children()})
            raise CannotAttach(
                f"No attention module has {', '.join(self.targets)}; there is: {', '.join(names)}. Set targets."
            )
        return [Site(path, child, _sizes(child)) for path, child in found]

    def layer(self, sizes: Sizes) -> nn.Module:
        """The update of one projection.

        Args:
            sizes: d_in and d_out.
        """
        return LowRank(sizes["d_in"], sizes["d_out"], self.rank)

    def wire(self, host: nn.Module, site: Site, layer: Any) -> Iterator[Handle]:
        """Add the update to the projection's output.

        Args:
            host: The model.
            site: The projection.
            layer: Its update.
        """
        scale = self.alpha / self.rank
        yield site.module.register_forward_hook(
            lambda _, args, y: y + (scale * layer.forward(args[0])).to(y.dtype)
        )

    def save_peft(self, folder: str | Path) -> None:
        """Write the updates in PEFT's format.

        Args:
            folder: Made if absent.

        Raises:
            BadInput: There is nothing to write: the adapter was never attached.
        """
        from safetensors.torch import save_file

        if not self.sizes:
            raise BadInput("This LoRA has no layers yet. Attach it to a model, or load it, then save.")
        where = Path(folder)
        where.mkdir(parents=True, exist_ok=True)
        tensors = {
            f"base_model.model.{path}.lora_{name.upper()}.weight": one.detach().contiguous()
            for path, layer in zip(self.sizes, self.layers.values(), strict=True)
            for name, one in layer.named_parameters()
        }
        save_file(tensors, where / WEIGHTS)
        config = {
            "peft_type": "LORA", "r": self.rank, "lora_alpha": self.alpha, "lora_dropout": 0.0, "bias": "none",
            "target_modules": list(self.sizes), "base_model_name_or_path": self._host_facts()["name_or_path"],
        }  # fmt: skip
        (where / CONFIG).write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")


def _sizes(linear: Any) -> dict[str, int]:
    return {"d_in": linear.in_features, "d_out": linear.out_features}
