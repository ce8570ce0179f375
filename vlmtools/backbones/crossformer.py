"""CrossFormer and CrossFormer++: tokens of several scales, attention at short and at long distance."""

import math
from collections.abc import Sequence
from types import MappingProxyType
from typing import Any, ClassVar, Self

from torch import Tensor, nn

from vlmtools.backbones._checkpoint import Rule
from vlmtools.backbones._init import small_normal
from vlmtools.backbones.base import Backbone, Variant, drop_rates, linear_head, sized
from vlmtools.errors import BadInput
from vlmtools.layers.cross_scale_embedding import CrossScaleEmbedding
from vlmtools.layers.drop_path import DropPath
from vlmtools.layers.feed_forward import FeedForward
from vlmtools.layers.group_attention import GroupAttention
from vlmtools.layers.map_norm import MapNorm

_T = Variant(
    MappingProxyType({"embed_dim": 64, "depths": (1, 1, 8, 6), "num_heads": (2, 4, 8, 16)}),
    params=27_776_794,
    top1=81.5,
    licence="MIT",
    source="cheerss/CrossFormer",
)
_B = sized(
    _T,
    args={"embed_dim": 96, "depths": (2, 2, 18, 2), "num_heads": (3, 6, 12, 24)},
    params=51_971_554,
    top1=83.4,
)
_WIDE: dict[str, Any] = {"embed_dim": 128, "num_heads": (4, 8, 16, 32)}
_PP: dict[str, Any] = {"group_size": (4, 4, 14, 7), "crs_interval": (4, 2, 1, 1), "use_acl": True}
_PP_B = sized(_B, args=_PP, params=51_994_594, top1=84.2)


class CrossFormer(Backbone):
    """Cross-scale embedding and alternating short and long distance attention.

    Args:
        img_size: Side of the images in pixels; decides groups and intervals, and is fixed.
        patch_size: Kernels of the first embedding; the first is its stride.
        in_chans: Channels of the images.
        num_classes: Outputs; 0 for none.
        embed_dim: Width of the first stage; doubles with each stage.
        depths: Blocks per stage.
        num_heads: Heads per stage.
        group_size: Side of a group per stage, in tokens.
        crs_interval: Step between tokens of a long-distance group per stage.
        mlp_ratio: Widening of the feed-forward part, per stage or for all.
        qkv_bias: Biases in the projections.
        drop_path_rate: Highest chance of skipping a block in training, in [0, 1); 0 skips none.
        merge_size: Kernels of the embedding between stages.
        group_type: "constant" takes `group_size`; "7_14" halves it in the first four blocks of the third stage;
            "linear", "linear_div" and "alter" grow it with depth.
        pad_type: 0 pads below and to the right, 1 on all sides.
        no_mask: Let padded tokens be seen.
        adaptive_interval: Choose the interval so that long-distance groups span the map.
        use_acl: Amplitude cooling: every third block ends in a convolution without a residual (++).

    Raises:
        BadInput: A stage has an odd side, or the images are not as large as said.

    Reference: arXiv:2108.00154, arXiv:2303.06908
    """

    variants = MappingProxyType(
        {
            "crossformer_tiny": _T,
            "crossformer_small": sized(_B, args={"depths": (2, 2, 6, 2)}, params=30_657_394, top1=82.5),
            "crossformer_base": _B,
            "crossformer_large": sized(_B, args=_WIDE, params=91_971_184, top1=84.0),
            "crossformer_pp_small": sized(
                _PP_B, args={"embed_dim": 64, "num_heads": (2, 4, 8, 16)}, params=23_325_340, top1=83.2
            ),
            "crossformer_pp_base": _PP_B,
            "crossformer_pp_large": sized(_PP_B, args=_WIDE, params=92_001_904, top1=84.7),
            "crossformer_pp_huge": sized(
                _PP_B, args={**_WIDE, "depths": (6, 6, 18, 2)}, params=95_962_944, top1=84.9
            ),
        }
    )
    stated_in = "README.md of cheerss/CrossFormer at 7952010"
    stated_gmac = MappingProxyType(
        {
            "crossformer_tiny": 2.9,
            "crossformer_small": 4.9,
            "crossformer_base": 9.2,
            "crossformer_large": 16.1,
            "crossformer_pp_small": 4.9,
            "crossformer_pp_base": 9.5,
            "crossformer_pp_large": 16.6,
            "crossformer_pp_huge": 21.8,
        }
    )
    gmac_apart = MappingProxyType(
        {
            "crossformer_pp_small": "stated as for crossformer_small; the authors' published settings count less"
        }
    )
    renames: ClassVar[Sequence[Rule]] = (
        (r"^patch_embed\.norm\.", "stem.norm."),
        (r"^patch_embed\.", "stem.embed."),
        # the authors merge at the end of a stage, here at the start of the next
        (
            r"^layers\.(\d+)\.downsample\.reductions\.",
            lambda m: f"stages.{int(m[1]) + 1}.merge.reductions.projs.",
        ),
        (r"^layers\.(\d+)\.downsample\.norm\.", lambda m: f"stages.{int(m[1]) + 1}.merge.norm."),
        (r"^layers\.", "stages."),
    )
    recomputed: ClassVar[Sequence[str]] = (r"attn_mask$", r"relative_position_index$", r"attn\.biases$")
    fixed_size = True
    tiny_sizes = (128, 192)

    def __init__(
        self,
        img_size: int = 224,
        patch_size: Sequence[int] = (4, 8, 16, 32),
        in_chans: int = 3,
        num_classes: int = 1000,
        embed_dim: int = 64,
        depths: Sequence[int] = (1, 1, 8, 6),
        num_heads: Sequence[int] = (2, 4, 8, 16),
        group_size: Sequence[int] = (7, 7, 7, 7),
        crs_interval: Sequence[int] = (8, 4, 2, 1),
        mlp_ratio: float | Sequence[float] = 4.0,
        qkv_bias: bool = True,
        drop_path_rate: float = 0.0,
        merge_size: Sequence[Sequence[int]] = ((2, 4), (2, 4), (2, 4)),
        group_type: str = "constant",
        pad_type: int = 0,
        no_mask: bool = False,
        adaptive_interval: bool = False,
        use_acl: bool = False,
    ) -> None:
        n_stages = len(depths)
        widths = [embed_dim * 2**stage for stage in range(n_stages)]
        super().__init__(widths, [patch_size[0] * 2**stage for stage in range(n_stages)], num_classes)
        self.img_size = img_size
        sides = [img_size // patch_size[0] // 2**stage for stage in range(n_stages)]
        _refuse_odd(sides)
        ratios = [mlp_ratio] * n_stages if isinstance(mlp_ratio, (int, float)) else list(mlp_ratio)
        groups = _group_sizes(group_size, depths, sides[0], group_type)
        rates = drop_rates(drop_path_rate, depths)
        self.stem = _Stem(in_chans, embed_dim, patch_size)
        self.stages = nn.ModuleList()
        for stage, dim in enumerate(widths):
            blocks = []
            for index in range(depths[stage]):
                mixer = _attention(
                    dim, num_heads[stage], groups[stage][index], crs_interval[stage], sides[stage], index % 2 == 1,
                    adaptive_interval, {"qkv_bias": qkv_bias, "masked": not no_mask, "padding": pad_type},
                )  # fmt: skip
                cooled = use_acl and (index + 1) % 3 == 0 and index < depths[stage] - 1
                blocks.append(_Block(dim, mixer, int(dim * ratios[stage]), rates[stage][index], cooled))
            merge = _Merge(widths[stage - 1], dim, merge_size[stage - 1]) if stage else nn.Identity()
            self.stages.append(_Stage(merge, blocks))
        self.norm = MapNorm(self.num_features)
        self.head = linear_head(self.num_features, num_classes)
        self.apply(small_normal)

    def forward_stages(self, x: Tensor, n_stages: int | None = None) -> list[Tensor]:
        """The map that each stage gives.

        Args:
            x: Images, as large as `img_size`.
            n_stages: Stop after this many stages; None runs all.

        Raises:
            BadInput: The images have another size.
        """
        if x.shape[-2:] != (self.img_size, self.img_size):
            raise BadInput(
                f"Images of {x.shape[-2]} x {x.shape[-1]} were given to a CrossFormer for "
                f"{self.img_size} x {self.img_size}. Resize them, or create it with img_size={x.shape[-1]}."
            )
        return super().forward_stages(x, n_stages)

    @classmethod
    def tiny(cls, **changes: Any) -> Self:
        """Four stages, cooled.

        Args:
            changes: Constructor arguments that differ from the tiny ones.
        """
        small: dict[str, Any] = {
            "img_size": 128, "patch_size": (4, 8), "embed_dim": 16, "depths": (2, 1, 4, 1), "mlp_ratio": 2,
            "num_heads": (1, 2, 4, 8), "group_size": (4, 4, 4, 4), "crs_interval": (4, 2, 2, 1), "use_acl": True,
            "num_classes": 10,
        }  # fmt: skip
        return cls(**{**small, **changes})


def _refuse_odd(sides: Sequence[int]) -> None:
    odd = [side for side in sides[:-1] if side % 2]
    if odd:
        raise BadInput(
            f"The stages would have maps of side {list(sides)}, and an odd map ({odd[0]}) cannot be halved. "
            "Choose img_size as a multiple of 32."
        )


def _attention(
    dim: int,
    n_heads: int,
    group: int,
    interval: int,
    side: int,
    far: bool,
    adaptive: bool,
    more: dict[str, Any],
) -> GroupAttention:
    if side <= group:
        far, group = False, side
    if adaptive:
        interval = math.ceil(side / group)
    return GroupAttention(dim, n_heads, group, interval if far else 1, **more)


def _group_sizes(sizes: Sequence[int], depths: Sequence[int], side: int, kind: str) -> list[list[int]]:
    """Side of the groups of every block."""
    step = (1 - 4 / side) / sum(depths)
    found: list[list[int]] = []
    for stage, depth in enumerate(depths):
        here, before = side // 2**stage, sum(depths[:stage])
        row = []
        for block in range(depth):
            grown = here * (4 / side + step * (before + block))
            row.append(_group_size(kind, sizes[stage], here, grown, stage, block, before + block))
        found.append(row)
    return found


def _group_size(kind: str, size: int, here: int, grown: float, stage: int, block: int, count: int) -> int:
    if kind == "constant":
        return size
    if kind == "7_14":
        return size if stage != 2 or block >= 4 else size // 2
    if kind == "linear_div" and grown > here // 2:
        grown = here if grown > here * 3 / 4 or stage != 2 else here // 2
    elif kind == "alter" and grown > here // 2:
        grown = here if count % 2 or stage != 2 else here // 2
    elif kind not in ("linear", "linear_div", "alter"):
        raise BadInput(
            f"group_type is {kind!r}. There is constant, 7_14, linear, linear_div, alter. Choose one of them."
        )
    return max(4, math.ceil(grown))


class _Stem(nn.Module):
    def __init__(self, in_chans: int, dim: int, kernels: Sequence[int]) -> None:
        super().__init__()
        self.embed = CrossScaleEmbedding(in_chans, dim, kernels, kernels[0])
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.norm(self.embed(x)).permute(0, 3, 1, 2)
        return out


class _Merge(nn.Module):
    def __init__(self, dim_in: int, dim: int, kernels: Sequence[int]) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim_in)
        self.reductions = CrossScaleEmbedding(dim_in, dim, kernels, 2)

    def forward(self, x: Tensor) -> Tensor:
        normed = self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        out: Tensor = self.reductions(normed).permute(0, 3, 1, 2)
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
    def __init__(self, dim: int, mixer: nn.Module, hidden: int, rate: float, cooled: bool) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attn, self.mlp, self.drop_path = mixer, FeedForward(dim, hidden), DropPath(rate)
        self.ex_conv = nn.Conv2d(dim, dim, 3, padding=1, groups=dim) if cooled else None
        self.ex_ln = nn.LayerNorm(dim) if cooled else None

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop_path(self.attn(self.norm1(x)))
        x = x + self.drop_path(self.mlp(self.norm2(x)))
        if self.ex_conv is not None and self.ex_ln is not None:
            x = self.ex_ln(self.ex_conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))
        return x
