"""BiFormer: each region of the picture picks a few regions to attend to."""

from collections.abc import Sequence
from types import MappingProxyType
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vlmtools.backbones._checkpoint import Rule
from vlmtools.backbones._init import small_normal
from vlmtools.backbones.base import Backbone, Variant, drop_rates, linear_head, sized
from vlmtools.layers.bilevel_routing import BiLevelRoutingAttention
from vlmtools.layers.drop_path import DropPath

_T = Variant(
    MappingProxyType({"depth": (2, 2, 8, 2)}),
    params=13_142_760,
    top1=81.4,
    licence="MIT",
    source="rayleizhu/BiFormer",
)
_S = sized(_T, args={"depth": (4, 4, 18, 4)}, params=25_536_232, top1=83.8)


class BiFormer(Backbone):
    """Bi-level routing attention in three stages, full attention in the last.

    Args:
        depth: Blocks per stage.
        in_chans: Channels of the images.
        num_classes: Outputs; 0 for none.
        embed_dim: Width of each stage.
        head_dim: Channels of a head.
        qk_dims: Channels of queries and keys per stage; None for `embed_dim`.
        drop_path_rate: Highest chance of skipping a block in training, in [0, 1); 0 skips none.
        n_win: Regions along each side; maps are padded to a multiple.
        topks: Regions attended to per stage; -2 for full attention with a local term, -1 for full attention.
        side_dwconv: Kernel of the local term of the value; 0 leaves it out.
        before_attn_dwconv: Kernel of the depthwise position convolution; 0 leaves it out.
        layer_scale_init_value: Where factors per channel on every branch start; negative for none.
        mlp_ratios: Widening of the feed-forward part per stage.
        kv_downsample_mode: How keys and values of a region are thinned; "identity" does not.
        kv_per_wins: Side of a thinned region per stage, for the "ada_" modes.
        kv_downsample_ratios: Thinning per stage, for the other modes.
        param_routing: Compare regions after a linear layer.
        diff_routing: Let gradients reach the comparison of regions.
        soft_routing: Multiply keys and values by how well their region matched.
        pre_norm: Normalise before each branch instead of after.
        pe: Only None; kept because the authors have it.
        layout: "biformer", or "swin" for the stem, merging and blocks of Swin (the STL variant).
        auto_pad: Unused, maps are always padded; kept because the authors have it.

    Reference: arXiv:2303.08810
    """

    variants = MappingProxyType(
        {
            "biformer_tiny": _T,
            "biformer_small": _S,
            "biformer_base": sized(
                _S,
                args={"embed_dim": (96, 192, 384, 768), "qk_dims": (96, 192, 384, 768)},
                params=56_804_968,
                top1=84.3,
            ),
            "biformer_stl": sized(
                _T,
                args={
                    "depth": (2, 2, 6, 2),
                    "embed_dim": (96, 192, 384, 768),
                    "mlp_ratios": (4, 4, 4, 4),
                    "before_attn_dwconv": 0,
                    "layout": "swin",
                },
                params=28_372_552,
                top1=82.7,
            ),
        }
    )
    stated_in = "README.md of rayleizhu/BiFormer at 03715d8"
    stated_gmac = MappingProxyType(
        {"biformer_tiny": 2.2, "biformer_small": 4.5, "biformer_base": 9.8, "biformer_stl": 4.6}
    )
    renames: ClassVar[Sequence[Rule]] = (
        (r"^downsample_layers\.(\d)\.", r"stages.\1.embed."),
        (r"^stages\.(\d)\.(blocks\.)?(\d+)\.", r"stages.\1.blocks.\3."),
        (r"attn\.qkv\.qkv\.", "attn.qkv."),
        (r"attn\.router\.emb\.", "attn.router."),
        (r"\.mlp\.(2|3)\.", ".mlp.2."),
    )
    tiny_sizes = (64, 80)

    def __init__(
        self,
        depth: Sequence[int] = (2, 2, 8, 2),
        in_chans: int = 3,
        num_classes: int = 1000,
        embed_dim: Sequence[int] = (64, 128, 256, 512),
        head_dim: int = 32,
        qk_dims: Sequence[int | None] | None = None,
        drop_path_rate: float = 0.0,
        n_win: int = 7,
        topks: Sequence[int] = (1, 4, 16, -2),
        side_dwconv: int = 5,
        before_attn_dwconv: int = 3,
        layer_scale_init_value: float = -1,
        mlp_ratios: Sequence[float] = (3, 3, 3, 3),
        kv_downsample_mode: str = "identity",
        kv_per_wins: Sequence[int] = (-1, -1, -1, -1),
        kv_downsample_ratios: Sequence[int] = (4, 2, 1, 1),
        param_routing: bool = False,
        diff_routing: bool = False,
        soft_routing: bool = False,
        pre_norm: bool = True,
        pe: None = None,
        layout: str = "biformer",
        auto_pad: bool = True,
    ) -> None:
        super().__init__(embed_dim, [4 * 2**stage for stage in range(len(depth))], num_classes)
        rates = drop_rates(drop_path_rate, depth)
        embed = _biformer_embed if layout == "biformer" else _swin_embed
        routing = {"param_routing": param_routing, "diff_routing": diff_routing, "soft_routing": soft_routing}
        self.stages = nn.ModuleList()
        for stage, dim in enumerate(embed_dim):
            qk_dim = (qk_dims[stage] if qk_dims else None) or dim
            blocks = []
            for rate in rates[stage]:
                if topks[stage] > 0:
                    mixer: nn.Module = BiLevelRoutingAttention(
                        dim, qk_dim // head_dim, n_win, topks[stage], qk_dim, side_dwconv,
                        kv_mode=kv_downsample_mode, kv_per_win=kv_per_wins[stage],
                        kv_ratio=kv_downsample_ratios[stage], **routing,
                    )  # fmt: skip
                else:
                    mixer = _FullAttention(dim, side_dwconv if topks[stage] == -2 else 0)
                block = _Block(dim, mixer, int(dim * mlp_ratios[stage]), rate, before_attn_dwconv, pre_norm)
                block.scale_branches(layer_scale_init_value)
                blocks.append(block)
            self.stages.append(
                _Stage(embed(embed_dim[stage - 1] if stage else in_chans, dim, stage == 0), blocks)
            )
        self.norm = nn.BatchNorm2d(self.num_features)
        self.head = linear_head(self.num_features, num_classes)
        self.apply(small_normal)

    @classmethod
    def tiny(cls, **changes: Any) -> Self:
        """Four stages of one block, regions of a quarter of the side.

        Args:
            changes: Constructor arguments that differ from the tiny ones.
        """
        small: dict[str, Any] = {
            "depth": (1, 1, 1, 1), "embed_dim": (16, 32, 48, 64), "mlp_ratios": (2, 2, 2, 2), "n_win": 4,
            "topks": (1, 4, 4, -2), "head_dim": 16, "num_classes": 10,
        }  # fmt: skip
        return cls(**{**small, **changes})


def _biformer_embed(dim_in: int, dim: int, first: bool) -> nn.Module:
    if not first:
        return nn.Sequential(nn.Conv2d(dim_in, dim, 3, 2, 1), nn.BatchNorm2d(dim))
    return nn.Sequential(
        nn.Conv2d(dim_in, dim // 2, 3, 2, 1),
        nn.BatchNorm2d(dim // 2),
        nn.GELU(),
        nn.Conv2d(dim // 2, dim, 3, 2, 1),
        nn.BatchNorm2d(dim),
    )


def _swin_embed(dim_in: int, dim: int, first: bool) -> nn.Module:
    if first:
        return nn.Sequential(nn.Conv2d(dim_in, dim, 4, 4), nn.BatchNorm2d(dim))
    return nn.Sequential(nn.BatchNorm2d(dim_in), nn.Conv2d(dim_in, dim, 2, 2))


class _Stage(nn.Module):
    def __init__(self, embed: nn.Module, blocks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.embed, self.blocks = embed, nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.blocks(self.embed(x))
        return out


class _Block(nn.Module):
    def __init__(
        self, dim: int, mixer: nn.Module, hidden: int, rate: float, kernel: int, pre_norm: bool
    ) -> None:
        super().__init__()
        self.pos_embed = nn.Conv2d(dim, dim, kernel, padding=1, groups=dim) if kernel else None
        self.norm1, self.norm2 = nn.LayerNorm(dim, eps=1e-6), nn.LayerNorm(dim, eps=1e-6)
        self.attn, self.drop_path, self.pre_norm = mixer, DropPath(rate), pre_norm
        self.mlp = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim))
        self.gamma1: nn.Parameter | None = None
        self.gamma2: nn.Parameter | None = None

    def scale_branches(self, start: float) -> None:
        """Learn a factor per channel on both branches, if `start` is positive."""
        if start > 0:
            width = self.norm1.weight.shape
            self.gamma1 = nn.Parameter(torch.full(width, start))
            self.gamma2 = nn.Parameter(torch.full(width, start))

    def forward(self, x: Tensor) -> Tensor:
        if self.pos_embed is not None:
            x = x + self.pos_embed(x)
        x = x.permute(0, 2, 3, 1)
        for norm, branch, gamma in (
            (self.norm1, self.attn, self.gamma1),
            (self.norm2, self.mlp, self.gamma2),
        ):
            out = branch(norm(x) if self.pre_norm else x)
            x = x + self.drop_path(out if gamma is None else gamma * out)
            x = x if self.pre_norm else norm(x)
        return x.permute(0, 3, 1, 2).contiguous()


class _FullAttention(nn.Module):
    """Attention over the whole map, with a depthwise convolution of the input beside it."""

    def __init__(self, dim: int, kernel: int, n_heads: int = 8) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.qkv, self.proj = nn.Linear(dim, 3 * dim, bias=False), nn.Linear(dim, dim)
        self.lepe = nn.Conv2d(dim, dim, kernel, padding=kernel // 2, groups=dim) if kernel else None

    def forward(self, x: Tensor) -> Tensor:
        batch, height, width, _ = x.shape
        q, k, v = self.qkv(x).reshape(batch, height * width, 3, self.n_heads, -1).permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(x.shape)
        if self.lepe is not None:
            seen = seen + self.lepe(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        out: Tensor = self.proj(seen)
        return out
