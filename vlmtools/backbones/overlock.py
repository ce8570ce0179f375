"""OverLoCK: look at the whole picture first, then closely, with kernels that the overview shapes."""

from collections.abc import Sequence
from types import MappingProxyType
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vlmtools.backbones._checkpoint import Rule
from vlmtools.backbones._overlock import SEEN_AS_LAYER, DynamicConvBlock, RepConvBlock
from vlmtools.backbones.base import Backbone, Variant, linear_head, sized
from vlmtools.layers.dilated_reparam import DilatedReparamConv

_XT = Variant(
    MappingProxyType({"depth": (2, 2, 3, 2), "sub_depth": (6, 2)}),
    params=17_307_272,
    top1=82.7,
    licence="Apache-2.0",
    source="LMMMEng/OverLoCK",
    note="parameters include the auxiliary head, which only training uses",
)


def _size(params: int, top1: float, **args: Any) -> Variant:
    return sized(_XT, params=params, top1=top1, args=args)


class OverLoCK(Backbone):
    """Base net, overview net and focus net.

    Args:
        depth: Blocks of the four stages before the focus net.
        sub_depth: Blocks of the two focus stages.
        in_chans: Channels of the images.
        embed_dim: Width of each stage.
        kernel_size: Side of the large kernel per stage.
        mlp_ratio: Widening of the feed-forward part per stage.
        sub_mlp_ratio: The same for the focus stages.
        sub_num_heads: Half the number of dynamic kernels per position in the focus stages.
        ls_init_value: First factor of the layer scale per stage; None for none.
        res_scale: Scale the identity instead of the branch.
        smk_size: Side of the small dynamic kernel.
        deploy: Start with merged kernels, to load merged weights.
        use_ds: Have an auxiliary classifier on the overview; `forward_train` gives its logits.
        drop_path_rate: Highest chance of skipping a block in training, in [0, 1); 0 skips none.
        projection: Width before the classifier.
        num_classes: Outputs; 0 for none.
        use_gemm: Unused, kept because the authors have it.

    Reference: arXiv:2502.20087
    """

    variants = MappingProxyType(
        {
            "overlock_xt": _XT,
            "overlock_t": _size(
                34_990_472, 84.2, depth=(4, 4, 6, 2), sub_depth=(12, 2), embed_dim=(64, 128, 256, 512),
                sub_num_heads=(4, 8),
            ),
            "overlock_s": _size(
                58_309_772, 84.8, depth=(6, 6, 8, 3), sub_depth=(16, 3), embed_dim=(64, 128, 320, 512),
                sub_num_heads=(8, 16),
            ),
            "overlock_b": _size(
                98_012_968, 85.1, depth=(8, 8, 10, 4), sub_depth=(20, 4), embed_dim=(80, 160, 384, 576),
                sub_num_heads=(6, 9),
            ),
        }
    )  # fmt: skip
    stated_in = "README.md of LMMMEng/OverLoCK at 2552ff2"
    stated_gmac = MappingProxyType(
        {"overlock_xt": 2.6, "overlock_t": 5.5, "overlock_s": 9.7, "overlock_b": 16.7}
    )
    gmac_apart = MappingProxyType(
        {
            f"overlock_{size}": "stated of the model with merged kernels (`merge()`), which counts within 3 % of it"
            for size in ("xt", "t", "s", "b")
        }
    )
    renames: ClassVar[Sequence[Rule]] = (
        (r"^head\.([01])\.", r"neck.\1."),
        (r"^head\.4\.", "head."),
        *SEEN_AS_LAYER,
    )
    training_only = ("aux_head",)
    sub_blocks3: nn.ModuleList
    sub_blocks4: nn.ModuleList
    tiny_sizes = (64, 96)

    def __init__(
        self,
        depth: Sequence[int] = (2, 2, 3, 2),
        sub_depth: Sequence[int] = (6, 2),
        in_chans: int = 3,
        embed_dim: Sequence[int] = (56, 112, 256, 336),
        kernel_size: Sequence[int] = (17, 15, 13, 7),
        mlp_ratio: Sequence[float] = (4, 4, 4, 4),
        sub_mlp_ratio: Sequence[float] = (3, 3),
        sub_num_heads: Sequence[int] = (4, 6),
        ls_init_value: Sequence[float | None] = (None, None, 1, 1),
        res_scale: bool = True,
        smk_size: int = 5,
        deploy: bool = False,
        use_ds: bool = True,
        drop_path_rate: float = 0.0,
        projection: int = 1024,
        num_classes: int = 1000,
        use_gemm: bool = False,
    ) -> None:
        context = embed_dim[-1] // 4
        fused = embed_dim[-1] + context
        super().__init__([*embed_dim[:3], fused], (4, 8, 16, 32), num_classes)
        self.num_features = projection
        n_blocks = sum(depth) + sum(sub_depth)
        rates = iter([drop_path_rate * block / max(n_blocks - 1, 1) for block in range(n_blocks)])
        self.patch_embed1 = _stem(in_chans, embed_dim[0])
        for stage in (2, 3, 4):
            setattr(
                self,
                f"patch_embed{stage}",
                nn.Sequential(*_halve(embed_dim[stage - 2], embed_dim[stage - 1])),
            )
        for stage, dim in enumerate(embed_dim):
            blocks = [
                RepConvBlock(
                    dim,
                    kernel_size[stage],
                    mlp_ratio[stage],
                    ls_init_value[stage],
                    res_scale,
                    next(rates),
                    deploy,
                )
                for _ in range(depth[stage])
            ]
            setattr(self, f"blocks{stage + 1}", nn.ModuleList(blocks))
        self.high_level_proj = nn.Conv2d(embed_dim[-1], context, 1)
        self.patch_embedx = _HalveBoth(embed_dim[2], embed_dim[3], context)
        for sub, (stage, kernel) in enumerate(((2, kernel_size[2]), (3, kernel_size[-1]))):
            focus = [
                DynamicConvBlock(
                    embed_dim[stage], context, kernel, smk_size, 2 * sub_num_heads[sub], sub_mlp_ratio[sub],
                    ls_init_value[stage], res_scale, next(rates), sub == 0 and block == 0, deploy,
                )
                for block in range(sub_depth[sub])
            ]  # fmt: skip
            setattr(self, f"sub_blocks{stage + 1}", nn.ModuleList(focus))
        self.aux_head = _aux(embed_dim[-1], num_classes) if use_ds else None
        self.neck = nn.Sequential(
            nn.Conv2d(fused, projection, 1, bias=False), nn.BatchNorm2d(projection), nn.SiLU()
        )
        self.head = linear_head(projection, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward_overview(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        """Maps of the first three stages, and what the overview net sees.

        Args:
            x: Images.
        """
        maps = []
        for stage in (1, 2, 3, 4):
            x = getattr(self, f"patch_embed{stage}")(x)
            for block in getattr(self, f"blocks{stage}"):
                x = block(x)
            maps.append(x)
        return maps[:3], maps[3]

    def forward_focus(self, x: Tensor, overview: Tensor) -> list[Tensor]:
        """Maps of the two focus stages; the last has the context's channels at its end.

        Args:
            x: Map of the third stage.
            overview: What the overview net saw.
        """
        small = self.high_level_proj(overview)
        context = first = F.interpolate(small, size=x.shape[-2:], mode="bilinear", align_corners=False)
        for block in self.sub_blocks3:
            x, context = block(x, context, first)
        middle = x
        x, context = self.patch_embedx(x, context)
        for block in self.sub_blocks4:
            x, context = block(x, context, small)
        return [middle, torch.cat([x, context], dim=1)]

    def forward_stages(self, x: Tensor, n_stages: int | None = None) -> list[Tensor]:
        """Maps of the first two stages and of the two focus stages.

        Args:
            x: Images.
            n_stages: How many to give; all are computed.
        """
        maps, overview = self.forward_overview(x)
        return [*maps[:2], *self.forward_focus(maps[2], overview)][:n_stages]

    def forward_train(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Logits, and the auxiliary logits of the overview when there is an auxiliary classifier.

        Args:
            x: Images.
        """
        maps, overview = self.forward_overview(x)
        logits = self.forward_head(self.forward_focus(maps[2], overview)[-1])
        return logits, None if self.aux_head is None else self.aux_head(overview).flatten(1)

    def pool(self, x: Tensor) -> Tensor:
        """One vector per image: project, then average.

        Args:
            x: What `forward_features` gave.
        """
        pooled: Tensor = self.neck(x).mean((-2, -1))
        return pooled

    def merge(self) -> Self:
        """Fold the helpers of all large kernels in; for inference."""
        for module in self.modules():
            if isinstance(module, DilatedReparamConv):
                module.merge()
        return self

    @classmethod
    def tiny(cls, **changes: Any) -> Self:
        """Few narrow blocks.

        Args:
            changes: Constructor arguments that differ from the tiny ones.
        """
        small: dict[str, Any] = {
            "depth": (1, 1, 1, 1), "sub_depth": (2, 1), "embed_dim": (8, 16, 16, 32), "kernel_size": (9, 7, 5, 5),
            "mlp_ratio": (2, 2, 2, 2), "sub_mlp_ratio": (2, 2), "sub_num_heads": (1, 2), "smk_size": 3,
            "projection": 32, "num_classes": 10,
        }  # fmt: skip
        return cls(**{**small, **changes})


def _halve(dim_in: int, dim: int) -> tuple[nn.Module, nn.Module]:
    return nn.Conv2d(dim_in, dim, 3, 2, 1, bias=False), nn.BatchNorm2d(dim)


def _stem(in_chans: int, dim: int) -> nn.Module:
    half = dim // 2
    return nn.Sequential(
        *_halve(in_chans, half), nn.GELU(), nn.Conv2d(half, half, 3, 1, 1, bias=False), nn.BatchNorm2d(half),
        nn.GELU(), *_halve(half, dim), nn.GELU(), nn.Conv2d(dim, dim, 3, 1, 1, bias=False), nn.BatchNorm2d(dim),
    )  # fmt: skip


def _aux(dim: int, num_classes: int) -> nn.Module:
    head = nn.Conv2d(dim, num_classes, 1) if num_classes > 0 else nn.Identity()
    return nn.Sequential(nn.BatchNorm2d(dim), nn.AdaptiveAvgPool2d(1), head)


class _HalveBoth(nn.Module):
    def __init__(self, dim_in: int, dim: int, context: int) -> None:
        super().__init__()
        self.x_proj = nn.Sequential(*_halve(dim_in, dim))
        self.h_proj = nn.Sequential(*_halve(context, context))

    def forward(self, x: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        return self.x_proj(x), self.h_proj(context)
