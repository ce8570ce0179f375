"""NAT and DiNAT: attention to the nearest tokens, dilated in every other block."""

from collections.abc import Sequence
from types import MappingProxyType
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vlmtools.backbones._checkpoint import Rule
from vlmtools.backbones._init import small_normal
from vlmtools.backbones.base import Backbone, Variant, drop_rates, linear_head, sized
from vlmtools.layers.drop_path import DropPath
from vlmtools.layers.feed_forward import FeedForward
from vlmtools.layers.map_norm import MapNorm
from vlmtools.layers.neighborhood_attention import NeighborhoodAttention


def _alternating(depths: Sequence[int], far: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    rows = zip(depths, far, strict=True)
    return tuple(tuple(step if block % 2 else 1 for block in range(depth)) for depth, step in rows)


_DEPTHS = (3, 4, 18, 5)
_NAT = Variant(
    MappingProxyType({"depths": (3, 4, 6, 5)}),
    params=19_984_174,
    top1=81.8,
    licence="MIT",
    source="SHI-Labs/Neighborhood-Attention-Transformer",
)
_WIDTHS: dict[str, dict[str, Any]] = {
    "mini": {"depths": (3, 4, 6, 5)},
    "tiny": {"depths": _DEPTHS},
    "small": {"depths": _DEPTHS, "embed_dim": 96, "num_heads": (3, 6, 12, 24), "mlp_ratio": 2},
    "base": {
        "depths": _DEPTHS,
        "embed_dim": 128,
        "num_heads": (4, 8, 16, 32),
        "mlp_ratio": 2,
        "layer_scale": 1e-5,
    },
    "large": {"depths": _DEPTHS, "embed_dim": 192, "num_heads": (6, 12, 24, 48), "mlp_ratio": 2},
}


def _nat(name: str, params: int, top1: float, far: Sequence[int] | None = None, **more: Any) -> Variant:
    args = {**_WIDTHS[name], **more.pop("args", {})}
    if far is not None:
        args["dilations"] = _alternating(args["depths"], far)
    return sized(_NAT, args=args, params=params, top1=top1, **more)


def _swin_like(
    width: int,
    heads: int,
    depth: int,
    params: int,
    top1: float | None = None,
    far: Sequence[int] = (8, 4, 2, 1),
) -> Variant:
    depths = (2, 2, depth, 2)
    args = {
        "layout": "swin", "embed_dim": width, "depths": depths, "mlp_ratio": 4.0,
        "num_heads": tuple(heads * 2**stage for stage in range(4)), "dilations": _alternating(depths, far),
    }  # fmt: skip
    return sized(_NAT, args=args, params=params, top1=top1)


_FAR, _FAR_384 = (8, 4, 2, 1), (13, 6, 3, 1)
_LARGE = "top-1 after training on ImageNet-22k"


class NAT(Backbone):
    """Neighborhood attention transformer; with `dilations` it is DiNAT.

    Args:
        embed_dim: Width of the first stage; doubles with each stage.
        mlp_ratio: Widening of the feed-forward part.
        depths: Blocks per stage.
        num_heads: Heads per stage.
        drop_path_rate: Highest chance of skipping a block in training, in [0, 1); 0 skips none.
        in_chans: Channels of the images.
        kernel_size: Side of the neighbourhood, odd.
        dilations: Step between neighbours for every block of every stage; None for 1 everywhere.
        num_classes: Outputs; 0 for none.
        qkv_bias: Biases in the projections.
        layer_scale: Where factors per channel on every branch start; None for none.
        layout: "nat" for overlapping convolutions between stages, "swin" for patches as in Swin (DiNAT_s).

    Reference: arXiv:2204.07143, arXiv:2209.15001
    """

    variants = MappingProxyType(
        {
            "nat_mini": _NAT,
            "nat_tiny": _nat("tiny", 27_901_582, 83.2),
            "nat_small": _nat("small", 50_743_297, 83.7, args={"layer_scale": 1e-5}),
            "nat_base": _nat("base", 89_769_652, 84.3),
            "dinat_mini": _nat("mini", 19_984_174, 81.8, _FAR),
            "dinat_tiny": _nat("tiny", 27_901_582, 82.7, _FAR),
            "dinat_small": _nat("small", 50_719_681, 83.8, _FAR),
            "dinat_base": _nat("base", 89_769_652, 84.4, _FAR),
            "dinat_large": _nat("large", 200_943_514, 86.6, _FAR, note=_LARGE),
            "dinat_large_384": sized(_nat("large", 200_943_514, 87.4, _FAR_384), size=384, note=_LARGE),
            "dinat_s_tiny": _swin_like(96, 3, 6, 28_288_354, 81.8),
            "dinat_s_small": _swin_like(96, 3, 18, 49_606_258, 83.5),
            "dinat_s_base": _swin_like(128, 4, 18, 87_768_224, 83.8),
            "dinat_s_large": sized(_swin_like(192, 6, 18, 196_532_476, 86.5), note=_LARGE),
            "dinat_s_large_384": sized(
                _swin_like(192, 6, 18, 196_532_476, 87.4, _FAR_384), size=384, note=_LARGE
            ),
        }
    )
    stated_in = "NAT.md and DiNAT.md of SHI-Labs/Neighborhood-Attention-Transformer at d334f5b"
    stated_gmac = MappingProxyType(
        {
            "nat_mini": 2.7,
            "nat_tiny": 4.3,
            "nat_small": 7.8,
            "nat_base": 13.7,
            "dinat_mini": 2.7,
            "dinat_tiny": 4.3,
            "dinat_small": 7.8,
            "dinat_base": 13.7,
            "dinat_large": 30.6,
            "dinat_large_384": 89.7,
            "dinat_s_tiny": 4.5,
            "dinat_s_small": 8.7,
            "dinat_s_base": 15.4,
            "dinat_s_large": 34.5,
            "dinat_s_large_384": 101.5,
        }
    )
    renames: ClassVar[Sequence[Rule]] = (
        (r"^patch_embed\.", "stem."),
        # the authors merge at the end of a stage, here at the start of the next
        (r"^(?:levels|layers)\.(\d+)\.downsample\.", lambda m: f"stages.{int(m[1]) + 1}.merge."),
        (r"^(?:levels|layers)\.", "stages."),
    )
    tiny_sizes = (64, 80)

    def __init__(
        self,
        embed_dim: int = 64,
        mlp_ratio: float = 3.0,
        depths: Sequence[int] = (3, 4, 6, 5),
        num_heads: Sequence[int] = (2, 4, 8, 16),
        drop_path_rate: float = 0.0,
        in_chans: int = 3,
        kernel_size: int = 7,
        dilations: Sequence[Sequence[int]] | None = None,
        num_classes: int = 1000,
        qkv_bias: bool = True,
        layer_scale: float | None = None,
        layout: str = "nat",
    ) -> None:
        widths = [embed_dim * 2**stage for stage in range(len(depths))]
        super().__init__(widths, [4 * 2**stage for stage in range(len(depths))], num_classes)
        rates = drop_rates(drop_path_rate, depths)
        swin = layout == "swin"
        self.stem = _PatchStem(in_chans, embed_dim) if swin else _ConvStem(in_chans, embed_dim)
        self.stages = nn.ModuleList()
        for stage, dim in enumerate(widths):
            steps = dilations[stage] if dilations else [1] * depths[stage]
            blocks = [
                _Block(
                    dim,
                    NeighborhoodAttention(dim, num_heads[stage], kernel_size, step, qkv_bias),
                    int(dim * mlp_ratio),
                    rate,
                    layer_scale,
                )
                for step, rate in zip(steps, rates[stage], strict=True)
            ]
            merge: nn.Module = nn.Identity()
            if stage:
                merge = _PatchMerge(widths[stage - 1], dim) if swin else _ConvMerge(widths[stage - 1], dim)
            self.stages.append(_Stage(merge, blocks))
        self.norm = MapNorm(self.num_features)
        self.head = linear_head(self.num_features, num_classes)
        self.apply(small_normal)

    @classmethod
    def tiny(cls, **changes: Any) -> Self:
        """Four stages, dilated.

        Args:
            changes: Constructor arguments that differ from the tiny ones.
        """
        small: dict[str, Any] = {
            "embed_dim": 16, "mlp_ratio": 2.0, "depths": (2, 1, 2, 1), "num_heads": (2, 2, 4, 4), "kernel_size": 3,
            "dilations": ((1, 4), (2,), (1, 1), (1,)), "num_classes": 10,
        }  # fmt: skip
        return cls(**{**small, **changes})


class _ConvStem(nn.Module):
    def __init__(self, in_chans: int, dim: int) -> None:
        super().__init__()
        self.proj = nn.Sequential(nn.Conv2d(in_chans, dim // 2, 3, 2, 1), nn.Conv2d(dim // 2, dim, 3, 2, 1))
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.norm(self.proj(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return out


class _PatchStem(nn.Module):
    def __init__(self, in_chans: int, dim: int) -> None:
        super().__init__()
        self.proj, self.norm = nn.Conv2d(in_chans, dim, 4, 4), nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        x = F.pad(x, (0, -x.shape[-1] % 4, 0, -x.shape[-2] % 4))
        out: Tensor = self.norm(self.proj(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return out


class _ConvMerge(nn.Module):
    def __init__(self, dim_in: int, dim: int) -> None:
        super().__init__()
        self.reduction, self.norm = nn.Conv2d(dim_in, dim, 3, 2, 1, bias=False), nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.norm(self.reduction(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return out


class _PatchMerge(nn.Module):
    def __init__(self, dim_in: int, dim: int) -> None:
        super().__init__()
        self.reduction, self.norm = nn.Linear(4 * dim_in, dim, bias=False), nn.LayerNorm(4 * dim_in)

    def forward(self, x: Tensor) -> Tensor:
        x = F.pad(x, (0, x.shape[-1] % 2, 0, x.shape[-2] % 2)).permute(0, 2, 3, 1)
        # rows change first: (0, 0), (1, 0), (0, 1), (1, 1)
        four = torch.cat([x[:, row::2, column::2] for column in (0, 1) for row in (0, 1)], dim=-1)
        out: Tensor = self.reduction(self.norm(four)).permute(0, 3, 1, 2)
        return out


class _Stage(nn.Module):
    def __init__(self, merge: nn.Module, blocks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.merge, self.blocks = merge, nn.ModuleList(blocks)

    def forward(self, x: Tensor) -> Tensor:
        x = self.merge(x).permute(0, 2, 3, 1)
        for block in self.blocks:
            x = block(x)
        return x.permute(0, 3, 1, 2).contiguous()


class _Block(nn.Module):
    def __init__(self, dim: int, mixer: nn.Module, hidden: int, rate: float, scale: float | None) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attn, self.mlp, self.drop_path = mixer, FeedForward(dim, hidden), DropPath(rate)
        self.gamma1 = None if scale is None else nn.Parameter(torch.full((dim,), scale))
        self.gamma2 = None if scale is None else nn.Parameter(torch.full((dim,), scale))

    def forward(self, x: Tensor) -> Tensor:
        seen = self.attn(self.norm1(x))
        x = x + self.drop_path(seen if self.gamma1 is None else self.gamma1 * seen)
        fed = self.mlp(self.norm2(x))
        out: Tensor = x + self.drop_path(fed if self.gamma2 is None else self.gamma2 * fed)
        return out
