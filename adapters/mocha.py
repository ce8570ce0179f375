"""MoCHA: a sparse mixture of MLP experts as connector, one per vision encoder, and attention between encoders.

`Mocha` is the connector of one encoder and works in any vision-language model; `MochaModel` puts several encoders,
their connectors and hierarchical group attention before any causal language model.

Reference: arXiv:2507.22805. Names of the authors' weights → ours: `gate.weight` → `gate.weight`, `experts.<e>.0` →
`experts.w1[e]`, `experts.b1[e]`, `experts.<e>.2` → `experts.w2[e]`, `experts.b2[e]` (weights transposed).
"""

from collections.abc import Mapping
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

from vlmtools.adapters._hga import group_attention
from vlmtools.adapters._host import linears
from vlmtools.adapters._mocha_model import MochaModel
from vlmtools.adapters._mocha_towers import Tower
from vlmtools.adapters._moe import Experts, Routing, balance_loss, check_counts, route, stack_official, z_loss
from vlmtools.adapters.base import Connector
from vlmtools.errors import BadInput

__all__ = ["Mocha", "MochaModel", "Tower", "group_attention"]


@dataclass(eq=False, repr=False)
class Mocha(Connector):
    """A router sends each patch to a few two-layer MLPs; their outputs are added by the router's weights.

    Args:
        d_in: Width of the vision features; 0 takes it from the host.
        d_out: Width of the language model; 0 takes it from the host.
        n_experts: MLPs, from 1; the paper has 4.
        n_chosen: MLPs per patch, 1 to all; the paper takes 2.
        balance: Weight of the balance loss; 0 switches it off.
        z: Weight of the router's z loss; 0 switches it off.
        upcycle: Every expert begins as a copy of the host's own two-layer connector, as in CuMo.
    """

    n_experts: int = 4
    n_chosen: int = 2
    balance: float = 0.1
    z: float = 0.01
    upcycle: bool = False

    def check(self) -> None:
        """The counts must be possible."""
        check_counts(self.n_experts, self.n_chosen)

    def build(self) -> None:
        """Router and experts."""
        self.gate = nn.Linear(self.d_in, self.n_experts, bias=False)
        self.experts = Experts(self.n_experts, self.d_in, self.d_out, self.d_out)

    def start(self, old: nn.Module) -> None:
        """Copy the host's connector into every expert, where asked to.

        Args:
            old: The host's connector.
        """
        projections = list(linears(old))
        if self.upcycle and len(projections) != 2:
            raise BadInput(
                f"upcycle=True needs a connector of two projections; the host's has {len(projections)}. Leave it out."
            )
        if self.upcycle:
            self.experts.copy_from(*projections)

    def forward(self, features: Float[Tensor, "batch patch d_in"]) -> Float[Tensor, "batch patch d_out"]:
        """Each patch by itself; reports the losses `balance` and `z`.

        Args:
            features: Of the vision tower.
        """
        routing = self.routing(features)
        self.add_loss("balance", balance_loss(routing), self.balance)
        self.add_loss("z", z_loss(routing), self.z)
        tokens: Tensor = self.experts(features, routing)
        return tokens

    def routing(self, features: Float[Tensor, "batch patch d_in"]) -> Routing:
        """Which experts each patch goes to.

        Args:
            features: Of the vision tower.
        """
        return route(self.gate(features), self.n_chosen)

    def load_official(self, state: Mapping[str, Tensor]) -> None:
        """Take over weights under the authors' names; CuMo's connector has the same.

        Args:
            state: Of one connector.
        """
        stacked = stack_official(dict(state), "0", "2")
        mine = {f"experts.{name}": one for name, one in stacked.items()}
        self.load_state_dict({"gate.weight": state["gate.weight"], **mine})
