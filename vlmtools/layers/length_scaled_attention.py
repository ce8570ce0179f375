"""Full cosine attention whose sharpness follows the number of tokens."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F


class LengthScaledAttention(nn.Module):
    """Cosine attention with a learned query offset, scaled by the logarithm of the length.

    Args:
        dim: Channels; must divide by `n_heads`.
        n_heads: Heads.
        qkv_bias: Biases in the projections.
        gates: Gives a weight per token and head from the tokens; None weighs all heads alike.

    Reference: arXiv:2311.17132
    """

    def __init__(self, dim: int, n_heads: int, qkv_bias: bool = True, gates: nn.Module | None = None) -> None:
        super().__init__()
        self.n_heads, width = n_heads, dim // n_heads
        self.gates = gates
        self.temperature = nn.Parameter(torch.log(torch.exp(torch.full((n_heads, 1, 1), 1 / 0.24)) - 1.0))
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.query_embedding = nn.Parameter(nn.init.trunc_normal_(torch.empty(n_heads, 1, width), std=0.02))
        self.proj = nn.Linear(dim, dim)
        self.cpb_fc1, self.cpb_fc2 = nn.Linear(2, 512), nn.Linear(512, n_heads)

    def forward(
        self,
        x: Float[Tensor, "batch height width dim"],
        index: Int[Tensor, " pairs"],
        table: Float[Tensor, "distinct 2"],
    ) -> Float[Tensor, "batch height width dim"]:
        """The attended map.

        Args:
            x: Map, channels last.
            index: Row of `table` for each pair of query and key.
            table: Distinct relative positions.
        """
        batch, height, width, _ = x.shape
        n_tokens = height * width
        qkv = self.qkv(x.flatten(1, 2)).reshape(batch, n_tokens, 3 * self.n_heads, -1).transpose(1, 2)
        q, k, v = qkv.chunk(3, dim=1)
        bias = (
            self.cpb_fc2(F.relu(self.cpb_fc1(table.to(x.dtype)))).T[:, index].reshape(-1, n_tokens, n_tokens)
        )
        scale = F.softplus(self.temperature) * math.log(n_tokens)
        q = (F.normalize(q, dim=-1) + self.query_embedding) * scale
        weights = (q @ F.normalize(k, dim=-1).transpose(-2, -1) + bias).softmax(-1)
        heads = (weights @ v).transpose(1, 2)
        if self.gates is not None:
            heads = heads * self.gates(x.flatten(1, 2)).unsqueeze(-1)
        out: Tensor = self.proj(heads.reshape(x.shape))
        return out
