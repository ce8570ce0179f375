"""DivPrune: keep the tokens that lie farthest from each other."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from vlmtools.pruning._salience import normalised
from vlmtools.pruning.base import Seen, Selection, TokenPruner


def farthest_first(features: Float[Tensor, "image_token dim"], n_keep: int) -> Int64[Tensor, " kept"]:
    """Tokens in the order of choice: each is the one whose nearest chosen token is farthest away.

    The first is the token whose nearest neighbour is farthest. Distance is one minus the cosine; of equal distances
    the lower index wins. A kept token is never drawn again, also where tokens repeat.

    Reference: arXiv:2503.02175.

    Args:
        features: The tokens that the language model would read.
        n_keep: How many, from 0 to all.
    """
    unit = normalised(features)
    apart = 1 - unit @ unit.T
    nearest = apart.clone().fill_diagonal_(torch.inf).min(0).values
    order: list[Tensor] = []
    for step in range(n_keep):
        new = nearest.argmax()
        nearest = torch.minimum(nearest, apart[new]) if step else apart[new].clone()
        order.append(new)
        nearest[new] = -torch.inf  # stays so: the minimum with anything
    return torch.stack(order) if order else torch.zeros(0, dtype=torch.long, device=features.device)


@dataclass(frozen=True)
class DivPrune(TokenPruner):
    """Greedy max-min diversity of the tokens the language model would read. Needs neither attention nor text.

    Reference: arXiv:2503.02175. Written from the paper.
    """

    def select(self, seen: Seen, n_keep: int) -> Selection:
        """Farthest first."""
        kept = farthest_first(seen.features, n_keep).sort().values
        return Selection(kept, {"diverse": kept})
