"""HiPrune++: HiPrune, and the tokens closest to the text of the prompt."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from vlmtools.errors import BadInput
from vlmtools.pruning._salience import normalised
from vlmtools.pruning.base import Needs, Seen, Selection, Tower
from vlmtools.pruning.hiprune import HiPrune, best


def closest_to_text(
    features: Float[Tensor, "image_token dim"],
    text: Float[Tensor, "word dim"],
    chosen: Int64[Tensor, " chosen"],
    n: int,
) -> Int64[Tensor, " prompt"]:
    """Of the tokens not chosen yet, those with the highest cosine to the mean embedding of the text.

    Reference: arXiv:2508.00553v3, HiPrune++.

    Args:
        features: The tokens that the language model would read.
        text: Embeddings of the prompt's words.
        chosen: Kept already.
        n: How many to add.
    """
    likeness = normalised(features) @ normalised(text.float().mean(0))
    return best(likeness.index_fill(0, chosen, -torch.inf), n)


@dataclass(frozen=True)
class HiPrunePP(HiPrune):
    """HiPrune on a part of the budget, and tokens close to the prompt's text on the rest.

    The paper adds these tokens to the budget; here `keep` counts all of them, so its rows are had with
    `keep = budget + beta × tokens`. No program of it was released: written from the paper's description.

    Reference: arXiv:2508.00553v3, HiPrune++.

    Args:
        beta: Tokens chosen by text, as a share of all tokens of the view, from 0 (HiPrune) up; the paper uses 0.1.
            Never more than half of the budget.
    """

    beta: float = 0.1

    def needs(self, tower: Tower) -> Needs:
        """What HiPrune needs, and the prompt's embeddings."""
        if self.compat or self.beta < 0:
            raise BadInput(
                f"{self.name}: compat={self.compat}, beta={self.beta}: no program was released that compat could "
                "follow, and beta is 0 or more. Use hiprune:compat=true for the released HiPrune."
            )
        basic = super().needs(tower)
        return Needs(received=basic.received, text=True)

    def select(self, seen: Seen, n_keep: int) -> Selection:
        """Three stages, then the text."""
        worded = seen.text is not None and len(seen.text) > 0
        n_text = min(round(self.beta * seen.n_tokens), n_keep // 2) if worded else 0
        basic = super().select(seen, n_keep - n_text)
        if seen.text is None or not n_text:
            return basic
        added = closest_to_text(seen.features, seen.text, basic.kept, n_text).sort().values
        return Selection(torch.cat([basic.kept, added]).sort().values, {**basic.kinds, "prompt": added})
