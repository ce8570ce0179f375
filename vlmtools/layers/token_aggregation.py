"""Attention among tokens that are alike, wherever they are in the picture."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F


def nearest_centre(
    x: Float[Tensor, "batch token dim"], centres: Float[Tensor, "centre dim"]
) -> Int[Tensor, "batch token"]:
    """Number of the centre with the largest product.

    Args:
        x: Tokens, of length 1.
        centres: Centres, of length 1.
    """
    return (x @ centres.T).argmax(-1)


def moved_centres(
    x: Float[Tensor, "batch token dim"], centres: Float[Tensor, "centre dim"]
) -> Float[Tensor, "centre dim"]:
    """One step of k-means on the sphere: every centre goes to the direction of its tokens; empty ones stay.

    Args:
        x: Tokens of the whole batch, of length 1.
        centres: Centres, of length 1.

    Reference: arXiv:2503.06896
    """
    chosen = F.one_hot(nearest_centre(x, centres), len(centres)).to(x.dtype).flatten(0, 1)
    means = F.normalize(chosen.T @ x.flatten(0, 1), dim=-1)
    return torch.where(chosen.sum(0)[:, None] > 0, means, centres)


class GroupedAttention(nn.Module):
    """Tokens in a given order attend inside groups of neighbours, and to centres.

    Args:
        dim: Channels; must divide by `n_heads`.
        qk_dim: Channels of queries and keys.
        n_heads: Heads.
        group_size: Tokens in a group; keys come from a group and the next one.

    Reference: arXiv:2503.06896
    """

    def __init__(self, dim: int, qk_dim: int, n_heads: int, group_size: int) -> None:
        super().__init__()
        self.n_heads, self.group_size = n_heads, group_size
        self.to_q, self.to_k = (nn.Linear(dim, qk_dim, bias=False) for _ in range(2))
        self.to_v, self.proj = (nn.Linear(dim, dim, bias=False) for _ in range(2))

    def forward(
        self, x: Float[Tensor, "batch token dim"], order: Int[Tensor, "batch token"], k: Tensor, v: Tensor
    ) -> Float[Tensor, "batch token dim"]:
        """The attended tokens, in the order in which they came.

        Args:
            x: Tokens.
            order: Positions of the tokens, first group first.
            k: Keys of the centres, head first.
            v: Values of the centres, head first.
        """
        rows = order[..., None].expand_as(x)
        x = x.gather(1, rows)
        n_tokens = x.shape[1]
        size = min(n_tokens, self.group_size)
        lacking = -n_tokens % size
        q = self._heads(_mirrored(self.to_q(x), lacking).reshape(len(x), -1, size, self.to_q.out_features))
        near = (
            _mirrored(one, lacking + size).unfold(1, 2 * size, size) for one in (self.to_k(x), self.to_v(x))
        )
        own_k, own_v = (self._heads(one.transpose(2, 3)) for one in near)
        seen = F.scaled_dot_product_attention(q, own_k, own_v)
        seen = seen + F.scaled_dot_product_attention(q, _like(k, q), _like(v, q))
        mixed = seen.transpose(2, 3).flatten(3).flatten(1, 2)[:, :n_tokens]
        out: Tensor = self.proj(torch.zeros_like(mixed).scatter(1, rows, mixed))
        return out

    def _heads(self, x: Tensor) -> Tensor:
        return x.reshape(*x.shape[:-1], self.n_heads, -1).transpose(2, 3)


def _like(x: Tensor, q: Tensor) -> Tensor:
    return x.expand(*q.shape[:2], *x.shape)


def _mirrored(x: Tensor, n: int) -> Tensor:
    """The last n tokens again, in reverse."""
    return torch.cat([x, x[:, x.shape[1] - n :].flip(1)], dim=1)


class _CentreKeys(nn.Module):
    def __init__(self, dim: int, qk_dim: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.to_k, self.to_v = nn.Linear(dim, qk_dim, bias=False), nn.Linear(dim, dim, bias=False)

    def forward(self, centres: Tensor) -> tuple[Tensor, Tensor]:
        rows = (self.to_k(centres), self.to_v(centres))
        k, v = (one.unflatten(-1, (self.n_heads, -1)).transpose(0, 1) for one in rows)
        return k, v


class TokenAggregation(nn.Module):
    """Sort tokens by their nearest centre, attend, put them back; residual.

    Centres are kept as a slow mean over training. Tokens of one centre stay in their order: a stable sort.

    Args:
        dim: Channels; must divide by `n_heads`.
        qk_dim: Channels of queries and keys.
        n_heads: Heads.
        n_iter: Steps of k-means for every batch in training, at least 1.
        n_centres: Centres.
        group_size: Tokens in a group.
        decay: Share of the old centres that stays at every training step, in [0, 1].

    Reference: arXiv:2503.06896
    """

    means: Tensor
    initted: Tensor

    def __init__(
        self,
        dim: int,
        qk_dim: int,
        n_heads: int,
        n_iter: int = 3,
        n_centres: int = 8,
        group_size: int = 128,
        decay: float = 0.999,
    ) -> None:
        super().__init__()
        self.n_iter, self.n_centres, self.decay = n_iter, n_centres, decay
        self.norm = nn.LayerNorm(dim)
        self.irca_attn = _CentreKeys(dim, qk_dim, n_heads)
        self.iasa_attn = GroupedAttention(dim, qk_dim, n_heads, group_size)
        self.conv1x1 = nn.Conv2d(dim, dim, 1, bias=False)
        self.register_buffer("means", torch.randn(n_centres, dim))
        self.register_buffer("initted", torch.tensor(False))

    def forward(self, x: Float[Tensor, "batch dim height width"]) -> Float[Tensor, "batch dim height width"]:
        """The map with what was seen added.

        Args:
            x: Map.
        """
        tokens = self.norm(x.flatten(2).transpose(1, 2))
        centres = self._centres(tokens)
        k, v = self.irca_attn(centres)
        with torch.no_grad():
            nearest = nearest_centre(F.normalize(tokens, dim=-1), F.normalize(centres, dim=-1))
            order = nearest.argsort(dim=-1, stable=True)
        seen = self.iasa_attn(tokens, order, k, v).transpose(1, 2).reshape(x.shape)
        if self.training:
            self._remember(centres.detach())
        out: Tensor = x + self.conv1x1(seen)
        return out

    def _centres(self, tokens: Tensor) -> Tensor:
        with torch.no_grad():
            centres = self.means.clone() if self.initted else self._first(tokens)
        if not self.training:
            return centres
        unit = F.normalize(tokens, dim=-1)
        with torch.no_grad():
            for _ in range(self.n_iter - 1):
                centres = moved_centres(unit, F.normalize(centres, dim=-1))
        # the last step passes gradients on to the tokens
        return moved_centres(unit, F.normalize(centres, dim=-1))

    def _first(self, tokens: Tensor) -> Tensor:
        lacking = self.n_centres - tokens.shape[1] % self.n_centres
        runs = _mirrored(tokens, lacking).reshape(len(tokens), self.n_centres, -1, tokens.shape[-1])
        return runs.mean((0, 2))

    @torch.no_grad()
    def _remember(self, centres: Tensor) -> None:
        if self.initted:
            self.means.mul_(self.decay).add_(centres, alpha=1 - self.decay)
        else:
            self.means.copy_(centres)
            self.initted.fill_(True)
