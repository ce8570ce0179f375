"""SMT: convolutions that modulate at several scales first, attention later."""

from collections.abc import Sequence
from types import MappingProxyType
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from vlmtools.backbones._checkpoint import Rule
from vlmtools.backbones._init import small_normal
from vlmtools.backbones.base import Backbone, Variant, drop_rates, linear_head, sized
from vlmtools.layers.drop_path import DropPath
from vlmtools.layers.scale_aware_modulation import ScaleAwareModulation

_T = Variant(
    MappingProxyType({"mlp_ratios": (4, 4, 4, 2), "depths": (2, 2, 8, 1)}),
    params=11_506_536,
    top1=82.2,
    licence="MIT",
    source="AFeng-x/SMT",
)
_B = sized(
    _T,
    args={"mlp_ratios": (8, 6, 4, 2), "depths": (4, 6, 28, 2), "head_conv": 7},
    params=32_037_352,
    top1=84.3,
)


class SMT(Backbone):
    """Scale-aware modulation transformer.

    Args:
        img_size: Unused, any size works; kept because the authors have it.
        in_chans: Channels of the images.
        num_classes: Outputs; 0 for none.
        embed_dims: Width of each stage.
        ca_num_heads: Groups of the modulation per stage; -1 where there is none.
        sa_num_heads: Attention heads per stage; -1 where there are none.
        mlp_ratios: Widening of the feed-forward part per stage.
        qkv_bias: Biases in the projections.
        use_layerscale: Learn a factor per channel on every branch.
        layerscale_value: Where these factors start.
        drop_path_rate: Highest chance of skipping a block in training, in [0, 1); 0 skips none.
        depths: Blocks per stage.
        ca_attentions: 1 where a stage modulates, 0 where it attends; the third stage alternates.
        head_conv: Kernel of the first convolution, 3 or 7.
        expand_ratio: Widening inside the modulation.

    Reference: arXiv:2307.08579
    """

    variants = MappingProxyType(
        {
            "smt_t": _T,
            "smt_s": sized(_T, args={"depths": (3, 4, 18, 2)}, params=22_550_952, top1=83.7),
            "smt_b": _B,
            "smt_l": sized(
                _B,
                args={"embed_dims": (96, 192, 384, 768), "depths": (4, 6, 28, 4)},
                params=80_589_544,
                top1=87.1,
                note="top-1 after training on ImageNet-22k",
            ),
        }
    )
    stated_in = (
        "README.md of AFeng-x/SMT at 00bbe22 (which says 21 million parameters of smt_s; the authors' program has as "
        "many as are counted here)"
    )
    stated_gmac = MappingProxyType({"smt_t": 2.4, "smt_s": 4.7, "smt_b": 7.7, "smt_l": 17.6})
    renames: ClassVar[Sequence[Rule]] = (
        (r"^(patch_embed|block|norm)(\d)\.", lambda m: f"stages.{int(m[2]) - 1}.{m[1]}."),
        (r"local_conv_(\d)\.", lambda m: f"local_convs.{int(m[1]) - 1}."),
        (r"dwconv\.dwconv\.", "dwconv."),
    )

    def __init__(
        self,
        img_size: int = 224,
        in_chans: int = 3,
        num_classes: int = 1000,
        embed_dims: Sequence[int] = (64, 128, 256, 512),
        ca_num_heads: Sequence[int] = (4, 4, 4, -1),
        sa_num_heads: Sequence[int] = (-1, -1, 8, 16),
        mlp_ratios: Sequence[float] = (4, 4, 4, 2),
        qkv_bias: bool = True,
        use_layerscale: bool = False,
        layerscale_value: float = 1e-4,
        drop_path_rate: float = 0.0,
        depths: Sequence[int] = (2, 2, 8, 1),
        ca_attentions: Sequence[int] = (1, 1, 1, 0),
        head_conv: int = 3,
        expand_ratio: int = 2,
    ) -> None:
        super().__init__(embed_dims, [4 * 2**stage for stage in range(len(depths))], num_classes)
        rates = drop_rates(drop_path_rate, depths)
        scale = layerscale_value if use_layerscale else None
        self.stages = nn.ModuleList()
        for stage, dim in enumerate(embed_dims):
            embed = _Embed(embed_dims[stage - 1], dim) if stage else _Stem(in_chans, dim, head_conv)
            blocks = []
            for block in range(depths[stage]):
                modulates = ca_attentions[stage] == 1 and not (stage == 2 and block % 2 == 1)
                mixer = (
                    ScaleAwareModulation(dim, ca_num_heads[stage], expand_ratio, qkv_bias)
                    if modulates
                    else _LocalAttention(dim, sa_num_heads[stage], qkv_bias)
                )
                blocks.append(_Block(dim, mixer, int(dim * mlp_ratios[stage]), scale, rates[stage][block]))
            self.stages.append(_Stage(embed, blocks, dim))
        self.head = linear_head(self.num_features, num_classes)
        self.apply(small_normal)

    @classmethod
    def tiny(cls, **changes: Any) -> Self:
        """Four stages of one or two blocks.

        Args:
            changes: Constructor arguments that differ from the tiny ones.
        """
        small: dict[str, Any] = {
            "embed_dims": (16, 24, 32, 48), "sa_num_heads": (-1, -1, 4, 8), "mlp_ratios": (2, 2, 2, 2),
            "depths": (1, 1, 2, 1), "num_classes": 10,
        }  # fmt: skip
        return cls(**{**small, **changes})


class _Stage(nn.Module):
    def __init__(self, embed: nn.Module, blocks: Sequence[nn.Module], dim: int) -> None:
        super().__init__()
        self.patch_embed, self.block = embed, nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(dim, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch_embed(x)
        for block in self.block:
            x = block(x)
        out: Tensor = self.norm(x).permute(0, 3, 1, 2)
        return out.contiguous()


class _Stem(nn.Module):
    def __init__(self, in_chans: int, dim: int, kernel: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(in_chans, dim, kernel, 2, padding=3 if kernel == 7 else 1, bias=False),
            nn.BatchNorm2d(dim),
            nn.ReLU(),
            nn.Conv2d(dim, dim, 2, 2),
        )
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.norm(self.conv(x).permute(0, 2, 3, 1))
        return out


class _Embed(nn.Module):
    def __init__(self, dim_in: int, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(dim_in, dim, 3, 2, padding=1)
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.norm(self.proj(x).permute(0, 2, 3, 1))
        return out


class _Block(nn.Module):
    def __init__(self, dim: int, mixer: nn.Module, hidden: int, scale: float | None, rate: float) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim, eps=1e-6), nn.LayerNorm(dim, eps=1e-6)
        self.attn, self.mlp = mixer, _ConvMlp(dim, hidden)
        self.drop_path = DropPath(rate)
        self.gamma_1 = None if scale is None else nn.Parameter(torch.full((dim,), scale))
        self.gamma_2 = None if scale is None else nn.Parameter(torch.full((dim,), scale))

    def forward(self, x: Tensor) -> Tensor:
        mixed = self.attn(self.norm1(x))
        x = x + self.drop_path(mixed if self.gamma_1 is None else self.gamma_1 * mixed)
        fed = self.mlp(self.norm2(x))
        out: Tensor = x + self.drop_path(fed if self.gamma_2 is None else self.gamma_2 * fed)
        return out


class _ConvMlp(nn.Module):
    """Feed-forward part with a depthwise convolution added before the activation."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(dim, hidden), nn.Linear(hidden, dim)
        self.dwconv = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)
        self.act = nn.GELU()

    def forward(self, x: Tensor) -> Tensor:
        x = self.fc1(x)
        local = self.dwconv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        out: Tensor = self.fc2(self.act(x + local))
        return out


class _LocalAttention(nn.Module):
    """Full attention plus a depthwise convolution of the value."""

    def __init__(self, dim: int, n_heads: int, qkv_bias: bool) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.q, self.kv = nn.Linear(dim, dim, bias=qkv_bias), nn.Linear(dim, 2 * dim, bias=qkv_bias)
        self.local_conv = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        batch, height, width, dim = x.shape
        q = self.q(x).reshape(batch, height * width, self.n_heads, -1).transpose(1, 2)
        k, v = self.kv(x).reshape(batch, height * width, 2, self.n_heads, -1).permute(2, 0, 3, 1, 4)
        seen = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(x.shape)
        local = self.local_conv(v.transpose(-2, -1).reshape(batch, dim, height, width))
        out: Tensor = self.proj(seen + local.permute(0, 2, 3, 1))
        return out
