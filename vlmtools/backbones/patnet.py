"""PATNet: convolutions on a quarter of the channels, attention by channel, position or token on the rest.

The authors' program is that of the later paper, PartialNet, whose dynamic convolution is off in every setting given out
and left out here. Sizes are those of its settings; the tables of both papers were not compared.
"""

from collections.abc import Sequence
from types import MappingProxyType
from typing import Any, ClassVar, Self

from torch import Tensor, nn

from vlmtools.backbones._checkpoint import Rule
from vlmtools.backbones._init import small_normal
from vlmtools.backbones.base import Backbone, Variant, drop_rates, linear_head, sized
from vlmtools.layers.drop_path import DropPath
from vlmtools.layers.partial_attention import PartialAttention, PartialSpatialAttention

_T0 = Variant(
    MappingProxyType({"embed_dim": 32, "depths": (1, 2, 8, 2), "act_layer": "gelu", "spatial": False}),
    params=3_486_160,
    licence="MIT",
    source="haiduo/PartialNet",
    note="sizes of the authors' settings of PartialNet",
)
_T2 = sized(_T0, args={"embed_dim": 64, "depths": (2, 2, 6, 4), "act_layer": "relu"}, params=12_269_816)


class PATNet(Backbone):
    """Four stages of partial attention; the last one attends over all positions.

    Args:
        in_chans: Channels of the images.
        num_classes: Outputs; 0 for none.
        embed_dim: Width of the first stage; each later one is twice as wide.
        depths: Blocks per stage.
        mlp_ratio: Widening of the feed-forward part.
        n_div: One part in `n_div` of the channels is convolved.
        num_heads: Attention heads in the last stage.
        feature_dim: Width of the pooled features.
        act_layer: "relu" or "gelu".
        spatial: Whether the feed-forward part ends with attention by position.
        drop_path_rate: Highest chance of skipping a block in training, in [0, 1); 0 skips none.
        attn_drop: Chance of dropping an attention weight in training, in [0, 1); 0 drops none.

    Reference: arXiv:2503.03148; arXiv:2502.01303
    """

    variants = MappingProxyType(
        {
            "patnet_t0": _T0,
            "patnet_t1": sized(_T0, args={"embed_dim": 48, "spatial": True}, params=6_144_552),
            "patnet_t2": _T2,
            "patnet_s": sized(_T2, args={"embed_dim": 96, "depths": (2, 2, 9, 4)}, params=28_013_304),
            "patnet_m": sized(_T2, args={"embed_dim": 128, "depths": (2, 3, 16, 4)}, params=59_179_000),
            "patnet_l": sized(_T2, args={"embed_dim": 160, "depths": (2, 3, 20, 4)}, params=100_641_336),
        }
    )
    renames: ClassVar[Sequence[Rule]] = (
        (r"^patch_embed\.proj\.", "stages.0.embed.proj."),
        (r"^patch_embed\.norm\.", "stages.0.embed.norm."),
        (r"^stages\.([135])\.reduction\.", lambda m: f"stages.{(int(m[1]) + 1) // 2}.embed.proj."),
        (r"^stages\.([135])\.norm\.", lambda m: f"stages.{(int(m[1]) + 1) // 2}.embed.norm."),
        (r"^stages\.(\d)\.blocks\.", lambda m: f"stages.{int(m[1]) // 2}.blocks."),
        (r"\.attn\.rpe_k\.lookup_table_bias$", ".attn.bias"),
        (r"^avgpool_pre_head\.1\.", "pre_head."),
    )

    def __init__(
        self,
        in_chans: int = 3,
        num_classes: int = 1000,
        embed_dim: int = 96,
        depths: Sequence[int] = (2, 2, 9, 4),
        mlp_ratio: float = 2.0,
        n_div: int = 4,
        num_heads: int = 4,
        feature_dim: int = 1280,
        act_layer: str = "relu",
        spatial: bool = True,
        drop_path_rate: float = 0.0,
        attn_drop: float = 0.1,
    ) -> None:
        widths = [embed_dim * 2**stage for stage in range(len(depths))]
        super().__init__(widths, [4 * 2**stage for stage in range(len(depths))], num_classes)
        act = {"relu": nn.ReLU, "gelu": nn.GELU}[act_layer]
        rates = drop_rates(drop_path_rate, depths)
        self.stages = nn.ModuleList()
        for stage, dim in enumerate(widths):
            heads = num_heads if stage == len(depths) - 1 else 0
            blocks = [
                _Block(
                    dim,
                    PartialAttention(dim, n_div, heads, attn_drop),
                    int(dim * mlp_ratio),
                    act,
                    spatial,
                    rate,
                )
                for rate in rates[stage]
            ]
            patch = 2 if stage else 4
            self.stages.append(_Stage(_Embed(widths[stage - 1] if stage else in_chans, dim, patch), blocks))
        self.pre_head, self.act = nn.Conv2d(widths[-1], feature_dim, 1, bias=False), act()
        self.num_features = feature_dim
        self.head = linear_head(feature_dim, num_classes)
        self.apply(small_normal)

    def pool(self, x: Tensor) -> Tensor:
        """The mean over positions, widened.

        Args:
            x: What `forward_features` gave.
        """
        out: Tensor = self.act(self.pre_head(x.mean((-2, -1), keepdim=True)))
        return out.flatten(1)

    @classmethod
    def tiny(cls, **changes: Any) -> Self:
        """Four stages of one or two blocks, with every kind of attention.

        Args:
            changes: Constructor arguments that differ from the tiny ones.
        """
        small: dict[str, Any] = {
            "embed_dim": 16, "depths": (1, 1, 2, 2), "feature_dim": 64, "attn_drop": 0.0, "num_classes": 10,
        }  # fmt: skip
        return cls(**{**small, **changes})


class _Embed(nn.Module):
    def __init__(self, dim_in: int, dim: int, patch: int) -> None:
        super().__init__()
        self.proj, self.norm = nn.Conv2d(dim_in, dim, patch, patch, bias=False), nn.BatchNorm2d(dim)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.norm(self.proj(x))
        return out


class _Stage(nn.Module):
    def __init__(self, embed: nn.Module, blocks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.embed, self.blocks = embed, nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.blocks(self.embed(x))
        return out


class _Block(nn.Module):
    """Partial attention, then the feed-forward part; each has its own way round only where tokens are attended."""

    def __init__(
        self,
        dim: int,
        mixer: PartialAttention,
        hidden: int,
        act: type[nn.Module],
        spatial: bool,
        rate: float,
    ) -> None:
        super().__init__()
        self.spatial_mixing, self.drop_path = mixer, DropPath(rate)
        parts = [
            nn.Conv2d(dim, hidden, 1, bias=False),
            nn.BatchNorm2d(hidden),
            act(),
            nn.Conv2d(hidden, dim, 1, bias=False),
        ]
        self.mlp = nn.Sequential(*parts, *([PartialSpatialAttention(dim)] if spatial else []))

    def forward(self, x: Tensor) -> Tensor:
        mixed = self.spatial_mixing(x)
        if self.spatial_mixing.attends:
            x = mixed = x + mixed
        out: Tensor = x + self.drop_path(self.mlp(mixed))
        return out
