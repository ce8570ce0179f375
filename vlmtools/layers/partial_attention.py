"""Partial attention: a convolution works on some channels of a map and attention on the others.

Reference: arXiv:2503.03148 and arXiv:2502.01303; relative positions: arXiv:2107.14222.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from vlmtools.layers.map_norm import MapNorm


def distance_buckets(height: int, width: int, exact: float = 20.0) -> Int[Tensor, "seq seq"]:
    """Which learned bias a pair of positions gets, by its rounded Euclidean distance.

    Distances up to `exact` have a bias each; from there to eight times as far they are told apart ever more coarsely,
    and all beyond are one. The middle of the table stands for distance 0, as published; its first half is never read.

    Args:
        height: Of the map.
        width: Of the map.
        exact: Distance in positions, above 0.

    Reference: arXiv:2107.14222, eq. 18 and 20
    """
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    place = torch.stack([y.flatten(), x.flatten()], dim=-1).float()
    distance = (place[:, None] - place).square().sum(-1).sqrt().round()
    far = exact + (distance.clamp_min(1) / exact).log() / math.log(8) * exact
    bucket = torch.where(distance <= exact, distance, far.round().clamp_max(2 * exact))
    return bucket.long() + int(2 * exact)


class PartialAttention(nn.Module):
    """A 3 x 3 convolution on the first channels; the rest are weighed by channel or attended.

    Args:
        dim: Channels.
        n_div: One part in `n_div` of the channels is convolved.
        n_heads: Attention heads for the rest; 0 weighs every channel by its mean and spread instead.
        dropout: Chance of dropping an attention weight or an output in training, in [0, 1); 0 drops none.
    """

    def __init__(self, dim: int, n_div: int = 4, n_heads: int = 0, dropout: float = 0.0) -> None:
        super().__init__()
        self.n_convolved = dim // n_div
        rest = dim - self.n_convolved
        self.attends = n_heads > 0
        self.partial_conv3 = nn.Conv2d(self.n_convolved, self.n_convolved, 3, padding=1, bias=False)
        self.attn = _SelfAttention(rest, n_heads, dropout) if n_heads else GaussianChannelAttention(rest)
        self.norm = MapNorm(rest, eps=1e-6) if n_heads else nn.BatchNorm2d(rest)

    def forward(self, x: Float[Tensor, "batch dim height width"]) -> Float[Tensor, "batch dim height width"]:
        """The mixed map.

        Args:
            x: Map.
        """
        first, rest = x[:, : self.n_convolved], x[:, self.n_convolved :]
        seen = self.attn(self.norm(rest)) if self.attends else self.norm(self.attn(rest))
        return torch.cat([self.partial_conv3(first), seen], dim=1)


class GaussianChannelAttention(nn.Module):
    """Weigh each channel by what a learned pair of factors makes of its mean and standard deviation.

    Args:
        dim: Channels.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.cfc1, self.bn = nn.Conv2d(dim, dim, (1, 2), bias=False), nn.BatchNorm2d(dim)

    def forward(self, x: Float[Tensor, "batch dim height width"]) -> Float[Tensor, "batch dim height width"]:
        """The weighed map.

        Args:
            x: Map; of a single position the spread counts as none.
        """
        flat = x.flatten(2)
        # the floor keeps the gradient finite where a channel is constant
        spread = flat.var(-1, correction=min(1, flat.shape[-1] - 1)).clamp_min(1e-12).sqrt()
        both = torch.stack([flat.mean(-1), spread], dim=-1)[:, :, None]
        out: Tensor = x * F.hardsigmoid(self.bn(self.cfc1(both)))
        return out


class PartialSpatialAttention(nn.Module):
    """The first channels are weighed by position, the others go through a 1 x 1 convolution.

    Args:
        dim: Channels.
        share: Part of the channels that is convolved, in (0, 1).
    """

    def __init__(self, dim: int, share: float = 0.5) -> None:
        super().__init__()
        n_convolved = int(share * dim)
        self.n_weighed = dim - n_convolved
        self.conv = nn.Conv2d(n_convolved, n_convolved, 1, bias=False)
        self.conv_attn = nn.Conv2d(self.n_weighed, 1, 1, bias=False)
        self.norm, self.norm2 = nn.BatchNorm2d(self.n_weighed), nn.BatchNorm2d(n_convolved)

    def forward(self, x: Float[Tensor, "batch dim height width"]) -> Float[Tensor, "batch dim height width"]:
        """The mixed map.

        Args:
            x: Map.
        """
        first, rest = x[:, : self.n_weighed], x[:, self.n_weighed :]
        weighed = self.norm(first * F.hardsigmoid(self.conv_attn(first)))
        return torch.cat([weighed, self.conv(self.norm2(rest))], dim=1)


class _SelfAttention(nn.Module):
    """Full attention with a learned bias per head and distance."""

    def __init__(self, dim: int, n_heads: int, dropout: float, exact: float = 20.0) -> None:
        super().__init__()
        self.n_heads, self.dropout, self.exact = n_heads, dropout, exact
        self.qkv, self.proj = nn.Linear(dim, 3 * dim, bias=False), nn.Linear(dim, dim)
        self.bias = nn.Parameter(torch.zeros(n_heads, 4 * int(exact) + 1))

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        q, k, v = (
            self.qkv(x.flatten(2).transpose(1, 2)).unflatten(-1, (3, self.n_heads, -1)).permute(2, 0, 3, 1, 4)
        )
        bias = self.bias[:, distance_buckets(height, width, self.exact).to(x.device)][None]
        dropped = self.dropout if self.training else 0.0
        seen = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, dropout_p=dropped)
        out = F.dropout(self.proj(seen.transpose(1, 2).flatten(2)), dropped)
        return out.transpose(1, 2).reshape(x.shape)
