"""Dual cross-attention: what matters in the picture looks at all of it, and in training a second picture disturbs.

`rollout`, `local_queries`, `pairwise_attention` and `weighted_loss` are the paper's formulas; its code has not been
published. In a vision-language model, the patches that matter most read the whole picture once more before the
connector (the projection starts at zero), and in training some passes attend over a partner of the batch as well.
The paper has a class loss per branch instead; `weighted_loss` balances such losses.

Reference: CVPR 2022, arXiv:2205.02151.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Self

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from vlmtools.adapters._tower import connector_of, patch_embedding, vision_blocks
from vlmtools.adapters.base import Adapter, Handle, Site, Sizes, attentions
from vlmtools.errors import BadInput, CannotAttach
from vlmtools.families._call import Call
from vlmtools.families._kernel import tap


def rollout(
    before: Float[Tensor, "batch token token"] | None, attention: Float[Tensor, "batch token token"]
) -> Float[Tensor, "batch token token"]:
    """One more layer of attention rollout: half attention, half itself; the latest layer on the left.

    Args:
        before: Of the layers below; None for the first layer.
        attention: Of this layer, averaged over its heads.

    Reference: arXiv:2205.02151, eq. 3.
    """
    step = 0.5 * attention + 0.5 * torch.eye(
        attention.shape[-1], device=attention.device, dtype=attention.dtype
    )
    return step if before is None else step @ before


def local_queries(response: Float[Tensor, "batch patch"], n: int) -> Int[Tensor, "batch n"]:
    """The patches that respond most, the strongest first.

    Args:
        response: Of the class token (or the average) to each patch.
        n: How many.
    """
    return response.topk(n, dim=-1).indices


def global_local_attention(
    q: Float[Tensor, "*batch local dim"],
    k: Float[Tensor, "*batch token dim"],
    v: Float[Tensor, "*batch token dim"],
) -> Float[Tensor, "*batch local dim"]:
    """Chosen queries over all keys.

    Args:
        q: Queries of the chosen tokens.
        k: Keys of all tokens.
        v: Values of all tokens.
    """
    return F.scaled_dot_product_attention(q, k, v)


def pairwise_attention(
    q: Float[Tensor, "*batch token dim"],
    own: tuple[Tensor, Tensor],
    partner: tuple[Tensor, Tensor],
    scale: float | None = None,
) -> Float[Tensor, "*batch token dim"]:
    """Queries of one picture over the keys and values of both.

    Args:
        q: Queries.
        own: Its keys and values.
        partner: Keys and values of the other picture.
        scale: Factor of the scores; None for width^-1/2.
    """
    k, v = (torch.cat(both, dim=-2) for both in zip(own, partner, strict=True))
    return F.scaled_dot_product_attention(q, k, v, scale=scale)


def weighted_loss(
    losses: Float[Tensor, " branch"], log_variance: Float[Tensor, " branch"]
) -> Float[Tensor, ""]:
    """Losses balanced by learned uncertainty.

    Args:
        losses: One per branch.
        log_variance: Learned; zeros give half the sum.
    """
    return 0.5 * ((-log_variance).exp() * losses + log_variance).sum()


class _LocalReader(nn.Module):
    """Global-local cross-attention, with weights of its own."""

    def __init__(self, dim: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.norm = nn.LayerNorm(dim)
        self.q, self.k, self.v, self.out = (nn.Linear(dim, dim) for _ in range(4))
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor, chosen: Tensor) -> Tensor:
        """Every token; the chosen ones have read all others."""
        index = chosen[..., None].expand(*chosen.shape, x.shape[-1])
        normal = self.norm(x)
        q, k, v = self.q(normal.gather(1, index)), self.k(normal), self.v(normal)
        heads = (part.unflatten(-1, (self.n_heads, -1)).transpose(1, 2) for part in (q, k, v))
        read = self.out(global_local_attention(*heads).transpose(1, 2).flatten(2))
        return x.scatter_add(1, index, read)


@dataclass(slots=True, eq=False)
class _Pass:
    """What one pass of the tower has shown so far."""

    grid: tuple[int, int] = (0, 0)
    rolled: Tensor | None = None
    in_pairs: bool = False
    calls: dict[int, Call] = field(default_factory=dict)


@dataclass(eq=False, repr=False)
class Dcal(Adapter):
    """Global-local attention before the connector, pair-wise attention inside the tower in training.

    Args:
        share: Share of patches that read once more, in (0, 1]; the paper has 0.1 for fine classes, 0.3 for re-id.
        pairs: Chance of a training pass in pairs, 0 to 1; 0 never, and evaluation never.
        n_heads: Attention heads of the reader; 0 takes the tower's.
    """

    starts_neutral = True

    share: float = 0.1
    pairs: float = 0.5
    n_heads: int = 0

    def __post_init__(self) -> None:
        """Nothing seen yet."""
        super().__post_init__()
        self.seen = _Pass()

    def check(self) -> None:
        """Shares are shares."""
        if not (0 < self.share <= 1 and 0 <= self.pairs <= 1):
            raise BadInput(f"share={self.share} lies in (0, 1] and pairs={self.pairs} in [0, 1].")

    def find(self, host: nn.Module) -> Sequence[Site]:
        """The connector; the tower is watched."""
        connector = connector_of(host)
        if connector is None:
            raise CannotAttach(
                f"{type(host).__name__} has no connector under a known name. The functions of this file work on "
                "attention maps, queries, keys and values of any tower."
            )
        blocks = vision_blocks(host)
        patch_embedding(host, blocks)
        name = next(str(path) for path, one in host.named_modules() if one is connector)
        n_heads = self.n_heads or attentions(host, "vision")[0].n_heads
        return [Site(name, connector, {"dim": blocks[0].dim, "n_heads": n_heads})]

    def layer(self, sizes: Sizes) -> nn.Module:
        """The reader."""
        return _LocalReader(sizes["dim"], sizes["n_heads"])

    def wire(self, host: Any, site: Site, layer: _LocalReader) -> Iterator[Handle]:
        """Watch every attention of the tower, read before the connector."""

        def begins(_: nn.Module, __: Any, output: Tensor) -> None:
            drawn = self.training and self.pairs > 0 and float(torch.rand(())) < self.pairs
            self.seen = _Pass((output.shape[2], output.shape[3]), in_pairs=drawn and len(output) > 1)

        def read(_: nn.Module, args: Any) -> Any:
            x = args[0]
            return (self._read(x, layer), *args[1:]) if self.seen.rolled is not None else args

        yield patch_embedding(host, vision_blocks(host)).register_forward_hook(begins)
        tower = host.get_encoder(modality="image")
        for one in attentions(host, "vision"):
            yield tap(tower, one.module, partial(self._watch, one.layer))
            yield one.o_proj.register_forward_pre_hook(partial(self._paired, one.layer))
        yield site.module.register_forward_pre_hook(read)

    def _watch(self, index: int, call: Call) -> None:
        if self.seen.in_pairs:
            self.seen.calls[index] = call
        if index == 0 or self.seen.rolled is not None:
            with torch.no_grad():
                scale = call.options.get("scaling") or call.query.shape[-1] ** -0.5
                scores = call.query.float() @ call.key.float().transpose(-1, -2) * scale
                before = None if index == 0 else self.seen.rolled
                self.seen.rolled = rollout(before, scores.softmax(dim=-1).mean(dim=1))

    def _paired(self, index: int, _: nn.Module, args: Any) -> Any:
        call = self.seen.calls.pop(index, None)
        if call is None:
            return args
        partner = call.key.roll(1, dims=0), call.value.roll(1, dims=0)
        mixed = pairwise_attention(call.query, (call.key, call.value), partner, call.options.get("scaling"))
        return (mixed.transpose(1, 2).reshape(args[0].shape), *args[1:])

    def _read(self, x: Tensor, layer: _LocalReader) -> Tensor:
        rolled = self.seen.rolled
        assert rolled is not None  # noqa: S101 - asked before
        n_patches = self.seen.grid[0] * self.seen.grid[1]
        n_first = rolled.shape[-1] - n_patches
        response = rolled[:, 0] if n_first else rolled.mean(dim=1)
        kept = x.shape[-2] - n_patches
        if x.dim() != 3 or kept < 0 or len(x) != len(rolled):
            raise BadInput(
                f"The connector gets features of shape {tuple(x.shape)} for {n_patches} patches: this host rearranges "
                "patches before its connector, which this adapter cannot follow."
            )
        chosen = local_queries(response[:, n_first:], max(1, int(self.share * n_patches))) + kept
        read: Tensor = layer(x, chosen)
        return read

    @classmethod
    def tiny(cls) -> Self:
        """A third of the patches."""
        return cls(share=0.34)
