"""CuMo's CLIP-MoE: every MLP of a vision tower becomes a sparse mixture of experts that start as its copies.

CuMo's connector is the same module as MoCHA's: `vlmtools.adapters.mocha.Mocha(upcycle=True)`.

Reference: arXiv:2405.05949. Names of the authors' weights, per encoder layer → ours: `gate.weight` → `gate.weight`,
`experts.<e>.fc1` → `experts.w1[e]`, `experts.b1[e]`, `experts.<e>.fc2` → `experts.w2[e]`, `experts.b2[e]` (transposed).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from vlmtools.adapters._host import linears
from vlmtools.adapters._losses import Over
from vlmtools.adapters._moe import Experts, balance_loss, check_counts, route, stack_official, z_loss
from vlmtools.adapters.base import Adapter, Handle, Site, Sizes, attentions
from vlmtools.errors import CannotAttach


class MoeMlp(nn.Module):
    """Router and experts in the place of one MLP.

    Args:
        sizes: d_in, d_hidden, d_out and act of the MLP.
        n_experts: MLPs.
        n_chosen: MLPs per patch.
    """

    def __init__(self, sizes: Sizes, n_experts: int, n_chosen: int) -> None:
        super().__init__()
        from transformers.activations import ACT2FN

        self.n_chosen = n_chosen
        self.report: Callable[[str, Tensor], None] = lambda _, __: None
        self.gate = nn.Linear(sizes["d_in"], n_experts, bias=False)
        act = ACT2FN[sizes["act"]]
        self.experts = Experts(n_experts, sizes["d_in"], sizes["d_hidden"], sizes["d_out"], act)

    def forward(self, x: Float[Tensor, "batch patch dim"]) -> Float[Tensor, "batch patch dim"]:
        """Each patch by itself.

        Args:
            x: Of the tower.
        """
        routing = route(self.gate(x), self.n_chosen)
        self.report("balance", balance_loss(routing))
        self.report("z", z_loss(routing))
        y: Tensor = self.experts(x, routing)
        return y

    def load_official(self, state: Mapping[str, Tensor], prefix: str = "") -> None:
        """Take over weights under the authors' names.

        Args:
            state: Of the tower.
            prefix: Of one layer, such as `encoder.layers.0.`.
        """
        stacked = stack_official(dict(state), "fc1", "fc2", prefix)
        mine = {f"experts.{name}": one for name, one in stacked.items()}
        self.load_state_dict({"gate.weight": state[f"{prefix}gate.weight"], **mine})


@dataclass(eq=False, repr=False)
class Cumo(Adapter):
    """Sparse mixtures of experts in the place of a vision tower's MLPs; losses are averaged over layers.

    Args:
        n_experts: MLPs per layer, from 1; the paper has 4.
        n_chosen: MLPs per patch, 1 to all; the paper takes 2.
        balance: Weight of the balance loss; 0 switches it off.
        z: Weight of the router's z loss; 0 switches it off.
        upcycle: Every expert begins as a copy of the MLP, so that nothing changes at first; False begins at random.
    """

    over_sites: ClassVar[Over] = "mean"
    starts_neutral: ClassVar[bool] = True

    n_experts: int = 4
    n_chosen: int = 2
    balance: float = 0.1
    z: float = 0.01
    upcycle: bool = True

    def check(self) -> None:
        """The counts must be possible."""
        check_counts(self.n_experts, self.n_chosen)

    def find(self, host: nn.Module) -> Sequence[Site]:
        """The MLP of every layer of the vision tower whose output is read; LLaVA leaves out the last one.

        Args:
            host: The model.
        """
        layers = _read_layers(host, [one.name.rpartition(".")[0] for one in attentions(host, "vision")])
        found = [(f"{name}.mlp", getattr(host.get_submodule(name), "mlp", None)) for name in layers]
        return [_site(path, mlp) for path, mlp in found]

    def layer(self, sizes: Sizes) -> nn.Module:
        """Router and experts of one MLP.

        Args:
            sizes: d_in, d_hidden, d_out and act.
        """
        return MoeMlp(sizes, self.n_experts, self.n_chosen)

    def start(self, site: Site, layer: Any) -> None:
        """Copy the MLP into every expert.

        Args:
            site: The MLP.
            layer: Its router and experts.
        """
        if self.upcycle:
            layer.experts.copy_from(*linears(site.module))

    def wire(self, host: nn.Module, site: Site, layer: Any) -> Iterator[Handle]:
        """Take the MLP's place.

        Args:
            host: The model.
            site: The MLP.
            layer: Its router and experts.
        """
        weights = {"balance": self.balance, "z": self.z}
        layer.report = lambda name, value: self.add_loss(name, value, weights[name], site.name)
        yield _Swap(host.get_submodule(site.name.rpartition(".")[0]), site.module, layer)


class _Swap:
    """One MLP out, the experts in."""

    def __init__(self, parent: Any, old: nn.Module, new: nn.Module) -> None:
        self.parent, self.old = parent, old
        parent.mlp = new

    def remove(self) -> None:
        self.parent.mlp = self.old


def _read_layers(host: Any, layers: list[str]) -> list[str]:
    chosen = getattr(getattr(host, "config", None), "vision_feature_layer", None)
    numbers = [chosen] if isinstance(chosen, int) else list(chosen or [len(layers)])
    return layers[: max(number % (len(layers) + 1) for number in numbers)]


def _site(path: str, mlp: Any) -> Site:
    projections = list(linears(mlp)) if mlp is not None else []
    act = getattr(getattr(mlp, "config", None), "hidden_act", None)
    if len(projections) != 2 or not isinstance(act, str):
        raise CannotAttach(
            f"{path} is no MLP of two projections with a named activation: CuMo replaces MLPs of CLIP's and SigLIP's "
            "form. Use the connector, vlmtools.adapters.mocha, which fits every tower."
        )
    first, second = projections
    sizes = {
        "d_in": first.in_features,
        "d_hidden": first.out_features,
        "d_out": second.out_features,
        "act": act,
    }
    return Site(path, mlp, sizes)
