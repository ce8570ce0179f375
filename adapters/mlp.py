"""Plain MLP connector: linear layers with GELU between, as LLaVA-1.5 has.

Reference: arXiv:2310.03744, section 3.
"""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

from vlmtools.adapters.base import Connector
from vlmtools.errors import BadInput


@dataclass(eq=False, repr=False)
class Mlp(Connector):
    """Linear → GELU → … → linear, patch by patch.

    Args:
        d_in: Width of the vision features; 0 takes it from the host.
        d_out: Width of the language model; 0 takes it from the host.
        depth: Linear layers, from 1; LLaVA-1.5 has 2.
    """

    depth: int = 2

    def check(self) -> None:
        """At least one layer."""
        if self.depth < 1:
            raise BadInput(f"depth is {self.depth}; an MLP connector has at least 1 layer. LLaVA-1.5 has 2.")

    def build(self) -> None:
        """One layer d_in → d_out, the others d_out → d_out."""
        layers: list[nn.Module] = [nn.Linear(self.d_in, self.d_out)]
        for _ in range(self.depth - 1):
            layers += [nn.GELU(), nn.Linear(self.d_out, self.d_out)]
        self.layers = nn.Sequential(*layers)

    def forward(self, features: Float[Tensor, "batch patch d_in"]) -> Float[Tensor, "batch patch d_out"]:
        """Each patch by itself.

        Args:
            features: Of the vision tower.
        """
        tokens: Tensor = self.layers(features)
        return tokens
