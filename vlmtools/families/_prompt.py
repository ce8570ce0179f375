"""A batch of prompts, how far a stream of passes has come, and something that can be taken back."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from vlmtools.errors import BadInput
from vlmtools.families._probe import Anatomy


@dataclass(frozen=True, slots=True, eq=False)
class Prompt:
    """One batch of prompts.

    Args:
        inputs: Everything the model was given, by name.
        image: Which positions are pieces of a picture or of a video.
        real: Which positions are no padding.
        has_image: Whether any position is a piece of a picture or of a video.
    """

    inputs: Mapping[str, Any]
    image: Bool[Tensor, "batch seq"]
    real: Bool[Tensor, "batch seq"]
    has_image: bool = field(init=False)

    def __post_init__(self) -> None:
        # asked at every layer and step: read once from the device
        object.__setattr__(self, "has_image", bool(self.image.any()))

    @property
    def n_rows(self) -> int:
        """Prompts in the batch, before `generate` repeats them for beams or several answers."""
        return self.image.shape[0]

    @property
    def length(self) -> int:
        """Tokens of the longest prompt."""
        return self.image.shape[1]

    @property
    def last(self) -> Int[Tensor, "batch"]:
        """The last position of every prompt that is no padding: the row that predicts the first new token."""
        place = torch.arange(self.length, device=self.real.device)
        return (self.real.long() * place).amax(-1)

    @property
    def after_image(self) -> Int[Tensor, "batch"]:
        """The position behind the last piece of a picture; 0 for prompts without one."""
        place = torch.arange(1, self.length + 1, device=self.image.device)
        return (self.image.long() * place).amax(-1)


@dataclass(slots=True)
class State:
    """How far one stream of passes has come. A second stream beside the answer has a state of its own.

    Args:
        prompt: What the stream was asked; None before the first pass and when the pass came from outside.
        side: True for streams beside the answer, such as the picture-less one of contrastive decoding.
        generating: Inside `generate`.
        fresh: The prompt is known and its first pass has not begun.
        past: Keys that lay in the cache before the current pass.
        n_new: Rows of the current pass.
        seen: Positions processed so far.
        memo: What layers ask again and again during one pass.
    """

    prompt: Prompt | None = None
    side: bool = False
    generating: bool = False
    fresh: bool = False
    past: int = 0
    n_new: int = 0
    seen: int = 0
    memo: dict[Any, tuple[Tensor, Tensor]] = field(default_factory=dict)

    def is_about(self, inputs: Mapping[str, Any]) -> bool:
        """Whether the prompt was read from these very inputs.

        Args:
            inputs: By name.
        """
        return self.prompt is not None and self.prompt.inputs.get("input_ids") is inputs.get("input_ids")

    @property
    def prefill(self) -> bool:
        """Whether the current pass reads the end of the prompt."""
        return self.prompt is not None and self.past < self.prompt.length


class Removable:
    """Something that is taken back by calling `remove`, once.

    Args:
        undo: Takes it back.
    """

    def __init__(self, undo: Callable[[], object]) -> None:
        self._undo: Callable[[], object] | None = undo

    def remove(self) -> None:
        """Take it back; the second call does nothing."""
        undo, self._undo = self._undo, None
        if undo is not None:
            undo()


def read_prompt(inputs: Mapping[str, Any], parts: Anatomy) -> Prompt | None:
    """What can be known of a prompt from the model's inputs; None when they hold embeddings only.

    Args:
        inputs: By name.
        parts: Of the model.
    """
    ids = inputs.get("input_ids")
    if ids is None:
        return None
    in_text = parts.family is None or parts.family.image_in_text
    image = is_visual(ids, parts) if in_text else torch.zeros_like(ids, dtype=torch.bool)
    mask = inputs.get("attention_mask")
    real = (
        mask[:, -ids.shape[1] :].bool()
        if isinstance(mask, Tensor) and mask.ndim == 2
        else torch.ones_like(image)
    )
    return Prompt(inputs, image, real.to(image.device))


def is_visual(ids: Int[Tensor, "batch seq"], parts: Anatomy) -> Bool[Tensor, "batch seq"]:
    """Which tokens stand for a piece of a picture or of a video.

    Args:
        ids: Tokens of the prompts.
        parts: Of the model.
    """
    found = torch.zeros_like(ids, dtype=torch.bool)
    for token in parts.visual_ids:
        found = found | (ids == token)
    return found


def spread(values: Tensor, n_rows: int) -> Tensor:
    """Repeat every prompt's row for its beams or answers, as `generate` does.

    Args:
        values: One row per prompt.
        n_rows: Rows of the batch.

    Raises:
        BadInput: The batch is no multiple of the prompts.
    """
    if values.shape[0] == n_rows:
        return values
    if n_rows % values.shape[0]:
        raise BadInput(
            f"A pass has {n_rows} rows for {values.shape[0]} prompts. Start a new generate for another batch."
        )
    return values.repeat_interleave(n_rows // values.shape[0], 0)
