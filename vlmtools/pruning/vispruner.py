"""VisPruner: half the budget to attended tokens, half to tokens that repeat nothing."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from vlmtools.errors import BadInput
from vlmtools.pruning._salience import normalised, salience, whole_layer
from vlmtools.pruning.base import Needs, Seen, Selection, TokenPruner, Tower


def without_duplicates(
    features: Float[Tensor, "image_token dim"], tokens: Int64[Tensor, " rest"], n_keep: int, step: int = 8
) -> Int64[Tensor, " kept"]:
    """Drop, round by round, the tokens at even places most similar to one at an odd place.

    The order decides who meets whom: it comes in by attention, and each round puts the surviving even places, least
    similar last, in front of the odd ones.

    Reference: arXiv:2412.01818.

    Args:
        features: The tokens of the vision tower.
        tokens: Indices to choose from, by descending attention.
        n_keep: How many to leave, from 0 to all.
        step: Dropped per round, at least 1; the released code uses 8. A round never drops more than the even places.
    """
    unit = normalised(features)
    while len(tokens) > n_keep:
        if len(tokens) == 1:
            return tokens[:0]
        even, odd = tokens[::2], tokens[1::2]
        likeness = (unit[even] @ unit[odd].T).max(-1).values
        order = likeness.argsort(descending=True, stable=True)
        tokens = torch.cat([even[order[min(step, len(tokens) - n_keep) :]], odd])
    return tokens


def attended_and_different(
    features: Float[Tensor, "image_token dim"],
    attention: Float[Tensor, " image_token"],
    n_keep: int,
    important: float = 0.5,
) -> tuple[Int64[Tensor, " important"], Int64[Tensor, " diverse"]]:
    """The attended tokens, and of the others those that repeat nothing.

    Reference: arXiv:2412.01818.

    Args:
        features: The tokens of the vision tower, in front of the projector.
        attention: What each token receives from the class token, averaged over heads.
        n_keep: Budget, from 0 to all.
        important: Share of the budget given by attention, rounded down, from 0 to 1; 1 is FasterVLM.
    """
    order = attention.argsort(descending=True, stable=True)
    n_important = int(n_keep * important)
    rest = order[n_important:]
    return order[:n_important], without_duplicates(features, rest, n_keep - n_important)


@dataclass(frozen=True)
class VisPruner(TokenPruner):
    """Part of the budget by class attention, part to tokens unlike each other.

    Towers without class token: mean attention received, as the paper's authors advise.

    Reference: arXiv:2412.01818.

    Args:
        important: Share of the budget given by attention, from 0 to 1; the released default is 0.5.
        layer: Layer of the tower, negative from the end; None is the one whose output goes to the connector.
    """

    important: float = 0.5
    layer: int | None = None

    def needs(self, tower: Tower) -> Needs:
        """Attention of one layer and the tower's features."""
        if not 0 <= self.important <= 1:
            raise BadInput(
                f"{self.name}: important={self.important} is no share of the budget. Choose one from 0 to 1."
            )
        layers = (whole_layer(tower, self.layer, None, self.name),)
        if tower.class_token:
            return Needs(class_attention=layers, patches=True)
        return Needs(received=layers, patches=True)

    def select(self, seen: Seen, n_keep: int) -> Selection:
        """Attended first, then what repeats nothing."""
        features = seen.features if seen.patches is None else seen.patches
        attended, diverse = attended_and_different(features, salience(seen), n_keep, self.important)
        kept = torch.cat([attended, diverse]).sort().values
        return Selection(kept, {"attended": attended.sort().values, "diverse": diverse.sort().values})
