"""A small pyramid beside a vision transformer: it reads every block's states and gives feature maps at four scales.

Reference: Hierarchical Side-Tuning, arXiv:2310.05393; AFeng-x/HST.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

OFFICIAL_NAMES: tuple[tuple[str, str | None], ...] = (
    (r"m_patch_embed1\.(conv\.\d|norm)\.(.*)", r"stem.\1.\2"),
    (r"m_patch_embed(\d)\.(.*)", r"down.\1.\2"),
    (r"m_block(\d)\.(\d+)\.(.*)", r"blocks.\1.\2.\3"),
    (r"m_norm(\d)\.(.*)", r"norms.\1.\2"),
    (r"T_Bridge_(\d)\.(.*)", r"bridges.\1.\2"),
    (r"m_proj_norm(\d+)\.(.*)", r"meta_norms.\1.\2"),
    (r"fc_norm\.(.*)", r"head_norm.\1"),
    (r"head\.(.*)", r"head.\1"),
)
"""Stages and blocks count from 1 in the official names; here they are keys of module dictionaries, counted the same."""


class _CrossAttention(nn.Module):
    def __init__(self, dim: int, n_heads: int, bias: bool) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.q, self.k, self.v = (nn.Linear(dim, dim, bias=bias) for _ in range(3))
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        parts = (self.q(x), self.k(context), self.v(context))
        q, k, v = (part.unflatten(-1, (self.n_heads, -1)).transpose(1, 2) for part in parts)
        out: Tensor = self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return out


class _Mlp(nn.Module):
    def __init__(self, dim: int, ratio: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(dim, ratio * dim), nn.Linear(ratio * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return out


class SideBlock(nn.Module):
    """Reads the meta tokens of one backbone block, adds its patches, and thinks.

    Args:
        dim: Width.
        n_heads: Attention heads.
        ratio: Hidden width of the MLP in widths.
        bias: Queries, keys and values have a bias.
    """

    def __init__(self, dim: int, n_heads: int, ratio: int = 4, bias: bool = True) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim, eps=1e-6), nn.LayerNorm(dim, eps=1e-6)
        self.attn, self.mlp = _CrossAttention(dim, n_heads, bias), _Mlp(dim, ratio)

    def forward(
        self,
        x: Float[Tensor, "batch cell dim"],
        meta: Float[Tensor, "batch meta dim"],
        patches: Float[Tensor, "batch cell dim"],
    ) -> Float[Tensor, "batch cell dim"]:
        """One step of the side network.

        Args:
            x: Its map.
            meta: What is read by cross-attention.
            patches: What is added.
        """
        x = x + self.attn(self.norm1(x), meta) + patches
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class _Stem(nn.Module):
    """A quarter of the picture's size, and its first features."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(3, dim, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(dim), nn.ReLU(),
            nn.Conv2d(dim, dim, 2, stride=2),
        )  # fmt: skip
        self.norm = nn.LayerNorm(dim)

    def forward(self, pixels: Tensor) -> Tensor:
        return _normed(self.conv(pixels), self.norm)


class _Down(nn.Module):
    """Half the size, more channels."""

    def __init__(self, d_in: int, dim: int) -> None:
        super().__init__()
        self.proj, self.norm = nn.Conv2d(d_in, dim, 3, stride=2, padding=1), nn.LayerNorm(dim)

    def forward(self, feature: Tensor) -> Tensor:
        return _normed(self.proj(feature), self.norm)


def _normed(feature: Tensor, norm: nn.Module) -> Tensor:
    rows = norm(feature.flatten(2).transpose(1, 2))
    out: Tensor = rows.transpose(1, 2).reshape(feature.shape)
    return out


@dataclass(frozen=True, slots=True, eq=False)
class SideFeatures:
    """What the side network made of one batch.

    Args:
        maps: One feature map per stage, at a quarter, an eighth, … of the picture's size.
        pooled: Mean of the last map, normalised over the batch's statistics.
        logits: Class scores; None without a head.
    """

    maps: tuple[Tensor, ...]
    pooled: Tensor
    logits: Tensor | None


class SideNetwork(nn.Module):
    """The side network for one backbone.

    Args:
        d_backbone: Width of the backbone.
        channels: Width of each stage.
        n_heads: Attention heads of each stage.
        depths: Backbone blocks that each stage reads; one side block per backbone block.
        n_classes: Classes of the head; 0 for none.
        bias: As in the backbone's queries, keys and values.
    """

    def __init__(
        self,
        d_backbone: int,
        channels: Sequence[int] = (32, 48, 64, 72),
        n_heads: Sequence[int] = (2, 4, 8, 12),
        depths: Sequence[int] = (3, 3, 3, 3),
        n_classes: int = 0,
        bias: bool = True,
    ) -> None:
        super().__init__()
        stages = list(zip(channels, n_heads, depths, strict=True))
        self.depths = tuple(depths)
        self.stem = _Stem(channels[0])
        self.down = nn.ModuleDict(
            {str(i + 2): _Down(channels[i], channels[i + 1]) for i in range(len(channels) - 1)}
        )
        self.bridges = nn.ModuleDict({str(i + 1): nn.Linear(d_backbone, c) for i, c in enumerate(channels)})
        self.norms = nn.ModuleDict({str(i + 1): nn.LayerNorm(c, eps=1e-6) for i, c in enumerate(channels)})
        self.blocks = nn.ModuleDict({
            str(i + 1): nn.ModuleList(SideBlock(c, heads, bias=bias) for _ in range(depth))
            for i, (c, heads, depth) in enumerate(stages)
        })  # fmt: skip
        widths = [c for c, _, depth in stages for _ in range(depth)]
        self.meta_norms = nn.ModuleDict({str(i + 1): nn.LayerNorm(c) for i, c in enumerate(widths)})
        self.head_norm = nn.BatchNorm1d(channels[-1], eps=1e-6, affine=False) if n_classes else None
        self.head = nn.Linear(channels[-1], n_classes) if n_classes else None

    def forward(
        self,
        pixels: Float[Tensor, "batch 3 height width"],
        states: Sequence[tuple[Tensor, Tensor]],
        grid: tuple[int, int],
    ) -> SideFeatures:
        """Read a picture and what the backbone made of it.

        Args:
            pixels: The picture.
            states: Meta tokens and patches after each backbone block.
            grid: Height and width of the backbone's patches.
        """
        maps: list[Tensor] = []
        start = 0
        for stage, depth in enumerate(self.depths, 1):
            feature = self.down[str(stage)](maps[-1]) if maps else self.stem(pixels)
            maps.append(self._stage(stage, feature, states[start : start + depth], start, grid))
            start += depth
        pooled = maps[-1].mean(dim=(2, 3))
        if self.head is None or self.head_norm is None:
            return SideFeatures(tuple(maps), pooled, None)
        normal = self.head_norm(pooled)
        return SideFeatures(tuple(maps), normal, self.head(normal))

    def _stage(
        self,
        stage: int,
        feature: Tensor,
        states: Sequence[tuple[Tensor, Tensor]],
        start: int,
        grid: tuple[int, int],
    ) -> Tensor:
        bridge, size = self.bridges[str(stage)], feature.shape[2:]
        x = feature.flatten(2).transpose(1, 2)
        blocks: nn.ModuleList = self.blocks[str(stage)]  # type: ignore[assignment]
        for index, (block, (meta, patches)) in enumerate(zip(blocks, states, strict=True), start + 1):
            # bridging before resizing gives the same numbers as the reverse, and is cheaper
            as_map = bridge(patches).transpose(1, 2).unflatten(2, grid)
            resized = (
                F.interpolate(as_map, size=size, mode="bilinear", align_corners=False)
                .flatten(2)
                .transpose(1, 2)
            )
            own = self.meta_norms[str(index)](bridge(meta))
            x = block(x, torch.cat([own, resized.mean(dim=1, keepdim=True)], dim=1), resized)
        out: Tensor = self.norms[str(stage)](x).transpose(1, 2).reshape(feature.shape)
        return out
