"""Aggregated attention: each token looks at its near neighbours in detail and at the whole picture coarsely."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F


class Geometry(NamedTuple):
    """Where queries and pooled keys lie; the same for all blocks of a stage.

    Args:
        pairs: Row of `table` for each pair of query and pooled key.
        table: Distinct relative positions, scaled to the training size and compressed by a logarithm.
        outside: True where a neighbour of a query lies outside the map.
        pooled: Height and width of the pooled map.
    """

    pairs: Int[Tensor, " n_pairs"]
    table: Float[Tensor, "distinct 2"]
    outside: Bool[Tensor, "query neighbour"]
    pooled: tuple[int, int]


def geometry(
    size: tuple[int, int], pooled: tuple[int, int], trained: tuple[int, int], window: int = 3
) -> Geometry:
    """Relative positions of queries and pooled keys, and which neighbours exist.

    Args:
        size: Height and width of the map.
        pooled: Height and width of the pooled map; `size` itself for full attention.
        trained: Height and width of the map at the size of pre-training, at least 2.
        window: Side of the neighbourhood, odd.

    Reference: arXiv:2311.17132
    """
    with torch.device("cpu"), torch.no_grad():
        axes = [_relative(n, p, t) for n, p, t in zip(size, pooled, trained, strict=True)]
        rows, columns = axes[0][:, None, :, None], axes[1][None, :, None, :]
        shape = (*size, *pooled)
        pairs = torch.stack([rows.expand(shape), columns.expand(shape)], dim=-1).reshape(-1, 2)
        table, index = torch.unique(pairs, return_inverse=True, dim=0)
        table = table.sign() * torch.log2(table.abs() + 1.0) / torch.log2(torch.tensor(8.0))
        inside = F.unfold(torch.ones(1, 1, *size), window, padding=window // 2)
    return Geometry(index.reshape(-1), table, inside[0].T == 0, pooled)


class AggregatedAttention(nn.Module):
    """Cosine attention over a small window and a pooled map under one softmax.

    Args:
        dim: Channels; must divide by `n_heads`.
        n_heads: Heads.
        window: Side of the neighbourhood, odd.
        qkv_bias: Biases in the projections.
        gates: Gives a weight per token and head from the tokens; None weighs all heads alike.

    Reference: arXiv:2311.17132
    """

    def __init__(
        self, dim: int, n_heads: int, window: int = 3, qkv_bias: bool = True, gates: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.n_heads, self.window, width = n_heads, window, dim // n_heads
        self.gates = gates
        self.temperature = nn.Parameter(torch.log(torch.exp(torch.full((n_heads, 1, 1), 1 / 0.24)) - 1.0))
        self.q = nn.Linear(dim, dim, bias=qkv_bias)
        self.query_embedding = nn.Parameter(nn.init.trunc_normal_(torch.empty(n_heads, 1, width), std=0.02))
        self.kv = nn.Linear(dim, 2 * dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)
        self.sr = nn.Conv2d(dim, dim, 1)
        self.norm = nn.LayerNorm(dim)
        self.act = nn.GELU()
        self.cpb_fc1, self.cpb_fc2 = nn.Linear(2, 512), nn.Linear(512, n_heads)
        self.relative_pos_bias_local = nn.Parameter(
            nn.init.trunc_normal_(torch.empty(n_heads, window**2), std=0.0004)
        )
        self.learnable_tokens = nn.Parameter(
            nn.init.trunc_normal_(torch.empty(n_heads, width, window**2), std=0.02)
        )
        self.learnable_bias = nn.Parameter(torch.zeros(n_heads, 1, window**2))

    def forward(
        self, x: Float[Tensor, "batch height width dim"], where: Geometry
    ) -> Float[Tensor, "batch height width dim"]:
        """The attended map.

        Args:
            x: Map, channels last.
            where: Its geometry.
        """
        batch, height, width, dim = x.shape
        tokens = x.flatten(1, 2)
        length = (~where.outside).sum(1, keepdim=True) + where.pooled[0] * where.pooled[1]
        q = F.normalize(_heads(self.q(tokens), self.n_heads), dim=-1)
        scaled = (q + self.query_embedding) * F.softplus(self.temperature) * length.log().to(q.dtype)
        k_near, v_near = self._near(tokens, height, width)
        k_far, v_far = _heads(self.kv(self._pooled(x, where.pooled)), 2 * self.n_heads).chunk(2, dim=1)
        near = torch.einsum("bhnd,bhdkn->bhnk", scaled, k_near) + self.relative_pos_bias_local.unsqueeze(1)
        far = scaled @ F.normalize(k_far, dim=-1).transpose(-2, -1) + self._bias(where, height * width)
        weights = torch.cat([near.masked_fill(where.outside, float("-inf")), far], dim=-1).softmax(-1)
        near, far = weights[..., : self.window**2], weights[..., self.window**2 :]
        near = q @ self.learnable_tokens + self.learnable_bias + near
        heads = (torch.einsum("bhnk,bhdkn->bhnd", near, v_near) + far @ v_far).transpose(1, 2)
        if self.gates is not None:
            heads = heads * self.gates(tokens).unsqueeze(-1)
        out: Tensor = self.proj(heads.reshape(batch, height, width, dim))
        return out

    def _near(self, tokens: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
        """Keys and values of the neighbours of every token: (batch, head, width of a head, neighbour, token)."""
        batch, n_tokens, dim = tokens.shape
        keys, values = self.kv(tokens).chunk(2, dim=-1)
        keys = F.normalize(keys.reshape(batch, n_tokens, self.n_heads, -1), dim=-1).flatten(2)
        both = torch.cat([keys, values], dim=-1).transpose(1, 2).reshape(batch, 2 * dim, height, width)
        spread = F.unfold(both, self.window, padding=self.window // 2)
        k, v = spread.reshape(batch, 2 * self.n_heads, -1, self.window**2, n_tokens).chunk(2, dim=1)
        return k, v

    def _pooled(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        small = F.adaptive_avg_pool2d(self.act(self.sr(x.permute(0, 3, 1, 2))), size)
        out: Tensor = self.norm(small.flatten(2).transpose(1, 2))
        return out

    def _bias(self, where: Geometry, n_queries: int) -> Tensor:
        table = self.cpb_fc2(F.relu(self.cpb_fc1(where.table.to(self.proj.weight.dtype))))
        bias: Tensor = table.T[:, where.pairs].reshape(self.n_heads, n_queries, -1)
        return bias


def _relative(n_queries: int, n_keys: int, n_trained: int) -> Tensor:
    queries = torch.arange(n_queries, dtype=torch.float32)
    keys = F.adaptive_avg_pool1d(queries[None], n_keys)[0]
    return (queries[:, None] - keys[None, :]) / (n_trained - 1) * 8


def _heads(tokens: Tensor, n_heads: int) -> Tensor:
    batch, n_tokens, _ = tokens.shape
    return tokens.reshape(batch, n_tokens, n_heads, -1).transpose(1, 2)
