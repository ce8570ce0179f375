"""MoH: each token weighs its attention heads; some heads are shared, the others compete.

The gate multiplies each head's output before the output projection, so that any attention kernel works.

Reference: arXiv:2410.11842, eq. 5 to 9. Names of the authors' weights → ours: `wg` → `routed`, `wg_1` → `shared`,
`wg_0` → `balance`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vlmtools.adapters._losses import Over
from vlmtools.adapters.base import Adapter, Handle, Site, Sizes, attentions
from vlmtools.errors import BadInput, CannotAttach
from vlmtools.families._probe import Attention

Gates = Float[Tensor, "batch token head"]


class Gated(NamedTuple):
    """Gates and what the router did.

    Args:
        gates: Factor of each head.
        loss: Balance of the routed heads; None where none is routed.
    """

    gates: Gates
    loss: Tensor | None


def routed_gates(logits: Float[Tensor, "batch token routed"], n_chosen: int) -> Gated:
    """The chosen heads share `n_chosen` among them, the others get 0; eq. 7.

    Args:
        logits: Of the router.
        n_chosen: Heads per token, 1 to all.
    """
    r = logits.float().softmax(-1)
    mask = torch.zeros_like(r).scatter(-1, r.topk(n_chosen, dim=-1).indices, 1.0)
    kept = r * mask
    gates = n_chosen * kept / kept.sum(-1, keepdim=True)
    share, load = r.flatten(0, -2).mean(0), mask.flatten(0, -2).mean(0)
    return Gated(gates, r.shape[-1] ** 2 * (share * load).mean())


class HeadGates(nn.Module):
    """Gates of one attention module: shared heads first, then the routed ones.

    Args:
        dim: Width of the tokens.
        n_heads: Query heads.
        n_shared: Heads that are always on, 0 to all.
        n_chosen: Of the other heads, how many are on; 0 is none.
        from_zero: Begin with equal gates: with all heads on, every gate is 1.
    """

    routed: nn.Linear | None
    shared: nn.Linear | None
    balance: nn.Linear | None

    def __init__(self, dim: int, n_heads: int, n_shared: int, n_chosen: int, from_zero: bool = True) -> None:
        super().__init__()
        self.n_shared, self.n_chosen, n_routed = n_shared, n_chosen, n_heads - n_shared
        # widths of the authors' modules: the shared gate exists for two heads and more, the balance for one
        widths = {
            "routed": n_routed if n_chosen else 0,
            "shared": n_shared if n_shared > 1 else 0,
            "balance": 2 if n_shared and n_chosen else 0,
        }
        for name, width in widths.items():
            setattr(self, name, nn.Linear(dim, width, bias=False) if width else None)
        if from_zero:
            for parameter in self.parameters():
                nn.init.zeros_(parameter)

    def forward(self, x: Float[Tensor, "batch token dim"]) -> Gated:
        """Gates of all heads.

        Args:
            x: What the attention module reads.
        """
        routed = Gated(x.new_zeros(*x.shape[:-1], 0), None)
        if self.routed is not None:
            routed = routed_gates(self.routed(x), self.n_chosen)
        shared = x.new_ones(*x.shape[:-1], self.n_shared).float()
        if self.shared is not None:
            shared = self.n_shared * self.shared(x).float().softmax(-1)
        if self.balance is None:
            return Gated(torch.cat([shared, routed.gates], -1), routed.loss)
        a = 2 * self.balance(x).float().softmax(-1)
        return Gated(torch.cat([a[..., :1] * shared, a[..., 1:] * routed.gates], -1), routed.loss)

    def load_official(self, state: Mapping[str, Tensor]) -> None:
        """Take over weights under the authors' names.

        Args:
            state: Of one attention module; other entries are ignored.
        """
        names = {
            "wg.weight": "routed.weight",
            "wg_1.weight": "shared.weight",
            "wg_0.weight": "balance.weight",
        }
        have = self.state_dict()
        self.load_state_dict({mine: state[theirs] for theirs, mine in names.items() if mine in have})


def norm_gates(
    query: Float[Tensor, "batch token head head_dim"], n_shared: int, n_chosen: int
) -> Float[Tensor, "batch token head"]:
    """Gates of 1 and 0 without parameters: routed heads with the longest queries are on. The form of MoH-LLaMA3.

    Args:
        query: Before rotary embedding.
        n_shared: Heads that are always on.
        n_chosen: Of the other heads, how many are on.
    """
    length = query[:, :, n_shared:].norm(dim=-1)
    score = (length / length.std(-1, keepdim=True)).softmax(-1, dtype=torch.float32)
    mask = torch.zeros_like(score).scatter(-1, score.topk(n_chosen, dim=-1).indices, 1.0)
    return torch.cat([torch.ones_like(query[:, :, :n_shared, 0]).to(mask), mask], -1)


@dataclass(eq=False, repr=False)
class MoH(Adapter):
    """Mixture of heads on the attention of a pre-trained model.

    Args:
        always_on: Share of heads that every token uses, 0 to 1; 0.5 in MoH-LLaMA3.
        active: Share of all heads that are on, `always_on` to 1; 1 with `init="identity"` changes nothing at first.
        form: soft weighs heads with trained gates (vision); norm switches them by query length, without parameters.
        init: identity begins with equal gates; official with random ones.
        balance: Weight of the balance loss; 0 switches it off.
        tower: text, vision or all.
    """

    over_sites: ClassVar[Over] = "mean"
    starts_neutral: ClassVar[bool] = True

    always_on: float = 0.5
    active: float = 1.0
    form: Literal["soft", "norm"] = "soft"
    init: Literal["identity", "official"] = "identity"
    balance: float = 0.01
    tower: Literal["text", "vision", "all"] = "text"

    def check(self) -> None:
        """The shares must be possible."""
        if not 0 <= self.always_on <= self.active <= 1 or not self.active:
            raise BadInput(
                f"always_on={self.always_on}, active={self.active} cannot be. Choose 0 ≤ always_on ≤ active ≤ 1; "
                "MoH-LLaMA3 has 0.5 and 0.75."
            )

    def counts(self, n_heads: int) -> tuple[int, int]:
        """Shared heads, and chosen ones of the others.

        Args:
            n_heads: Query heads.
        """
        n_shared = round(self.always_on * n_heads)
        return n_shared, max(round(self.active * n_heads), n_shared + (n_shared == 0)) - n_shared

    def find(self, host: nn.Module) -> Sequence[Site]:
        """Every attention module of the tower.

        Args:
            host: The model.
        """
        found = [one for one in attentions(host, self.tower) if not one.cross]
        return [
            Site(one.name, one.module, {"dim": _width(one), "n_heads": one.n_heads, "head_dim": one.head_dim})
            for one in found
        ]

    def layer(self, sizes: Sizes) -> nn.Module:
        """The gates of one attention module; none in the norm form.

        Args:
            sizes: dim and n_heads.
        """
        if self.form == "norm":
            return nn.Identity()
        counts = self.counts(sizes["n_heads"])
        return HeadGates(sizes["dim"], sizes["n_heads"], *counts, from_zero=self.init == "identity")

    def wire(self, host: nn.Module, site: Site, layer: Any) -> Iterator[Handle]:
        """Gates are computed when the attention begins and applied before its output projection.

        Args:
            host: The model.
            site: The attention module.
            layer: Its gates.
        """
        one = next(a for a in attentions(host, self.tower) if a.module is site.module)
        held: list[Tensor] = []
        if self.form == "norm":
            yield _query(one).register_forward_hook(
                lambda _, __, q: _keep(held, self._by_norm(q, site.sizes))
            )
        else:
            yield site.module.register_forward_pre_hook(
                lambda _, args, kwargs: _keep(held, self._by_gate(layer, _hidden(args, kwargs), site.name)),
                with_kwargs=True,
            )
        yield one.o_proj.register_forward_pre_hook(lambda _, args: (_scaled(args[0], held[-1]), *args[1:]))

    def _by_gate(self, layer: HeadGates, x: Tensor, site: str) -> Tensor:
        gates, loss = layer.forward(x)
        if loss is not None:
            self.add_loss("balance", loss, self.balance, site)
        return gates

    def _by_norm(self, q: Tensor, sizes: Sizes) -> Tensor:
        heads = torch.unflatten(q[..., : sizes["n_heads"] * sizes["head_dim"]], -1, (sizes["n_heads"], -1))
        return norm_gates(heads, *self.counts(sizes["n_heads"]))


def _keep(held: list[Tensor], gates: Tensor) -> None:
    held[:] = [gates]


def _hidden(args: Sequence[Tensor], kwargs: Mapping[str, Tensor]) -> Tensor:
    return args[0] if args else kwargs["hidden_states"]


def _scaled(x: Tensor, gates: Tensor) -> Tensor:
    heads = x.reshape(*gates.shape, -1)
    return (heads * gates[..., None].to(x.dtype)).reshape(x.shape)


def _width(one: Attention) -> int:
    q = _query(one)
    return int(q.in_features)


def _query(one: Attention) -> Any:
    for name in ("q_proj", "query", "q", "qkv", "query_key_value"):
        if hasattr(one.module, name):
            return getattr(one.module, name)
    raise CannotAttach(
        f"{one.name} has no query projection of a known name. MoH knows q_proj, query, q, and qkv."
    )
