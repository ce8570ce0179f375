"""EViT: a vision transformer that drops or fuses the patches that its class token ignores."""

from collections.abc import Sequence
from types import MappingProxyType
from typing import Any, Self

import torch
from torch import Tensor, nn

from vlmtools.backbones import _vit
from vlmtools.backbones._init import small_normal
from vlmtools.backbones.base import Variant, drop_rates, linear_head, sized
from vlmtools.layers.token_reduction import keep_attended

_S = Variant(
    MappingProxyType({"embed_dim": 384, "num_heads": 6}),
    params=22_050_664,
    top1=79.8,
    licence="Apache-2.0",
    source="youweiliang/evit",
    note="keeps everything until keep_rate says less; top-1 79.8 at 0.9, 79.5 at 0.7, 78.5 at 0.5 (fused)",
)


class EViT(_vit.TokenBackbone):
    """Vision transformer with token reduction.

    Args:
        img_size: Side in pixels that position embeddings are made for; others are interpolated.
        patch_size: Side of a patch.
        in_chans: Channels of the images.
        num_classes: Outputs; 0 for none.
        embed_dim: Channels.
        depth: Blocks.
        num_heads: Heads.
        mlp_ratio: Widening of the feed-forward part.
        qkv_bias: Biases in the projections.
        drop_path_rate: Highest chance of skipping a block in training, in [0, 1); 0 skips none.
        keep_rate: Share of patches kept, for every block or one for all, in (0, 1]; 1 keeps all.
        fuse_token: Keep a weighed sum of the dropped patches.

    Reference: arXiv:2202.07800
    """

    variants = MappingProxyType(
        {
            "deit_small_patch16_shrink_base": _S,
            "deit_base_patch16_shrink_base": sized(
                _S, args={"embed_dim": 768, "num_heads": 12}, params=86_567_656, top1=81.8, note=""
            ),
        }
    )
    stated_in = (
        "arXiv:2103.14899, table 2, of DeiT-S and DeiT-B, which these are as long as everything is kept; accuracies at "
        "other rates: README.md of youweiliang/evit"
    )
    stated_gmac = MappingProxyType(
        {"deit_small_patch16_shrink_base": 4.6, "deit_base_patch16_shrink_base": 17.6}
    )
    tiny_sizes = (64, 96)

    def __init__(
        self,
        img_size: int = 224,
        patch_size: int = 16,
        in_chans: int = 3,
        num_classes: int = 1000,
        embed_dim: int = 384,
        depth: int = 12,
        num_heads: int = 6,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        drop_path_rate: float = 0.0,
        keep_rate: Sequence[float] = (1,),
        fuse_token: bool = False,
    ) -> None:
        super().__init__(embed_dim, depth, patch_size, num_classes)
        self.patch_size = patch_size
        self.keep_rate = tuple(keep_rate) * (depth if len(keep_rate) == 1 else 1)
        self.fuse_token = fuse_token
        self.patch_embed = _vit.PatchEmbed(in_chans, embed_dim, patch_size)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, embed_dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, (img_size // patch_size) ** 2 + 1, embed_dim))
        rates = drop_rates(drop_path_rate, [depth])[0]
        self.blocks = nn.ModuleList(
            _vit.Block(embed_dim, num_heads, mlp_ratio, qkv_bias, rate) for rate in rates
        )
        self.norm = nn.LayerNorm(embed_dim, eps=1e-6)
        self.head = linear_head(embed_dim, num_classes)
        self.apply(small_normal)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        nn.init.trunc_normal_(self.cls_token, std=0.02)

    def embed(self, x: Tensor) -> Tensor:
        """Class token and patches, with their positions.

        Args:
            x: Images.
        """
        return _vit.with_class_token(self.patch_embed(x), self.cls_token, self.pos_embed)

    def forward_tokens(
        self, x: Tensor, keep_rate: float | Sequence[float] | None = None
    ) -> tuple[Tensor, list[Tensor]]:
        """Normalised tokens that are left, and which patches each reducing block kept.

        Args:
            x: Images.
            keep_rate: Another share for the blocks that reduce, or one per block; None keeps the model's own.
        """
        x, kept = self.embed(x), []
        for block, own, given in zip(self.blocks, self.keep_rate, self._rates(keep_rate), strict=True):
            rate = own if given is None else (given if own < 1 else 1.0)
            x, best = self._reduced(block, x, rate)
            if best is not None:
                kept.append(best)
        return self.norm(x), kept

    def _rates(self, given: float | Sequence[float] | None) -> Sequence[float | None]:
        if given is None or isinstance(given, (int, float)):
            return [given] * len(self.blocks)
        return list(given)

    def _reduced(self, block: Any, x: Tensor, rate: float) -> tuple[Tensor, Tensor | None]:
        if rate >= 1:
            return block(x), None
        q, k, v = block.attn.split(block.norm1(x))
        weights = (q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5).softmax(-1)
        x = x + block.drop_path(block.attn.proj((weights @ v).transpose(1, 2).flatten(2)))
        x, best = keep_attended(x, weights[:, :, 0, 1:], rate, self.fuse_token)
        return x + block.drop_path(block.mlp(block.norm2(x))), best

    def forward_stages(self, x: Tensor, n_stages: int | None = None) -> list[Tensor]:
        """The map after each block, with nothing dropped: dropped patches would leave holes in a map.

        Args:
            x: Images.
            n_stages: Stop after this many blocks; None runs all.
        """
        size = (x.shape[-2] // self.patch_size, x.shape[-1] // self.patch_size)
        maps, x = [], self.embed(x)
        for block in self.blocks[:n_stages]:
            x = block(x)
            maps.append(_vit.to_map(x[:, 1:], size))
        return maps

    def forward_features(self, x: Tensor) -> Tensor:
        """Normalised tokens that are left.

        Args:
            x: Images.
        """
        return self.forward_tokens(x)[0]

    @classmethod
    def tiny(cls, **changes: Any) -> Self:
        """Four blocks, two of which reduce and fuse.

        Args:
            changes: Constructor arguments that differ from the tiny ones.
        """
        small: dict[str, Any] = {
            "img_size": 64, "patch_size": 8, "embed_dim": 32, "depth": 4, "num_heads": 4, "mlp_ratio": 2,
            "keep_rate": (1, 0.7, 1, 0.5), "fuse_token": True, "num_classes": 10,
        }  # fmt: skip
        return cls(**{**small, **changes})
