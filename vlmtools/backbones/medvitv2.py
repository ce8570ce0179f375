"""MedViTV2: neighborhood attention and Kolmogorov-Arnold layers for medical pictures."""

from collections.abc import Sequence
from types import MappingProxyType
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vlmtools.backbones._checkpoint import Rule
from vlmtools.backbones.base import Backbone, Variant, drop_rates, linear_head, sized
from vlmtools.layers.drop_path import DropPath
from vlmtools.layers.faster_kan import FasterKAN
from vlmtools.layers.neighborhood_attention import NeighborhoodAttention

_T = Variant(
    MappingProxyType({"depths": (2, 2, 6, 1), "dims": (64, 128, 192, 384)}),
    params=11_719_845,
    licence="MIT",
    source="Omid-Nejati/MedViTV2",
    note="trained on MedMNIST; there is no ImageNet figure",
)
_S = sized(_T, args={"depths": (2, 2, 6, 2), "dims": (64, 128, 256, 512)}, params=30_087_295)


class MedViTV2(Backbone):
    """Local blocks with neighborhood attention, global blocks with thinned attention and FasterKAN.

    Args:
        stem_chs: Widths of the stem.
        depths: Blocks per stage; the third must be a multiple of 3.
        dims: Width of each stage.
        path_dropout: Highest chance of skipping a branch in training, in [0, 1); 0 skips none.
        num_classes: Outputs; 0 for none.
        in_chans: Channels of the images.
        strides: 2 where a stage halves the map.
        sr_ratios: How much each side is thinned for keys and values, per stage.
        head_dim: Channels of a head.
        mix_block_ratio: Share of channels with attention in global blocks, in (0, 1).
        scrambled: Keep the published reshapes from channels-first to channels-last without moving the axes, which mix
            positions with channels. Published weights need it; False moves the axes.

    Reference: arXiv:2502.13693
    """

    variants = MappingProxyType(
        {
            "medvit_tiny": _T,
            "medvit_small": _S,
            "medvit_base": sized(_S, args={"dims": (96, 192, 384, 768)}, params=66_995_571),
            "medvit_large": sized(_S, args={"dims": (96, 256, 512, 1024)}, params=118_291_477),
        }
    )
    renames: ClassVar[Sequence[Rule]] = (
        (r"^proj_head\.0\.", "head."),
        (r"\.kan\.layers\.", ".kan."),
        (r"\.rbf\.grid$", ".grid"),
    )
    tiny_sizes = (64, 96)

    def __init__(
        self,
        stem_chs: Sequence[int] = (64, 32, 64),
        depths: Sequence[int] = (2, 2, 6, 2),
        dims: Sequence[int] = (64, 128, 320, 512),
        path_dropout: float = 0.0,
        num_classes: int = 1000,
        in_chans: int = 3,
        strides: Sequence[int] = (1, 2, 2, 2),
        sr_ratios: Sequence[int] = (8, 4, 2, 1),
        head_dim: int = 32,
        mix_block_ratio: float = 0.75,
        scrambled: bool = True,
    ) -> None:
        reductions = [4]
        for stride in strides[1:]:
            reductions.append(reductions[-1] * stride)
        super().__init__(dims, reductions, num_classes)
        rates = drop_rates(path_dropout, depths)
        self.stem = nn.Sequential(
            _ConvNormAct(in_chans, stem_chs[0], 2),
            _ConvNormAct(stem_chs[0], stem_chs[1], 1),
            _ConvNormAct(stem_chs[1], stem_chs[2], 1),
            _ConvNormAct(stem_chs[2], stem_chs[2], 2),
        )
        self.depths, self.features, width = tuple(depths), nn.ModuleList(), stem_chs[-1]
        for stage, dim in enumerate(dims):
            for index in range(depths[stage]):
                stride = strides[stage] if index == 0 else 1
                rate = rates[stage][index]
                if _is_global(stage, index, depths[stage]):
                    mix = mix_block_ratio
                    block: nn.Module = _GlobalBlock(
                        width, dim, stride, sr_ratios[stage], head_dim, mix, rate, scrambled
                    )
                else:
                    block = _LocalBlock(width, dim, stride, 7 if stage == 0 else 3, head_dim, rate, scrambled)
                self.features.append(block)
                width = dim
        self.norm = nn.BatchNorm2d(width)
        self.head = linear_head(width, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward_stages(self, x: Tensor, n_stages: int | None = None) -> list[Tensor]:
        """The map that each stage gives.

        Args:
            x: Images.
            n_stages: Stop after this many stages; None runs all.
        """
        x, maps, block = self.stem(x), [], 0
        for depth in self.depths[:n_stages]:
            for layer in self.features[block : block + depth]:
                x = layer(x)
            block += depth
            maps.append(x)
        return maps

    @classmethod
    def tiny(cls, **changes: Any) -> Self:
        """Six narrow blocks.

        Args:
            changes: Constructor arguments that differ from the tiny ones.
        """
        small: dict[str, Any] = {
            "stem_chs": (16, 8, 16), "depths": (1, 1, 3, 1), "dims": (32, 64, 64, 64), "mix_block_ratio": 0.5,
            "num_classes": 10,
        }  # fmt: skip
        return cls(**{**small, **changes})


def _is_global(stage: int, index: int, depth: int) -> bool:
    return stage == 3 or (stage == 1 and index == depth - 1) or (stage == 2 and index % 3 == 2)


def _divisible(width: float, step: int = 32) -> int:
    """The nearest multiple, not below nine tenths."""
    found = max(step, int(width + step / 2) // step * step)
    return found + step if found < 0.9 * width else found


class _ConvNormAct(nn.Module):
    def __init__(self, dim_in: int, dim: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(dim_in, dim, 3, stride, 1, bias=False)
        self.norm, self.act = nn.BatchNorm2d(dim), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.act(self.norm(self.conv(x)))
        return out


class _Embed(nn.Module):
    def __init__(self, dim_in: int, dim: int, stride: int) -> None:
        super().__init__()
        self.stride, same = stride, stride == 1 and dim_in == dim
        self.conv: nn.Module = nn.Identity() if same else nn.Conv2d(dim_in, dim, 1, bias=False)
        self.norm: nn.Module = nn.Identity() if same else nn.BatchNorm2d(dim)

    def forward(self, x: Tensor) -> Tensor:
        if self.stride == 2:
            x = F.avg_pool2d(x, 2, 2, ceil_mode=True, count_include_pad=False)
        out: Tensor = self.norm(self.conv(x))
        return out


class _SqueezeExcite(nn.Module):
    def __init__(self, dim: int, reduction: int) -> None:
        super().__init__()
        inner = dim // reduction
        self.fc = nn.Sequential(nn.Linear(dim, inner), nn.ReLU(), nn.Linear(inner, dim), nn.Hardsigmoid())

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x * self.fc(x.mean((-2, -1)))[:, :, None, None]
        return out


class _LocalFeedForward(nn.Module):
    def __init__(self, dim: int, kernel: int, ratio: float) -> None:
        super().__init__()
        hidden = int(dim * ratio)
        depthwise = nn.Conv2d(hidden, hidden, kernel, padding=kernel // 2, groups=hidden, bias=False)
        self.conv = nn.Sequential(
            nn.Conv2d(dim, hidden, 1, bias=False), nn.BatchNorm2d(hidden), nn.Hardswish(),
            depthwise, nn.BatchNorm2d(hidden), nn.Hardswish(),
            _SqueezeExcite(hidden, dim), nn.Conv2d(hidden, dim, 1, bias=False), nn.BatchNorm2d(dim),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.conv(x)
        return out


class _LocalBlock(nn.Module):
    def __init__(
        self, dim_in: int, dim: int, stride: int, kernel: int, head_dim: int, rate: float, scrambled: bool
    ) -> None:
        super().__init__()
        self.scrambled, self.patch_embed = scrambled, _Embed(dim_in, dim, stride)
        self.norm1, self.norm2 = nn.BatchNorm2d(dim), nn.BatchNorm2d(dim)
        self.attn = NeighborhoodAttention(dim, dim // head_dim, 7)
        self.conv, self.drop_path = _LocalFeedForward(dim, kernel, 3), DropPath(rate)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch_embed(x)
        seen = _channels_first(self.attn(_channels_last(self.norm1(x), self.scrambled)), self.scrambled)
        x = x + self.drop_path(seen)
        out: Tensor = x + self.conv(self.norm2(x))
        return out


class _ThinAttention(nn.Module):
    """Attention to averages of consecutive tokens."""

    def __init__(self, dim: int, n_heads: int, ratio: int) -> None:
        super().__init__()
        self.n_heads, self.n_averaged = n_heads, ratio**2
        self.q, self.k, self.v, self.proj = (nn.Linear(dim, dim) for _ in range(4))
        self.norm = nn.BatchNorm1d(dim) if ratio > 1 else None

    def forward(self, x: Tensor) -> Tensor:
        thin = x
        if self.norm is not None:
            n_averaged = min(self.n_averaged, x.shape[1])
            thin = self.norm(F.avg_pool1d(x.transpose(1, 2), n_averaged, n_averaged)).transpose(1, 2)
        q, k, v = (
            layer(tokens).reshape(*tokens.shape[:2], self.n_heads, -1).transpose(1, 2)
            for layer, tokens in ((self.q, x), (self.k, thin), (self.v, thin))
        )
        seen = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        out: Tensor = self.proj(seen)
        return out


class _GroupConv(nn.Module):
    def __init__(self, dim: int, head_dim: int) -> None:
        super().__init__()
        self.group_conv3x3 = nn.Conv2d(dim, dim, 3, padding=1, groups=dim // head_dim, bias=False)
        self.norm, self.act = nn.BatchNorm2d(dim), nn.ReLU()
        self.projection = nn.Conv2d(dim, dim, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.projection(self.act(self.norm(self.group_conv3x3(x))))
        return out


class _GlobalBlock(nn.Module):
    def __init__(
        self, dim_in: int, dim: int, stride: int, ratio: int, head_dim: int, mix: float, rate: float, scrambled: bool
    ) -> None:  # fmt: skip
        super().__init__()
        attended = _divisible(int(dim * mix))
        self.scrambled, self.patch_embed = scrambled, _Embed(dim_in, attended, stride)
        self.norm1, self.norm2 = nn.BatchNorm2d(attended), nn.BatchNorm2d(dim)
        self.e_mhsa = _ThinAttention(attended, attended // head_dim, ratio)
        self.projection = _Embed(attended, dim - attended, 1)
        self.mhca = _GroupConv(dim - attended, head_dim)
        self.kan = FasterKAN((dim, 2 * dim, dim))
        # in the published files, but nothing is computed with it
        self.conv = _LocalFeedForward(dim, 3, 2).requires_grad_(False)
        self.drop_seen, self.drop_near = DropPath(rate * mix), DropPath(rate * (1 - mix))
        self.drop_path = DropPath(rate)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch_embed(x)
        seen = self.e_mhsa(self.norm1(x).flatten(2).transpose(1, 2)).transpose(1, 2).reshape(x.shape)
        x = x + self.drop_seen(seen)
        near = self.projection(x)
        x = torch.cat([x, near + self.drop_near(self.mhca(near))], dim=1)
        fed = self.kan(_channels_last(self.norm2(x), self.scrambled))
        out: Tensor = x + self.drop_path(_channels_first(fed, self.scrambled))
        return out


def _channels_last(x: Tensor, scrambled: bool) -> Tensor:
    batch, dim, height, width = x.shape
    return x.reshape(batch, height, width, dim) if scrambled else x.permute(0, 2, 3, 1)


def _channels_first(x: Tensor, scrambled: bool) -> Tensor:
    batch, height, width, dim = x.shape
    return x.reshape(batch, dim, height, width) if scrambled else x.permute(0, 3, 1, 2)
