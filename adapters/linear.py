"""Linear connector: one projection, as the first LLaVA has.

Reference: arXiv:2304.08485, eq. 1.
"""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

from vlmtools.adapters.base import Connector


@dataclass(eq=False, repr=False)
class Linear(Connector):
    """One linear layer, patch by patch.

    Args:
        d_in: Width of the vision features; 0 takes it from the host.
        d_out: Width of the language model; 0 takes it from the host.
        bias: Add a bias.
    """

    bias: bool = True

    def build(self) -> None:
        """The projection."""
        self.projection = nn.Linear(self.d_in, self.d_out, bias=self.bias)

    def forward(self, features: Float[Tensor, "batch patch d_in"]) -> Float[Tensor, "batch patch d_out"]:
        """Each patch by itself.

        Args:
            features: Of the vision tower.
        """
        tokens: Tensor = self.projection(features)
        return tokens
