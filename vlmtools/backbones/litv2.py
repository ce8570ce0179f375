"""LITv2: convolution early, HiLo attention later, deformable merging between stages."""

from collections.abc import Sequence
from types import MappingProxyType
from typing import Any, ClassVar, Self

from torch import Tensor, nn

from vlmtools.backbones._checkpoint import Rule
from vlmtools.backbones._init import small_normal
from vlmtools.backbones.base import Backbone, Variant, drop_rates, linear_head, sized
from vlmtools.layers.deform_conv import DeformConv2d
from vlmtools.layers.drop_path import DropPath
from vlmtools.layers.hilo import HiLo

_S = Variant(
    MappingProxyType({"alpha": 0.9}),
    params=27_844_000,
    top1=82.0,
    licence="Apache-2.0",
    source="ziplab/LITv2",
)
_M = sized(_S, args={"depths": (2, 2, 18, 2)}, params=48_830_368, top1=83.3)
_B = sized(_M, args={"embed_dim": 128, "num_heads": (4, 8, 16, 32)}, params=86_520_704, top1=83.6)


class LITv2(Backbone):
    """Convolutional feed-forward blocks, then blocks with HiLo attention.

    Args:
        img_size: Unused, any size works (the authors' code takes squares only); kept because the authors have it.
        patch_size: Side of the first patches.
        in_chans: Channels of the images.
        num_classes: Outputs; 0 for none.
        embed_dim: Width of the first stage; doubles with each stage.
        depths: Blocks per stage.
        num_heads: Heads per stage.
        mlp_ratio: Widening of the feed-forward part.
        qkv_bias: Biases in the projections.
        drop_path_rate: Highest chance of skipping a block in training, in [0, 1); 0 skips none.
        has_msa: 1 where a stage has attention.
        alpha: Share of heads with low frequencies, in [0, 1].
        local_ws: Window of HiLo per stage; 1 is plain attention.

    Reference: arXiv:2205.13213
    """

    variants = MappingProxyType(
        {
            "litv2_small": _S,
            "litv2_medium": _M,
            "litv2_base": _B,
            "litv2_base_finetune_384": sized(_B, args={"img_size": 384}, top1=84.7, size=384),
        }
    )
    stated_in = "classification/README.md of ziplab/LITv2 at 21d8ff3"
    stated_gmac = MappingProxyType(
        {"litv2_small": 3.7, "litv2_medium": 7.5, "litv2_base": 13.2, "litv2_base_finetune_384": 39.7}
    )
    renames: ClassVar[Sequence[Rule]] = (
        (r"^patch_embed\.", "stem."),
        # the authors merge at the end of a stage, here at the start of the next
        (r"^layers\.(\d+)\.downsample\.", lambda m: f"stages.{int(m[1]) + 1}.merge."),
        (r"^layers\.", "stages."),
        (r"dwconv\.dwconv\.", "dwconv."),
    )

    def __init__(
        self,
        img_size: int = 224,
        patch_size: int = 4,
        in_chans: int = 3,
        num_classes: int = 1000,
        embed_dim: int = 96,
        depths: Sequence[int] = (2, 2, 6, 2),
        num_heads: Sequence[int] = (3, 6, 12, 24),
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        drop_path_rate: float = 0.0,
        has_msa: Sequence[int] = (0, 0, 1, 1),
        alpha: float = 0.5,
        local_ws: Sequence[int] = (0, 0, 2, 1),
    ) -> None:
        widths = [embed_dim * 2**stage for stage in range(len(depths))]
        super().__init__(widths, [patch_size * 2**stage for stage in range(len(depths))], num_classes)
        rates = drop_rates(drop_path_rate, depths)
        self.stem = _Stem(in_chans, embed_dim, patch_size)
        self.stages = nn.ModuleList()
        for stage, dim in enumerate(widths):
            blocks = [
                _Block(
                    dim,
                    HiLo(dim, num_heads[stage], local_ws[stage], alpha, qkv_bias) if has_msa[stage] else None,
                    int(dim * mlp_ratio),
                    rate,
                )
                for rate in rates[stage]
            ]
            merge = _Merge(widths[stage - 1], dim) if stage else nn.Identity()
            self.stages.append(_Stage(merge, blocks))
        self.norm = _MapNorm(self.num_features)
        self.head = linear_head(self.num_features, num_classes)
        self.apply(small_normal)
        for module in self.modules():
            if isinstance(module, DeformConv2d):
                module.reset_offset()

    @classmethod
    def tiny(cls, **changes: Any) -> Self:
        """Four stages, two of them with attention.

        Args:
            changes: Constructor arguments that differ from the tiny ones.
        """
        small: dict[str, Any] = {
            "embed_dim": 16, "depths": (1, 1, 2, 1), "num_heads": (1, 2, 4, 4), "mlp_ratio": 2, "num_classes": 10,
        }  # fmt: skip
        return cls(**{**small, **changes})


class _Stem(nn.Module):
    def __init__(self, in_chans: int, dim: int, patch: int) -> None:
        super().__init__()
        self.proj, self.norm = nn.Conv2d(in_chans, dim, patch, patch), nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.norm(self.proj(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return out


class _Merge(nn.Module):
    def __init__(self, dim_in: int, dim: int) -> None:
        super().__init__()
        self.dconv, self.norm_layer, self.act = (
            DeformConv2d(dim_in, dim, 2, 2),
            nn.BatchNorm2d(dim),
            nn.GELU(),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.act(self.norm_layer(self.dconv(x)))
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
    def __init__(self, dim: int, attention: nn.Module | None, hidden: int, rate: float) -> None:
        super().__init__()
        self.attn = attention
        self.norm1 = None if attention is None else nn.LayerNorm(dim)
        self.norm2, self.mlp, self.drop_path = nn.LayerNorm(dim), _ConvMlp(dim, hidden), DropPath(rate)

    def forward(self, x: Tensor) -> Tensor:
        if self.attn is not None and self.norm1 is not None:
            x = x + self.drop_path(self.attn(self.norm1(x)))
        out: Tensor = x + self.drop_path(self.mlp(self.norm2(x)))
        return out


class _ConvMlp(nn.Module):
    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1, self.fc2, self.act = nn.Linear(dim, hidden), nn.Linear(hidden, dim), nn.GELU()
        self.dwconv = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)

    def forward(self, x: Tensor) -> Tensor:
        x = self.dwconv(self.fc1(x).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        out: Tensor = self.fc2(self.act(x))
        return out


class _MapNorm(nn.LayerNorm):
    """LayerNorm over the channels of a map that has them first."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
