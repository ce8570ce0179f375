"""Sparse mixtures of MLP experts: router, losses, and the experts as grouped matrix products or a loop.

Reference: arXiv:2507.22805 and arXiv:2405.05949 (the same module and losses).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from vlmtools.adapters._host import dense_weight
from vlmtools.errors import BadInput

Activation = Callable[[Tensor], Tensor]
ALIGNMENT = 16
"""Bytes that a row of a grouped matrix product must be a multiple of."""


class Routing(NamedTuple):
    """Which experts each token goes to.

    Args:
        logits: Of the router, in float32.
        probability: Their softmax.
        chosen: The chosen experts, best first.
        weight: Of the chosen ones; adds up to 1.
    """

    logits: Float[Tensor, "batch token expert"]
    probability: Float[Tensor, "batch token expert"]
    chosen: Int[Tensor, "batch token chosen"]
    weight: Float[Tensor, "batch token chosen"]


def route(logits: Float[Tensor, "batch token expert"], n_chosen: int) -> Routing:
    """Choose the most likely experts of each token.

    Args:
        logits: Of the router.
        n_chosen: Experts per token, 1 to all.
    """
    logits = logits.float()
    probability = logits.softmax(-1)
    weight, index = probability.topk(n_chosen, dim=-1)
    return Routing(logits, probability, index, weight / weight.sum(-1, keepdim=True))


def balance_loss(routing: Routing) -> Float[Tensor, ""]:
    """Grows when few experts get most tokens; 1 for a uniform router. Only each token's first choice counts.

    Means are taken within each sample first: a global mean differs when samples are routed differently.

    Args:
        routing: Of one batch.
    """
    n_experts = routing.probability.shape[-1]
    first = F.one_hot(routing.chosen[..., 0], n_experts).to(routing.probability)
    return (routing.probability.mean(1) * first.mean(1)).mean() * n_experts**2


def z_loss(routing: Routing) -> Float[Tensor, ""]:
    """Grows with the size of the router's logits.

    Args:
        routing: Of one batch.
    """
    return routing.logits.logsumexp(-1).square().mean()


class Experts(nn.Module):
    """Several two-layer MLPs of one shape, their weights stacked along the first axis.

    Args:
        n_experts: How many.
        d_in: Width of the input.
        d_hidden: Width between the layers.
        d_out: Width of the output.
        act: Between the layers.
    """

    def __init__(
        self, n_experts: int, d_in: int, d_hidden: int, d_out: int, act: Activation = F.gelu
    ) -> None:
        super().__init__()
        self.act = act
        self.w1, self.b1 = _stacked(n_experts, d_in, d_hidden)
        self.w2, self.b2 = _stacked(n_experts, d_hidden, d_out)

    def forward(self, x: Tensor, routing: Routing, grouped: bool | None = None) -> Tensor:
        """The weighted sum of the chosen experts of each token.

        Args:
            x: (batch, token, d_in).
            routing: Who computes what.
            grouped: True uses grouped matrix products, False a loop; None decides by what the widths allow.
        """
        use = fits_grouped(x, self.w1, self.w2) if grouped is None else grouped
        flat, n_chosen = x.flatten(0, 1), routing.chosen.shape[-1]
        order = routing.chosen.flatten().argsort(stable=True)
        expert = routing.chosen.flatten()[order]
        rows = order // n_chosen
        compute = self._grouped if use else self._loop
        y = compute(flat[rows], expert) * routing.weight.flatten()[order].to(x.dtype)[:, None]
        return torch.zeros_like(y[:1]).expand(len(flat), -1).index_add(0, rows, y).view(*x.shape[:2], -1)

    @torch.no_grad()
    def copy_from(self, first: Any, second: Any) -> None:
        """Every expert begins as the same trained MLP ("co-upcycling").

        Args:
            first: Its first projection.
            second: Its second projection.

        Raises:
            BadInput: It has other widths.
        """
        pairs = ((first, self.w1, self.b1), (second, self.w2, self.b2))
        for linear, w, b in pairs:
            dense = dense_weight(linear).T
            if dense.shape != w.shape[1:]:
                raise BadInput(
                    f"An MLP of widths {tuple(dense.shape)} cannot become experts of widths {tuple(w.shape[1:])}. "
                    "Choose experts of the same widths, or start from scratch."
                )
            w.copy_(dense.expand_as(w))
            b.copy_(torch.zeros_like(b) if linear.bias is None else linear.bias.float().cpu().expand_as(b))

    def _grouped(self, x: Tensor, expert: Tensor) -> Tensor:
        ends = expert.bincount(minlength=len(self.w1)).cumsum(0).to(torch.int32)
        hidden = self.act(F.grouped_mm(x, self.w1, offs=ends) + self.b1[expert])
        return F.grouped_mm(hidden, self.w2, offs=ends) + self.b2[expert]

    def _loop(self, x: Tensor, expert: Tensor) -> Tensor:
        parts = torch.split(x, expert.bincount(minlength=len(self.w1)).tolist())
        hidden = [self.act(part @ w + b) for part, w, b in zip(parts, self.w1, self.b1, strict=True)]
        return torch.cat([part @ w + b for part, w, b in zip(hidden, self.w2, self.b2, strict=True)])


def fits_grouped(x: Tensor, *weights: Tensor) -> bool:
    """Whether torch has grouped matrix products and the widths are multiples of 16 bytes.

    Args:
        x: The tokens.
        weights: Stacked (expert, in, out).
    """
    same = all(one.dtype == x.dtype for one in weights)
    widths = [width for one in weights for width in one.shape[1:]]
    # autocast would cast neither argument of the product
    plain = not torch.is_autocast_enabled(x.device.type)
    aligned = all(width * x.element_size() % ALIGNMENT == 0 for width in widths)
    # the compiler's picture of the product knows bfloat16 only, though it computes with others
    traced = not torch.compiler.is_compiling() or x.dtype == torch.bfloat16
    return hasattr(F, "grouped_mm") and same and plain and aligned and traced


def check_counts(n_experts: int, n_chosen: int) -> None:
    """Refuse impossible counts.

    Args:
        n_experts: In all.
        n_chosen: Per token.

    Raises:
        BadInput: Fewer than one, or more chosen than there are.
    """
    if not 1 <= n_chosen <= n_experts:
        raise BadInput(
            f"n_chosen={n_chosen} of n_experts={n_experts} cannot be. Choose 1 to {max(n_experts, 1)}; MoCHA takes 2 "
            "of 4."
        )


def _stacked(n: int, d_in: int, d_out: int) -> tuple[nn.Parameter, nn.Parameter]:
    layers = [nn.Linear(d_in, d_out) for _ in range(n)]
    weight = torch.stack([layer.weight.detach().T for layer in layers])
    return nn.Parameter(weight.contiguous()), nn.Parameter(
        torch.stack([layer.bias.detach() for layer in layers])
    )


def stack_official(state: dict[str, Tensor], first: str, second: str, prefix: str = "") -> dict[str, Tensor]:
    """The stacked weights, from one module per expert: `experts.<e>.<layer>.weight` (out, in) → `w` (expert, in, out).

    Args:
        state: The authors' state.
        first: Their name of the first layer: 0 in MoCHA, fc1 in CLIP-MoE.
        second: Their name of the second layer: 2 in MoCHA, fc2 in CLIP-MoE.
        prefix: What stands before `experts.`.
    """
    n = len(
        {name.removeprefix(prefix).split(".")[1] for name in state if name.startswith(f"{prefix}experts.")}
    )
    keys = {f"{kind}{i + 1}": (layer, kind) for i, layer in enumerate((first, second)) for kind in "wb"}
    return {name: _one_stack(state, prefix, n, layer, kind) for name, (layer, kind) in keys.items()}


def _one_stack(state: dict[str, Tensor], prefix: str, n: int, layer: str, kind: str) -> Tensor:
    word = "weight" if kind == "w" else "bias"
    tensors = [state[f"{prefix}experts.{e}.{layer}.{word}"] for e in range(n)]
    return torch.stack([one.T if kind == "w" else one for one in tensors]).contiguous()
