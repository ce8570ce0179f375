"""FasterVLM: keep the tokens that the class token of the vision tower attends to most."""

from dataclasses import dataclass

from jaxtyping import Float, Int64
from torch import Tensor

from vlmtools.pruning._salience import salience, whole_layer
from vlmtools.pruning.base import Needs, Seen, Selection, TokenPruner, Tower


def most_attended(attention: Float[Tensor, " image_token"], n_keep: int) -> Int64[Tensor, " kept"]:
    """Tokens by descending attention; of equal ones the lower index first.

    Reference: arXiv:2412.01818v1.

    Args:
        attention: What each token receives from the class token, averaged over heads.
        n_keep: How many, from 0 to all.
    """
    return attention.argsort(descending=True, stable=True)[:n_keep]


@dataclass(frozen=True)
class FasterVLM(TokenPruner):
    """The highest class attention. Towers without class token: the highest mean attention received.

    Reference: arXiv:2412.01818v1. Later versions of that paper are VisPruner.

    Args:
        layer: Layer of the tower, negative from the end; None is the one whose output goes to the connector.
    """

    layer: int | None = None

    def needs(self, tower: Tower) -> Needs:
        """One row of attention, or one column mean."""
        layers = (whole_layer(tower, self.layer, None, self.name),)
        return Needs(class_attention=layers) if tower.class_token else Needs(received=layers)

    def select(self, seen: Seen, n_keep: int) -> Selection:
        """Top of the ranking."""
        kept = most_attended(salience(seen), n_keep).sort().values
        return Selection(kept, {"attended": kept})
