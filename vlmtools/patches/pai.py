"""PAI: look at the picture more while answering, and say less of what the text alone suggests."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vlmtools.families._rows import Rows, Which
from vlmtools.patches._row_edit import RowEdit, image_in_text
from vlmtools.patches._stream import TextContrast
from vlmtools.patches.base import Handle, Live, Patch


def boost(
    scores: Float[Tensor, "batch head row key"], image: Bool[Tensor, "#batch #head #row key"], strength: float
) -> Float[Tensor, "batch head row key"]:
    """Raise the scores of image keys by a share of their size, so that negative ones rise too.

    Args:
        scores: Scaled attention scores before the softmax.
        image: Which keys are pieces of the picture.
        strength: 0 leaves the scores alone.
    """
    return torch.where(image, scores + strength * scores.abs(), scores)


@dataclass(frozen=True)
class PAI(Patch):
    """Pay more attention to the image: raise image scores in the newest row of every head of layers 2 and up.

    Reference: arXiv:2407.21771, section 3; the rule `w + a|w|` as in the released code.

    Args:
        strength: Share of its size by which an image score is raised, from 0 up; 0 is neutral, .2 is the default of the
            released code. Above .5 answers break down.
        first_layer: The layers below it are left alone.
        contrast: Factor of the contrast with a picture-less stream, from 1 up; 1 switches it off (neutral), the paper
            uses 1.1. It doubles the cost of decoding.
        cutoff: The contrast keeps tokens whose probability is at least this share of the largest, in (0, 1].
        boost_first: Raise the last prompt row, which decides the first new token, too. The released code does not when
            its contrast is on.
    """

    strength: float = 0.2
    first_layer: int = 2
    contrast: float = 1.0
    cutoff: float = 0.1
    boost_first: bool = True

    def hooks(self, live: Live) -> Iterator[Handle]:
        """Edit the rows, and add the contrast when asked for."""
        image_in_text(live)
        chosen = [one for one in live.anatomy.attention if one.layer >= self.first_layer]
        live.status.tokens = "image keys, seen from the last prompt position and every new token"
        which: Which = "answer" if self.boost_first else "new"
        yield RowEdit(which, scores=self._scores, neutral=self.strength == 0).install(live, chosen)
        if self.contrast != 1:
            yield TextContrast(self.contrast, self.cutoff).install(live)

    def _scores(self, rows: Rows, scores: Tensor) -> Tensor:
        return boost(scores, rows.image, self.strength)

    @classmethod
    def neutral(cls) -> Self:
        """No boost, no contrast."""
        return cls(strength=0.0, contrast=1.0)
