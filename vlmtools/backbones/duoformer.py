"""DuoFormer: the pyramid of a residual network, attended across scales inside each region, then across regions.

The authors' repository is not to be had; the network follows a public copy of their pre-release (its smaller form,
without pretrained transformer) whose outputs it repeats. The published count of parameters and FLOPs was not at hand.
"""

from collections.abc import Sequence
from types import MappingProxyType
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from vlmtools.backbones import _vit
from vlmtools.backbones._checkpoint import Rule
from vlmtools.backbones._init import small_normal
from vlmtools.backbones._resnet import ResNet
from vlmtools.backbones.base import Backbone, Variant, linear_head, sized
from vlmtools.errors import BadInput
from vlmtools.layers.scale_region_attention import ScaleAttention, ScaleBlock, region_tokens

_R50 = Variant(
    MappingProxyType({"n_scales": 4}),
    params=140_739_624,
    licence="none in the public copy that was read; ours is written anew",
    source="xiaoyatang/DuoFormer; read in AliSerwat/duoformer_TCGA",
    note="1000 classes; the authors train on medical pictures",
)


class DuoFormer(Backbone):
    """A residual network, blocks across scales, and attention across regions with a class token.

    Args:
        img_size: Side in pixels that position embeddings are made for; other multiples of 32 are interpolated.
        in_chans: Channels of the images.
        num_classes: Outputs; 0 for none.
        embed_dim: Channels of a token.
        depth: Blocks of each kind.
        num_heads: Heads.
        mlp_ratio: Widening of the feed-forward part.
        n_scales: How many maps, the last ones of the pyramid, give tokens: 2, 3 or 4.
        scale_token: What stands first in every region and carries it on: "random", a learned token, or "channel", a
            mixture of all four maps.
        resnet_depths: Blocks per stage of the residual network.
        resnet_width: Channels of its stem.
        bottleneck: Whether its blocks have three convolutions (ResNet-50) or two (ResNet-18).
        norm_before_head: Normalise the class token before the classifier. The authors' program computes this norm and
            does not use it; False repeats that.

    Reference: arXiv:2506.12982
    """

    variants = MappingProxyType(
        {
            "duoformer_r50_4": _R50,
            "duoformer_r50_3": sized(_R50, args={"n_scales": 3}, params=140_493_096),
            "duoformer_r50_2": sized(_R50, args={"n_scales": 2}, params=140_086_824),
            "duoformer_r50_4_channel": sized(_R50, args={"scale_token": "channel"}, params=186_755_368),
            "duoformer_r50_2_channel": sized(
                _R50, args={"n_scales": 2, "scale_token": "channel"}, params=186_102_568
            ),
            "duoformer_r18_4": sized(
                _R50,
                args={
                    "resnet_depths": (2, 2, 2, 2), "bottleneck": False, "embed_dim": 384, "depth": 6, "num_heads": 6,
                },
                params=26_180_392,
            ),
        }
    )  # fmt: skip
    renames: ClassVar[Sequence[Rule]] = (
        (r"^resnet_projector\.([01])\.", r"resnet.stem.\1."),
        (r"^resnet_projector\.(\d)\.", lambda m: f"resnet.stages.{int(m[1]) - 4}."),
        (r"^projection\.proj_heads(\d)\.", r"projections.\1."),
        (r"^channel_token$", "first.token"),
        (r"^chann_proj([12])\.conv(\d)\.", lambda m: f"first.level{m[1]}.{int(m[2]) - 1}."),
        (r"^chann_proj_all\.nConvs\.(\d)\.conv\.", r"first.mix.\1.0."),
        (r"^chann_proj_all\.nConvs\.(\d)\.norm\.", r"first.mix.\1.1."),
        (r"^vision_transformer\.", ""),
        (r"^pos_embed_for_scale$", "scale_pos_embed"),
        (r"^scaleBlocks\.(\d+)\.mlp\.fc1\.", r"scale_blocks.\1.mlp.0."),
        (r"^scaleBlocks\.(\d+)\.mlp\.fc2\.", r"scale_blocks.\1.mlp.2."),
        (r"^scaleBlocks\.", "scale_blocks."),
        (r"^blocks\.(\d+)\.attn\.", r"region_blocks.\1."),
        (r"^fc_norm\.", "norm."),
    )
    training_only = ("norm.",)  # in the authors' program too

    def __init__(
        self,
        img_size: int = 224,
        in_chans: int = 3,
        num_classes: int = 1000,
        embed_dim: int = 768,
        depth: int = 12,
        num_heads: int = 12,
        mlp_ratio: float = 4.0,
        n_scales: int = 4,
        scale_token: str = "random",
        resnet_depths: Sequence[int] = (3, 4, 6, 3),
        resnet_width: int = 64,
        bottleneck: bool = True,
        norm_before_head: bool = False,
    ) -> None:
        resnet = ResNet(in_chans, resnet_depths, resnet_width, bottleneck)
        super().__init__([*resnet.widths, embed_dim], [4, 8, 16, 32, 32], num_classes)
        for index, info in enumerate(self.feature_info):
            info["module"] = f"resnet.stages.{index}" if index < 4 else "region_blocks"
        self.resnet, self.norm_before_head = resnet, norm_before_head
        self.levels = range(4 - n_scales, 4)
        self.projections = nn.ModuleDict(
            {str(level): nn.Conv2d(resnet.widths[level], embed_dim, 1) for level in self.levels}
        )
        self.first = (
            _ChannelToken(resnet.widths, embed_dim) if scale_token == "channel" else _LearnedToken(embed_dim)
        )
        n_tokens = 1 + sum(4 ** (3 - level) for level in self.levels)
        self.scale_pos_embed = nn.Parameter(torch.zeros(1, 1, n_tokens, embed_dim))
        self.cls_token = nn.Parameter(torch.zeros(1, 1, embed_dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + (img_size // 32) ** 2, embed_dim))
        self.scale_blocks = nn.ModuleList(
            ScaleBlock(embed_dim, num_heads, mlp_ratio, None, 1e-6) for _ in range(depth)
        )
        self.region_blocks = nn.ModuleList(ScaleAttention(embed_dim, num_heads) for _ in range(depth))
        self.norm = nn.LayerNorm(embed_dim, eps=1e-6)
        self.head = linear_head(embed_dim, num_classes)
        self._start()

    def _start(self) -> None:
        self.apply(small_normal)
        for table in (self.scale_pos_embed, self.pos_embed, self.cls_token):
            nn.init.trunc_normal_(table, std=0.036)
        # nothing goes round the attention across regions: with small weights the class token would fade block by block
        for block in self.region_blocks.modules():
            if isinstance(block, nn.Linear):
                nn.init.xavier_uniform_(block.weight)

    def region_scales(self, maps: Sequence[Tensor]) -> Tensor:
        """Tokens of all scales, region by region, the scale token first.

        Args:
            maps: Of the residual network, all four.
        """
        tokens = [
            region_tokens(self.projections[str(level)](maps[level]), 2 ** (3 - level), by_column=level == 2)
            for level in reversed(self.levels)
        ]
        first = self.first(maps)
        return torch.cat([first.expand(*tokens[0].shape[:2], -1, -1), *tokens], dim=2) + self.scale_pos_embed

    def forward_tokens(self, maps: Sequence[Tensor]) -> Tensor:
        """The class token and one token per region.

        Args:
            maps: Of the residual network, all four.
        """
        x = self.region_scales(maps)
        for block in self.scale_blocks:
            x = block(x)
        x = torch.cat([self.cls_token.expand(x.shape[0], -1, -1), x[:, :, 0]], dim=1)
        size = (int(maps[-1].shape[-2]), int(maps[-1].shape[-1]))
        x = x + _vit.resized_positions(self.pos_embed, size)
        for block in self.region_blocks:
            x = block(x)
        return x

    def _maps(self, x: Tensor) -> list[Tensor]:
        if x.shape[-2] % 32 or x.shape[-1] % 32:
            raise BadInput(
                f"Images of {x.shape[-2]} x {x.shape[-1]} pixels were given; the regions of DuoFormer are 32 pixels "
                "wide at every scale. Resize or pad both sides to multiples of 32."
            )
        maps: list[Tensor] = self.resnet(x)
        return maps

    def forward_features(self, x: Tensor) -> Tensor:
        """The class token and one token per region.

        Args:
            x: Images.
        """
        return self.forward_tokens(self._maps(x))

    def forward_stages(self, x: Tensor, n_stages: int | None = None) -> list[Tensor]:
        """The four maps of the residual network, then the regions.

        Args:
            x: Images.
            n_stages: Stop after this many maps; None gives all.
        """
        maps = self._maps(x)
        if n_stages is None or n_stages > 4:
            size = (int(maps[-1].shape[-2]), int(maps[-1].shape[-1]))
            maps.append(_vit.to_map(self.forward_tokens(maps)[:, 1:], size))
        return maps[:n_stages]

    def norm_map(self, x: Tensor) -> Tensor:
        """The last map, normalised.

        Args:
            x: Map.
        """
        out: Tensor = self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return out

    def features_of(self, x: Tensor, maps: list[Tensor]) -> Tensor:
        """What `forward_features` gives; the class token is in no map.

        Args:
            x: Images.
            maps: What `forward_stages` gave.
        """
        return self.forward_tokens(maps[:4])

    def pool(self, x: Tensor) -> Tensor:
        """The class token.

        Args:
            x: What `forward_features` gave.
        """
        first = x[:, 0]
        return self.norm(first) if self.norm_before_head else first

    @classmethod
    def tiny(cls, **changes: Any) -> Self:
        """Two blocks of each kind over a narrow residual network.

        Args:
            changes: Constructor arguments that differ from the tiny ones.
        """
        small: dict[str, Any] = {
            "img_size": 64, "embed_dim": 16, "depth": 2, "num_heads": 4, "mlp_ratio": 2, "n_scales": 3,
            "resnet_depths": (1, 1, 1, 1), "resnet_width": 8, "bottleneck": False, "num_classes": 10,
        }  # fmt: skip
        return cls(**{**small, **changes})


class _LearnedToken(nn.Module):
    """The same token for every region of every picture."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.randn(1, 1, 1, dim) * 0.036)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        return self.token


class _ChannelToken(nn.Module):
    """All four maps brought to the size of the last and mixed."""

    def __init__(self, widths: Sequence[int], dim: int) -> None:
        super().__init__()
        self.level1 = nn.Sequential(
            *(nn.Conv2d(widths[0], widths[0], 3, 2, 1) for _ in range(2)), nn.MaxPool2d(2)
        )
        self.level2 = nn.Sequential(nn.Conv2d(widths[1], widths[1], 3, 2, 1), nn.MaxPool2d(2))
        self.level3 = nn.MaxPool2d(2)
        self.mix = nn.Sequential(
            *(
                nn.Sequential(
                    nn.Conv2d(dim if index else sum(widths), dim, 3, padding=1),
                    nn.BatchNorm2d(dim),
                    nn.ReLU(),
                )
                for index in range(4)
            )
        )

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        same = [self.level1(maps[0]), self.level2(maps[1]), self.level3(maps[2]), maps[3]]
        out: Tensor = self.mix(torch.cat(same, dim=1))
        return out.flatten(2).transpose(1, 2).unsqueeze(2)
