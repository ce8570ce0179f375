"""SPIN: quieten the heads that look at the picture least, anew for every token."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, Self

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vlmtools.errors import BadInput
from vlmtools.families._rows import Rows
from vlmtools.patches._depth import Layers, attention_in
from vlmtools.patches._row_edit import RowEdit, image_in_text
from vlmtools.patches.base import Handle, Live, Patch


def attentive_heads(
    scores: Float[Tensor, "batch head row key"],
    image: Bool[Tensor, "#batch #head #row key"],
    keep: float,
) -> Bool[Tensor, "batch head row"]:
    """The heads with the largest summed image scores, row by row.

    The released code divides the sums by their spread and takes a softmax, which changes no order and is left out.

    Reference: arXiv:2505.16411, section 3.

    Args:
        scores: Scaled attention scores before the softmax.
        image: Which keys are pieces of the picture.
        keep: Share of the heads to keep, in [0, 1]; their number is rounded down.
    """
    summed = torch.where(image, scores, 0.0).sum(-1)
    kept = summed.topk(int(keep * summed.shape[1]), dim=1).indices
    return torch.zeros_like(summed, dtype=torch.bool).scatter(1, kept, True)


@dataclass(frozen=True)
class SPIN(Patch):
    """Image-guided head suppression: per layer and token, multiply the output of the least image-attentive heads.

    Reference: arXiv:2505.16411, section 3.

    Args:
        factor: On the output of the suppressed heads, in [0, 1]; 1 is neutral, the released commands use .05 to .1.
        keep: Share of the heads that stay as they are, in [0, 1]; 1 is neutral. Released: .95 for captions of LLaVA,
            .8 for POPE.
        layers: Which; None takes all, as released for LLaVA-1.5 7B.
        rows: `answer` acts from the last prompt position on, as the released code; `after_image` on every text token
            behind the picture, as the paper's words read.
    """

    factor: float = 0.08
    keep: float = 0.95
    layers: Layers = None
    rows: Literal["answer", "after_image"] = "answer"

    def hooks(self, live: Live) -> Iterator[Handle]:
        """Rank the heads by their scores, then scale their outputs."""
        image_in_text(live)
        if not 0 <= self.keep <= 1:
            raise BadInput(
                f"keep={self.keep} is no share of the heads. Give a number from 0 to 1; .95 is usual."
            )
        chosen = attention_in(live, self.layers, 0, 31)
        live.status.tokens = "every new token and the last prompt position"
        if self.rows == "after_image":
            live.status.tokens = "every token behind the picture"
        run = _Suppression(self)
        neutral = self.factor == 1 or self.keep == 1
        yield RowEdit(self.rows, scores=run.rank, output=run.scale, neutral=neutral).install(live, chosen)

    @classmethod
    def neutral(cls) -> Self:
        """Factor 1."""
        return cls(factor=1.0)


@dataclass(slots=True)
class _Suppression:
    """Heads ranked in front of the softmax are scaled behind it, within one call of one module."""

    patch: SPIN
    kept: dict[str, Tensor] = field(default_factory=dict)

    def rank(self, rows: Rows, scores: Tensor) -> Tensor:
        image = rows.image & rows.allowed
        self.kept[rows.attention.name] = attentive_heads(scores, image, self.patch.keep)
        return scores

    def scale(self, rows: Rows, heads_out: Tensor) -> Tensor:
        kept = self.kept.pop(rows.attention.name)[..., None]
        return torch.where(kept, heads_out, (self.patch.factor * heads_out.float()).to(heads_out.dtype))
