"""Attention with one head on a part of the channels; the others pass by."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from vlmtools.layers.conv_norm import ConvNorm


class SingleHeadAttention(nn.Module):
    """The first channels attend, then all channels are mixed.

    Args:
        dim: Channels.
        qk_dim: Channels of queries and keys.
        partial_dim: Channels that attend, at most `dim`.

    Reference: arXiv:2401.16456
    """

    def __init__(self, dim: int, qk_dim: int, partial_dim: int) -> None:
        super().__init__()
        self.sizes = [qk_dim, qk_dim, partial_dim]
        self.pre_norm = nn.GroupNorm(1, partial_dim)
        self.qkv = ConvNorm(partial_dim, sum(self.sizes))
        self.proj = nn.Sequential(nn.ReLU(), ConvNorm(dim, dim, start=0.0))

    def forward(self, x: Float[Tensor, "batch dim height width"]) -> Float[Tensor, "batch dim height width"]:
        """The mixed map.

        Args:
            x: Map.
        """
        attending, passing = torch.split(x, [self.sizes[-1], x.shape[1] - self.sizes[-1]], dim=1)
        rows = self.qkv(self.pre_norm(attending)).flatten(2).transpose(1, 2)
        q, k, v = rows.split(self.sizes, dim=-1)
        seen = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(attending.shape)
        out: Tensor = self.proj(torch.cat([seen, passing], dim=1))
        return out
