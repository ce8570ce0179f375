"""Attention across scales inside each region of a picture, then across regions."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F


def region_index(side: int, n_regions: int = 7, by_column: bool = False) -> Int[Tensor, "region token"]:
    """Which positions of a map belong to each region, regions row by row.

    Args:
        side: Side of the map; must divide by `n_regions`.
        n_regions: Regions along each side.
        by_column: List the positions of a region column by column, as published for the 14 x 14 map.
    """
    step = side // n_regions
    cut = torch.arange(side**2).reshape(n_regions, step, n_regions, step).permute(0, 2, 1, 3)
    if by_column:
        cut = cut.transpose(2, 3)
    return cut.reshape(n_regions**2, step**2)


def region_tokens(
    x: Float[Tensor, "batch dim height width"], step: int, by_column: bool = False
) -> Float[Tensor, "batch region token dim"]:
    """The positions of a map, region by region in the order of `region_index`; the map need not be square.

    Args:
        x: Map whose sides divide by `step`.
        step: Side of a region in positions.
        by_column: List the positions of a region column by column, as published for the 14 x 14 map.
    """
    batch, dim, height, width = x.shape
    cut = x.reshape(batch, dim, height // step, step, width // step, step).permute(0, 2, 4, 3, 5, 1)
    if by_column:
        cut = cut.transpose(3, 4)
    return cut.flatten(3, 4).flatten(1, 2)


class ScaleAttention(nn.Module):
    """Self-attention among the tokens of one region; regions do not see each other.

    Args:
        dim: Channels; must divide by `n_heads`.
        n_heads: Heads.
        scale: Of the scores; None for one over the root of the channels of a head.

    Reference: arXiv:2506.12982
    """

    def __init__(self, dim: int, n_heads: int, scale: float | None = None) -> None:
        super().__init__()
        self.n_heads, self.scale = n_heads, scale
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)

    def forward(self, x: Float[Tensor, "*batch token dim"]) -> Float[Tensor, "*batch token dim"]:
        """The attended tokens.

        Args:
            x: Tokens of every region.
        """
        q, k, v = self.qkv(x).reshape(*x.shape[:-1], 3, self.n_heads, -1).movedim((-3, -2), (0, -3))
        seen = F.scaled_dot_product_attention(q, k, v, scale=self.scale).transpose(-3, -2)
        out: Tensor = self.proj(seen.reshape(x.shape))
        return out


class ScaleBlock(nn.Module):
    """Attention inside regions and a feed-forward part, both residual.

    Args:
        dim: Channels.
        n_heads: Heads.
        mlp_ratio: Widening of the feed-forward part.
        start: First factor of both branches; None does without factors.
        eps: Of the norms.

    Reference: arXiv:2506.12982
    """

    def __init__(
        self, dim: int, n_heads: int, mlp_ratio: float = 4.0, start: float | None = 1e-5, eps: float = 1e-5
    ) -> None:
        super().__init__()
        hidden = int(dim * mlp_ratio)
        self.norm1, self.norm2 = nn.LayerNorm(dim, eps=eps), nn.LayerNorm(dim, eps=eps)
        self.attn = ScaleAttention(dim, n_heads)
        self.mlp = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim))
        self.gamma1 = None if start is None else nn.Parameter(torch.full((dim,), start))
        self.gamma2 = None if start is None else nn.Parameter(torch.full((dim,), start))

    def forward(self, x: Float[Tensor, "batch region token dim"]) -> Float[Tensor, "batch region token dim"]:
        """The tokens after both branches.

        Args:
            x: Tokens of every region.
        """
        seen = self.attn(self.norm1(x))
        x = x + (seen if self.gamma1 is None else self.gamma1 * seen)
        fed = self.mlp(self.norm2(x))
        out: Tensor = x + (fed if self.gamma2 is None else self.gamma2 * fed)
        return out


class ScaleThenRegionAttention(nn.Module):
    """Two attentions: among the scales of a region, and among the regions with a class token.

    Args:
        dim: Channels; must divide by `n_heads`.
        n_heads: Heads.

    Reference: arXiv:2506.12982
    """

    def __init__(self, dim: int, n_heads: int) -> None:
        super().__init__()
        # the published scale: twice one over the root of all channels, not of those of a head
        self.region = ScaleAttention(dim, n_heads, 2 * dim**-0.5)
        self.scale = ScaleAttention(dim, n_heads, 2 * dim**-0.5)

    def across_scales(
        self, x: Float[Tensor, "batch region token dim"]
    ) -> Float[Tensor, "batch region token dim"]:
        """Every region by itself.

        Args:
            x: Tokens of every region.
        """
        out: Tensor = self.scale(x)
        return out

    def across_regions(
        self,
        x: Float[Tensor, "batch region token dim"],
        class_token: Float[Tensor, "batch 1 dim"],
        position: Float[Tensor, "1 regions_and_one dim"],
    ) -> Float[Tensor, "batch regions_and_one dim"]:
        """The first token of every region, the class token in front.

        Args:
            x: Tokens of every region.
            class_token: One token for the picture.
            position: Position embeddings of class token and regions.
        """
        out: Tensor = self.region(torch.cat([class_token, x[:, :, 0]], dim=1) + position)
        return out


class ScaleThenRegionBlock(nn.Module):
    """Attention among the scales of every region and a feed-forward part, scaled and residual.

    What its `attn.across_regions` gives is used as it is, without residual, once all blocks have run.

    Args:
        dim: Channels.
        n_heads: Heads.
        mlp_ratio: Widening of the feed-forward part.
        start: First factor of both branches.

    Reference: arXiv:2506.12982
    """

    def __init__(self, dim: int, n_heads: int, mlp_ratio: float = 4.0, start: float = 1e-5) -> None:
        super().__init__()
        hidden = int(dim * mlp_ratio)
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attn = ScaleThenRegionAttention(dim, n_heads)
        self.mlp = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim))
        self.gamma1, self.gamma2 = (nn.Parameter(torch.full((dim,), start)) for _ in range(2))

    def forward(self, x: Float[Tensor, "batch region token dim"]) -> Float[Tensor, "batch region token dim"]:
        """The tokens after both branches.

        Args:
            x: Tokens of every region.
        """
        x = x + self.gamma1 * self.attn.across_scales(self.norm1(x))
        out: Tensor = x + self.gamma2 * self.mlp(self.norm2(x))
        return out
