"""VAF: in the middle layers, text rows weigh image scores more and those of the system prompt less."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vlmtools.families._prompt import Prompt
from vlmtools.families._rows import Rows
from vlmtools.patches._depth import Layers, attention_in
from vlmtools.patches._row_edit import RowEdit, image_in_text
from vlmtools.patches.base import Handle, Live, Patch


def reweigh(
    scores: Float[Tensor, "batch head row key"],
    image: Bool[Tensor, "#batch #head #row key"],
    before: Bool[Tensor, "#batch #head #row key"],
    enhance: float,
    suppress: float,
) -> Float[Tensor, "batch head row key"]:
    """Multiply scores of image keys and of the keys before them; negative scores move the other way.

    Reference: arXiv:2503.13107, section 4; multiplied in front of the softmax as in the released code.

    Args:
        scores: Scaled attention scores before the softmax.
        image: Which keys are pieces of the picture.
        before: Which keys lie in front of the picture.
        enhance: Factor for the picture; 1 is neutral.
        suppress: Factor for what lies in front of it; 1 is neutral.
    """
    return torch.where(image, enhance * scores, torch.where(before, suppress * scores, scores))


def before_image(prompt: Prompt) -> Bool[Tensor, "batch seq"]:
    """Positions in front of the first piece of a picture; none in prompts without one.

    Args:
        prompt: The batch.
    """
    seen = prompt.image.long().cumsum(-1) > 0
    return ~seen & prompt.image.any(-1, keepdim=True)


@dataclass(frozen=True)
class VAF(Patch):
    """Visual amplification fusion: image scores × 1.15 and system scores × 0.95 in every row behind the picture.

    Reference: arXiv:2503.13107, section 4.

    Args:
        enhance: Factor on scores of image keys, from 1 up; 1 is neutral, the released code uses 1.15.
        suppress: Factor on scores of keys in front of the picture, up to 1; 1 is neutral, the released code uses 0.95.
        layers: Which; None takes 9 to 14 of 32, the released default, and the same share of other depths.
    """

    enhance: float = 1.15
    suppress: float = 0.95
    layers: Layers = None

    def hooks(self, live: Live) -> Iterator[Handle]:
        """Edit the rows behind the picture in the middle layers."""
        image_in_text(live)
        chosen = attention_in(live, self.layers, 9, 14)
        live.status.tokens = "image keys and keys before them, seen from every token behind the picture"
        neutral = self.enhance == self.suppress == 1
        yield RowEdit("after_image", scores=self._scores, neutral=neutral).install(live, chosen)

    def _scores(self, rows: Rows, scores: Tensor) -> Tensor:
        session, (batch, _, _, n_keys) = rows.session, scores.shape
        before = session.keys(before_image(session.prompt), batch, n_keys, scores.device)[:, None, None]
        return reweigh(scores, rows.image, before, self.enhance, self.suppress)

    @classmethod
    def neutral(cls) -> Self:
        """Both factors 1."""
        return cls(enhance=1.0, suppress=1.0)
