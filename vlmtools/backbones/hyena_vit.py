"""Hyena-ViT: a vision transformer with long two-dimensional convolutions between gates in the place of attention.

The authors' program is in a supplement that was not at hand, and of the paper only the abstract and the start: the
layer replaces attention in all blocks, or in the first ones with attention in those that follow. The sizes are those of
the small vision transformer with which data-efficient ones are compared (arXiv:2112.13492: 9 blocks of 192 channels, 12
heads, patches of 4 pixels for 32 and of 8 for 64) and of DeiT-T; the mean of the patches is classified. Parameters and
accuracy were not compared with published ones. FLOPs of the Fourier transforms are not counted.
"""

from types import MappingProxyType
from typing import Any, Self

import torch
from torch import Tensor, nn

from vlmtools.backbones import _vit
from vlmtools.backbones._init import small_normal
from vlmtools.backbones.base import Variant, drop_rates, linear_head, sized
from vlmtools.errors import BadInput
from vlmtools.layers.drop_path import DropPath
from vlmtools.layers.hyena_nd import HyenaND

_CIFAR = Variant(
    MappingProxyType({"img_size": 32, "patch_size": 4, "num_classes": 100}),
    size=32,
    licence="the program is in a supplement that was not read; written from the paper's abstract",
    source="no public repository",
    note="sizes of arXiv:2112.13492; not compared with published ones",
)
_T: dict[str, Any] = {
    "img_size": 224,
    "patch_size": 16,
    "num_classes": 1000,
    "depth": 12,
    "num_heads": 3,
    "mlp_ratio": 4.0,
}


class HyenaViT(_vit.TokenBackbone):
    """Vision transformer of Hyena layers, or of Hyena layers first and attention after them.

    Args:
        img_size: Side in pixels that position embeddings are made for; others are interpolated.
        patch_size: Side of a patch.
        in_chans: Channels of the images.
        num_classes: Outputs; 0 for none.
        embed_dim: Channels.
        depth: Blocks.
        n_attention: How many of the blocks, the last ones, attend instead, in [0, depth]; 0 none, depth all.
        num_heads: Heads of these.
        order: Gates of a Hyena layer, at least 2.
        mlp_ratio: Widening of the feed-forward part.
        drop_path_rate: Highest chance of skipping a block in training, in [0, 1); 0 skips none.

    Reference: arXiv:2309.13600

    Raises:
        BadInput: More blocks are to attend than there are.
    """

    variants = MappingProxyType(
        {
            "hyena_vit_cifar": _CIFAR,
            "hyena_vit_cifar_hybrid": sized(_CIFAR, args={"n_attention": 3}),
            "hyena_vit_tiny_imagenet": sized(
                _CIFAR, args={"img_size": 64, "patch_size": 8, "num_classes": 200}, size=64
            ),
            "hyena_vit_t16": sized(
                _CIFAR, args=_T, size=224, note="sizes of DeiT-T; not compared with published ones"
            ),
        }
    )

    def __init__(
        self,
        img_size: int = 32,
        patch_size: int = 4,
        in_chans: int = 3,
        num_classes: int = 100,
        embed_dim: int = 192,
        depth: int = 9,
        n_attention: int = 0,
        num_heads: int = 12,
        order: int = 2,
        mlp_ratio: float = 2.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        if not 0 <= n_attention <= depth:
            raise BadInput(
                f"n_attention is {n_attention}; there are {depth} blocks. Give a number from 0 to {depth}."
            )
        super().__init__(embed_dim, depth, patch_size, num_classes)
        self.patch_size = patch_size
        self.patch_embed = _vit.PatchEmbed(in_chans, embed_dim, patch_size)
        self.pos_embed = nn.Parameter(torch.zeros(1, (img_size // patch_size) ** 2, embed_dim))
        hidden, rates = int(embed_dim * mlp_ratio), drop_rates(drop_path_rate, [depth])[0]
        self.blocks = nn.ModuleList(
            _Block(embed_dim, HyenaND(embed_dim, order), hidden, rate)
            if block < depth - n_attention
            else _Block(embed_dim, _MapAttention(embed_dim, num_heads), hidden, rate)
            for block, rate in enumerate(rates)
        )
        self.norm = nn.LayerNorm(embed_dim, eps=1e-6)
        self.head = linear_head(embed_dim, num_classes)
        self.apply(small_normal)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)

    def forward_stages(self, x: Tensor, n_stages: int | None = None) -> list[Tensor]:
        """The map after each block.

        Args:
            x: Images.
            n_stages: Stop after this many blocks; None runs all.
        """
        x = self.patch_embed(x)
        size = (int(x.shape[-2]), int(x.shape[-1]))
        x = x + _vit.to_map(_vit.resized_positions(self.pos_embed, size, 0), size)
        maps = []
        for block in self.blocks[:n_stages]:
            x = block(x)
            maps.append(x)
        return maps

    def forward_features(self, x: Tensor) -> Tensor:
        """The last map, normalised.

        Args:
            x: Images.
        """
        return self.norm_map(self.forward_stages(x)[-1])

    def features_of(self, x: Tensor, maps: list[Tensor]) -> Tensor:
        """What `forward_features` gives.

        Args:
            x: Images.
            maps: What `forward_stages` gave.
        """
        return self.norm_map(maps[-1])

    def pool(self, x: Tensor) -> Tensor:
        """The mean over positions.

        Args:
            x: What `forward_features` gave.
        """
        return x.mean((-2, -1))

    @classmethod
    def tiny(cls, **changes: Any) -> Self:
        """One block that convolves and one that attends.

        Args:
            changes: Constructor arguments that differ from the tiny ones.
        """
        small: dict[str, Any] = {
            "img_size": 64, "patch_size": 8, "embed_dim": 32, "depth": 2, "n_attention": 1, "num_heads": 4,
            "num_classes": 10,
        }  # fmt: skip
        return cls(**{**small, **changes})


class _MapAttention(nn.Module):
    """Attention over the positions of a map."""

    def __init__(self, dim: int, n_heads: int) -> None:
        super().__init__()
        self.attn = _vit.Attention(dim, n_heads)

    def forward(self, x: Tensor) -> Tensor:
        seen: Tensor = self.attn(x.flatten(2).transpose(1, 2))
        return seen.transpose(1, 2).reshape(x.shape)


class _Block(nn.Module):
    def __init__(self, dim: int, mixer: nn.Module, hidden: int, rate: float) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim, eps=1e-6), nn.LayerNorm(dim, eps=1e-6)
        self.mixer, self.mlp, self.drop_path = mixer, _vit.Mlp(dim, hidden), DropPath(rate)

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.permute(0, 2, 3, 1)
        mixed = self.mixer(self.norm1(tokens).permute(0, 3, 1, 2))
        x = x + self.drop_path(mixed)
        fed = self.mlp(self.norm2(x.permute(0, 2, 3, 1))).permute(0, 3, 1, 2)
        out: Tensor = x + self.drop_path(fed)
        return out
