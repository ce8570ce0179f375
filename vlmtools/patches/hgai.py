"""HGAI: in the middle layers, let all heads look where the heads look together."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vlmtools.errors import BadInput
from vlmtools.families._rows import Rows
from vlmtools.patches._depth import Layers, attention_in
from vlmtools.patches._row_edit import RowEdit, image_in_text
from vlmtools.patches.base import Handle, Live, Patch


def guide(
    scores: Float[Tensor, "batch head row key"],
    image: Bool[Tensor, "#batch #head #row key"],
    guides: Bool[Tensor, "#batch head #row 1"],
    strength: float,
) -> Float[Tensor, "batch head row key"]:
    """Add to every head's image scores the mean size of the guiding heads' scores for the same key.

    Reference: arXiv:2411.16724, section 5; the sizes are taken as in the released code.

    Args:
        scores: Scaled attention scores before the softmax.
        image: Which keys are pieces of the picture.
        guides: Which heads' sizes are averaged.
        strength: 0 leaves the scores alone.
    """
    sizes = (scores.abs() * guides).sum(1, keepdim=True) / guides.sum(1, keepdim=True)
    return torch.where(image, scores + strength * sizes, scores)


def looking_heads(
    scores: Float[Tensor, "batch head row key"],
    image: Bool[Tensor, "#batch 1 1 key"],
    allowed: Bool[Tensor, "#batch #head row key"],
    n_heads: int,
) -> Bool[Tensor, "batch head row 1"]:
    """The heads that give the picture most of their attention, row by row.

    Args:
        scores: Scaled attention scores before mask and softmax.
        image: Which keys are pieces of the picture.
        allowed: Which keys a row may see.
        n_heads: How many heads.
    """
    weights = scores.masked_fill(~allowed, float("-inf")).softmax(-1)
    mass = (weights * image).sum(-1).nan_to_num()
    top = mass.topk(n_heads, dim=1).indices
    return torch.zeros_like(mass, dtype=torch.bool).scatter(1, top, True)[..., None]


@dataclass(frozen=True)
class HGAI(Patch):
    """Heads guided attention intervention: raise image scores by their size averaged over the heads.

    Only the newest row is changed, in the middle layers, where the decoder reads the picture.

    Reference: arXiv:2411.16724, section 5.

    Args:
        strength: Share of the mean size that is added, from 0 up; 0 is neutral, the released code uses .5.
        layers: Which; None takes 5 to 17 of 32, the released default, and the same share of other depths.
        n_heads: Average over so many heads that look at the picture most; None averages over all, the released default.
    """

    strength: float = 0.5
    layers: Layers = None
    n_heads: int | None = None

    def hooks(self, live: Live) -> Iterator[Handle]:
        """Edit the rows of the middle layers."""
        image_in_text(live)
        chosen = attention_in(live, self.layers, 5, 17)
        if self.n_heads is not None and not 1 <= self.n_heads <= live.anatomy.n_heads:
            raise BadInput(
                f"n_heads={self.n_heads}: the decoder has {live.anatomy.n_heads} heads. Give 1 to that many, or None."
            )
        live.status.tokens = "image keys, seen from the last prompt position and every new token"
        yield RowEdit("answer", scores=self._scores, neutral=self.strength == 0).install(live, chosen)

    def _scores(self, rows: Rows, scores: Tensor) -> Tensor:
        if self.n_heads is None:
            guides = torch.ones(1, scores.shape[1], 1, 1, dtype=torch.bool, device=scores.device)
        else:
            guides = looking_heads(scores, rows.image, rows.allowed, self.n_heads)
        return guide(scores, rows.image, guides, self.strength)

    @classmethod
    def neutral(cls) -> Self:
        """Adds nothing."""
        return cls(strength=0.0)
