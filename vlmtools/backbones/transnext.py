"""TransNeXt: every token sees its neighbours sharply and the rest of the picture coarsely, as an eye does."""

from collections.abc import Sequence
from types import MappingProxyType
from typing import Any, ClassVar, Self

from torch import nn

from vlmtools.backbones._checkpoint import Rule
from vlmtools.backbones._init import small_normal
from vlmtools.backbones._transnext import Block, Embed, Stage
from vlmtools.backbones.base import Backbone, Variant, drop_rates, linear_head, sized

_MICRO = Variant(
    MappingProxyType({"mlp_ratios": (8, 8, 4, 4), "depths": (2, 2, 15, 2)}),
    params=12_809_304,
    top1=82.5,
    licence="Apache-2.0",
    source="DaiShiResearch/TransNeXt",
)
_TINY = sized(
    _MICRO,
    args={"embed_dims": (72, 144, 288, 576), "num_heads": (3, 6, 12, 24)},
    params=28_258_960,
    top1=84.0,
)


class TransNeXt(Backbone):
    """Aggregated attention in three stages, full attention in the last.

    Args:
        img_size: Side in pixels that positions are prepared for; other sizes work, a little slower.
        pretrain_size: Side in pixels of the first training; None for `img_size`. Scales positions.
        window_size: Side of the neighbourhood per stage; None where attention is full.
        patch_size: Stride of the first embedding.
        in_chans: Channels of the images.
        num_classes: Outputs; 0 for none.
        embed_dims: Width of each stage.
        num_heads: Heads per stage.
        mlp_ratios: Widening of the feed-forward part per stage.
        qkv_bias: Biases in the projections.
        drop_path_rate: Highest chance of skipping a block in training, in [0, 1); 0 skips none.
        depths: Blocks per stage.
        sr_ratios: How much smaller the pooled map is, per stage; 1 for full attention.
        fixed_pool_size: Side of the pooled map; None follows `sr_ratios`.

    Reference: arXiv:2311.17132
    """

    variants = MappingProxyType(
        {
            "transnext_micro": _MICRO,
            "transnext_tiny": _TINY,
            "transnext_small": sized(_TINY, args={"depths": (5, 5, 22, 5)}, params=49_741_564, top1=84.7),
            "transnext_base": sized(
                _TINY,
                args={
                    "embed_dims": (96, 192, 384, 768),
                    "num_heads": (4, 8, 16, 32),
                    "depths": (5, 5, 23, 5),
                },
                params=89_721_496,
                top1=84.8,
            ),
            "transnext_micro_aaaa": sized(
                _MICRO,
                args={"window_size": (3, 3, 3, 3), "sr_ratios": (16, 8, 4, 2), "img_size": 256},
                params=13_114_008,
                top1=82.6,
                size=256,
            ),
        }
    )
    stated_in = "README.md of DaiShiResearch/TransNeXt at 2000243"
    stated_gmac = MappingProxyType(
        {
            "transnext_micro": 2.7,
            "transnext_tiny": 5.7,
            "transnext_small": 10.3,
            "transnext_base": 18.4,
            "transnext_micro_aaaa": 3.3,
        }
    )
    renames: ClassVar[Sequence[Rule]] = (
        (r"^(patch_embed|block|norm)(\d)\.", lambda m: f"stages.{int(m[2]) - 1}.{m[1]}."),
        (r"dwconv\.dwconv\.", "dwconv."),
    )
    recomputed: ClassVar[Sequence[str]] = (
        r"relative_pos_index\d$",
        r"relative_coords_table\d$",
        r"seq_length_scale$",
        r"padding_mask$",
    )

    def __init__(
        self,
        img_size: int = 224,
        pretrain_size: int | None = None,
        window_size: Sequence[int | None] = (3, 3, 3, None),
        patch_size: int = 4,
        in_chans: int = 3,
        num_classes: int = 1000,
        embed_dims: Sequence[int] = (48, 96, 192, 384),
        num_heads: Sequence[int] = (2, 4, 8, 16),
        mlp_ratios: Sequence[float] = (8, 8, 4, 4),
        qkv_bias: bool = True,
        drop_path_rate: float = 0.0,
        depths: Sequence[int] = (2, 2, 15, 2),
        sr_ratios: Sequence[int] = (8, 4, 2, 1),
        fixed_pool_size: int | None = None,
    ) -> None:
        super().__init__(embed_dims, [patch_size * 2**stage for stage in range(len(depths))], num_classes)
        rates = drop_rates(drop_path_rate, depths)
        self.stages = nn.ModuleList()
        for stage, dim in enumerate(embed_dims):
            window, full = window_size[stage] or 3, sr_ratios[stage] == 1
            blocks = [
                Block(
                    dim,
                    num_heads[stage],
                    window,
                    int(dim * mlp_ratios[stage]),
                    qkv_bias,
                    full,
                    rate,
                    self._gates(stage, dim, num_heads[stage]),
                )
                for rate in rates[stage]
            ]
            embed = Embed(embed_dims[stage - 1], dim, 3, 2) if stage else _first(in_chans, dim, patch_size)
            side, trained = (s // (patch_size * 2**stage) for s in (img_size, pretrain_size or img_size))
            pool = fixed_pool_size
            self.stages.append(Stage(embed, blocks, dim, side, trained, sr_ratios[stage], pool, window))
        self.head = linear_head(self.num_features, num_classes)
        self.apply(small_normal)

    def _gates(self, stage: int, dim: int, n_heads: int) -> nn.Module | None:
        return None

    @classmethod
    def tiny(cls, **changes: Any) -> Self:
        """Four stages of one block.

        Args:
            changes: Constructor arguments that differ from the tiny ones.
        """
        small: dict[str, Any] = {
            "img_size": 64, "embed_dims": (16, 24, 32, 48), "num_heads": (2, 3, 4, 6), "mlp_ratios": (2, 2, 2, 2),
            "depths": (1, 1, 1, 1), "num_classes": 10,
        }  # fmt: skip
        return cls(**{**small, **changes})


def _first(in_chans: int, dim: int, patch_size: int) -> Embed:
    return Embed(in_chans, dim, 2 * patch_size - 1, patch_size)
