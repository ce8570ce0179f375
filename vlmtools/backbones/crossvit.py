"""CrossViT: a branch of small patches and one of large patches that exchange their class tokens."""

from collections.abc import Sequence
from types import MappingProxyType
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vlmtools.backbones._checkpoint import Rule
from vlmtools.backbones._crossvit import ConvPatches, Stage
from vlmtools.backbones._init import small_normal
from vlmtools.backbones._vit import PatchEmbed, to_map
from vlmtools.backbones.base import Backbone, Variant, linear_head, sized
from vlmtools.errors import BadInput

_TINY = Variant(
    MappingProxyType(
        {
            "img_size": (240, 224), "patch_size": (12, 16), "embed_dim": (96, 192), "depth": ((1, 4, 0),) * 3,
            "num_heads": (3, 3), "mlp_ratio": (4, 4, 1), "qkv_bias": True, "eps": 1e-6,
        }
    ),
    params=7_014_800,
    top1=73.4,
    size=240,
    licence="Apache-2.0",
    source="IBM/CrossViT",
)  # fmt: skip


def _sizes(
    width: int, n_heads: int, depth: int, params: int | None, top1: float | None = None, **more: Any
) -> Variant:
    args = {
        "embed_dim": (width, 2 * width), "num_heads": (n_heads, n_heads), "depth": ((1, depth, 0),) * 3,
        **more.pop("args", {}),
    }  # fmt: skip
    return sized(_TINY, args=args, params=params, top1=top1, **more)


_THREE = {"mlp_ratio": (3, 3, 1)}
_DAGGER = {**_THREE, "multi_conv": True}


class CrossViT(Backbone):
    """Two token branches of different patch size, fused by cross attention of class tokens.

    Images of any size are resized to those of the branches, as published; maps are those of the last branch.

    Args:
        img_size: Side of the images in every branch, in pixels.
        patch_size: Side of a patch in every branch, in pixels; only 12 and 16 with `multi_conv`.
        in_chans: Channels of the images.
        num_classes: Outputs; 0 for none.
        embed_dim: Channels of every branch.
        depth: For every stage, the blocks of each branch, then the cross attentions of a fusion (0 means 1).
        num_heads: Heads of every branch.
        mlp_ratio: Widening of the feed-forward part of every branch; the fusion's own entry has no effect.
        qkv_bias: Biases in the projections of queries, keys and values.
        drop_path_rate: Highest chance of skipping a branch in training, in [0, 1); 0 skips none.
        multi_conv: Cut patches by three convolutions instead of one (the variants named dagger).
        eps: Of the norms.

    Reference: arXiv:2103.14899
    """

    variants = MappingProxyType(
        {
            "crossvit_tiny_240": _TINY,
            "crossvit_small_240": _sizes(192, 6, 4, 26_856_272, 81.0),
            "crossvit_base_240": _sizes(384, 12, 4, 105_025_232, 82.2),
            "crossvit_9_240": _sizes(128, 4, 3, 8_553_296, 73.9, args=_THREE),
            "crossvit_15_240": _sizes(192, 6, 5, 27_528_464, 81.5, args=_THREE),
            "crossvit_18_240": _sizes(224, 7, 6, 43_271_408, 82.5, args=_THREE),
            "crossvit_9_dagger_240": _sizes(128, 4, 3, None, 77.1, args=_DAGGER),
            "crossvit_15_dagger_240": _sizes(192, 6, 5, None, 82.3, args=_DAGGER),
            "crossvit_18_dagger_240": _sizes(224, 7, 6, None, 82.8, args=_DAGGER),
            "crossvit_15_dagger_408": _sizes(
                192, 6, 5, None, 83.5, args={**_DAGGER, "img_size": (408, 384)}, size=408
            ),
            "crossvit_18_dagger_408": _sizes(
                224, 7, 6, None, 83.9, args={**_DAGGER, "img_size": (408, 384)}, size=408
            ),
        }
    )
    stated_in = (
        "arXiv:2103.14899, tables 2 and 4 (whose parameters of tiny, small, 15 and base, 6.9, 26.7, 27.4 and 104.7 "
        "million, are a little fewer than counted here)"
    )
    stated_gmac = MappingProxyType(
        {
            "crossvit_tiny_240": 1.6,
            "crossvit_small_240": 5.6,
            "crossvit_base_240": 21.2,
            "crossvit_9_240": 1.8,
            "crossvit_15_240": 5.8,
            "crossvit_18_240": 9.0,
            "crossvit_9_dagger_240": 2.0,
            "crossvit_15_dagger_240": 6.1,
            "crossvit_18_dagger_240": 9.5,
            "crossvit_15_dagger_408": 21.4,
            "crossvit_18_dagger_408": 32.4,
        }
    )
    renames: ClassVar[Sequence[Rule]] = (
        (r"^blocks\.", "stages."),
        # one cross attention stands alone in the authors' files, several are numbered
        (r"(\.fusion\.\d+)\.(norm1|attn)", r"\1.0.\2"),
    )

    def __init__(
        self,
        img_size: int | Sequence[int] = (224, 224),
        patch_size: Sequence[int] = (8, 16),
        in_chans: int = 3,
        num_classes: int = 1000,
        embed_dim: Sequence[int] = (192, 384),
        depth: Sequence[Sequence[int]] = ((1, 3, 1), (1, 3, 1), (1, 3, 1)),
        num_heads: Sequence[int] = (6, 12),
        mlp_ratio: Sequence[float] = (2.0, 2.0, 4.0),
        qkv_bias: bool = False,
        drop_path_rate: float = 0.0,
        multi_conv: bool = False,
        eps: float = 1e-5,
    ) -> None:
        super().__init__([embed_dim[-1]] * len(depth), [patch_size[-1]] * len(depth), num_classes)
        self.dims, self.num_features = list(embed_dim), sum(embed_dim)
        self.img_size = [img_size] * len(self.dims) if isinstance(img_size, int) else list(img_size)
        self.grids = [side // patch for side, patch in zip(self.img_size, patch_size, strict=True)]
        stem = ConvPatches if multi_conv else PatchEmbed
        self.patch_embed = nn.ModuleList(
            stem(in_chans, dim, patch) for dim, patch in zip(self.dims, patch_size, strict=True)
        )
        shapes = list(zip(self.grids, self.dims, strict=True))
        self.pos_embed = nn.ParameterList(
            nn.Parameter(torch.zeros(1, 1 + grid**2, dim)) for grid, dim in shapes
        )
        self.cls_token = nn.ParameterList(nn.Parameter(torch.zeros(1, 1, dim)) for dim in self.dims)
        rates = _rates(drop_path_rate, depth)
        self.stages = nn.ModuleList(
            Stage(self.dims, one, num_heads, mlp_ratio, qkv_bias, rate, eps)
            for one, rate in zip(depth, rates, strict=True)
        )
        self.norm = nn.ModuleList(nn.LayerNorm(dim, eps=eps) for dim in self.dims)
        self.head = nn.ModuleList(linear_head(dim, num_classes) for dim in self.dims)
        self.apply(small_normal)
        for table in [*self.pos_embed, *self.cls_token]:
            nn.init.trunc_normal_(table, std=0.02)

    @classmethod
    def tiny(cls, **changes: Any) -> Self:
        """Two stages of two narrow branches.

        Args:
            changes: Constructor arguments that differ from the tiny ones.
        """
        small: dict[str, Any] = {
            "img_size": (48, 64), "patch_size": (12, 16), "embed_dim": (16, 32), "depth": ((1, 2, 0), (1, 1, 2)),
            "num_heads": (2, 4), "mlp_ratio": (2, 2, 1), "qkv_bias": True, "num_classes": 10,
        }  # fmt: skip
        return cls(**{**small, **changes})

    def forward_branches(self, x: Tensor, n_stages: int | None = None) -> list[list[Tensor]]:
        """The tokens of all branches after every stage, class token first.

        Args:
            x: Images.
            n_stages: Stop after this many stages; None runs all.
        """
        branches, found = [self._tokens(x, index) for index in range(len(self.dims))], []
        for stage in self.stages[:n_stages]:
            branches = stage(branches)
            found.append(branches)
        return found

    def forward_stages(self, x: Tensor, n_stages: int | None = None) -> list[Tensor]:
        """The map of the last branch after every stage.

        Args:
            x: Images.
            n_stages: Stop after this many stages; None runs all.
        """
        size = (self.grids[-1], self.grids[-1])
        return [to_map(branches[-1][:, 1:], size) for branches in self.forward_branches(x, n_stages)]

    def forward_features(self, x: Tensor) -> Tensor:
        """The normalised class tokens of all branches, side by side.

        Args:
            x: Images.
        """
        branches = self.forward_branches(x)[-1]
        tokens = [norm(one[:, 0]) for norm, one in zip(self._norms(), branches, strict=True)]
        return torch.cat(tokens, dim=-1)

    def features_of(self, x: Tensor, maps: list[Tensor]) -> Tensor:
        """What `forward_features` gives; class tokens are in no map, so they are computed again.

        Args:
            x: Images.
            maps: What `forward_stages` gave.
        """
        return self.forward_features(x)

    def norm_map(self, x: Tensor) -> Tensor:
        """The last map, normalised.

        Args:
            x: Map.
        """
        out: Tensor = self._norms()[-1](x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return out

    def pool(self, x: Tensor) -> Tensor:
        """The class tokens as they are.

        Args:
            x: What `forward_features` gave.
        """
        return x

    def classify(self, pooled: Tensor) -> Tensor:
        """Mean of the logits of all branches.

        Args:
            pooled: What `pool` gave.
        """
        if self.num_classes == 0:
            return pooled
        pairs = zip(self._heads(), torch.split(pooled, self.dims, dim=-1), strict=True)
        return torch.stack([head(token) for head, token in pairs]).mean(0)

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Put fresh classifiers on, one per branch.

        Args:
            num_classes: Outputs; 0 removes the classifiers.
            global_pool: Unused here; only the class tokens are classified.

        Raises:
            BadInput: Another pooling was asked for.
        """
        if global_pool not in (None, "", "token"):
            raise BadInput(
                f"global_pool={global_pool!r}: CrossViT classifies its class tokens. Leave it out."
            )
        old = next(self.parameters())
        self.num_classes = num_classes
        heads = [linear_head(dim, num_classes) for dim in self.dims]
        self.head = nn.ModuleList(heads).to(old.device, old.dtype)

    def _tokens(self, x: Tensor, index: int) -> Tensor:
        size = (self.img_size[index], self.img_size[index])
        if tuple(x.shape[-2:]) != size:
            x = F.interpolate(x, size=size, mode="bicubic")
        patches = self.patch_embed[index](x).flatten(2).transpose(1, 2)
        first = self.cls_token[index].expand(x.shape[0], -1, -1)
        out: Tensor = torch.cat([first, patches], dim=1) + self.pos_embed[index]
        return out

    def _norms(self) -> list[nn.Module]:
        return list(self.norm.children())

    def _heads(self) -> list[nn.Module]:
        return list(self.head.children())


def _rates(highest: float, depth: Sequence[Sequence[int]]) -> list[list[float]]:
    """Chances of skipping, as published: the step is counted over the last two entries of every stage."""
    step = highest / max(sum(sum(one[-2:]) for one in depth) - 1, 1)
    lengths = [max(one[:-1]) + one[-1] for one in depth]
    starts = [sum(lengths[:index]) for index in range(len(lengths))]
    return [[step * (start + block) for block in range(n)] for start, n in zip(starts, lengths, strict=True)]
