"""ConvShareViT: a vision transformer whose linear layers are convolutions with shared kernels, for an optical bench.

Every token is laid out as a square image and convolved without padding; the maps become the tiles of the next image. A
lens does such a convolution of all tokens at once. The authors gave out no program, and of the paper only the abstract
and summaries were at hand: they replace the linear layers of attention and of the feed-forward part, share the kernels
among tokens, and find that valid padding learns attention while same padding does not (CIFAR-100, about 63 %). How maps
are laid out as the next image, the kernel sizes and the sizes of the network are ours.
"""

from types import MappingProxyType
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vlmtools.backbones import _vit
from vlmtools.backbones._init import small_normal
from vlmtools.backbones.base import Variant, drop_rates, linear_head, sized
from vlmtools.errors import BadInput
from vlmtools.layers.drop_path import DropPath
from vlmtools.layers.shared_conv import SharedProjection

_CIFAR = Variant(
    MappingProxyType({"num_classes": 100}),
    size=32,
    licence="no program was given out; written from the paper's abstract and summaries",
    source="no public repository",
    note="sizes are ours, not the paper's",
)


class ConvShareViT(_vit.TokenBackbone):
    """Vision transformer of shared convolutions.

    Args:
        img_size: Side in pixels that position embeddings are made for; others are interpolated.
        patch_size: Side of a patch.
        in_chans: Channels of the images.
        num_classes: Outputs; 0 for none.
        side: Side of the square image that a token is laid out as; it has side x side channels.
        tile: Side of the map that each kernel gives; divides `side`. 1 makes every layer an ordinary linear one.
        depth: Blocks.
        num_heads: Heads; divides (side / tile)², the number of kernels.
        mlp_scale: How much larger the side of the image inside the feed-forward part is.
        drop_path_rate: Highest chance of skipping a block in training, in [0, 1); 0 skips none.

    Reference: arXiv:2504.11517

    Raises:
        BadInput: Tiles do not fill the image, or heads do not divide the kernels.
    """

    variants = MappingProxyType(
        {"convsharevit_cifar": _CIFAR, "convsharevit_cifar_linear": sized(_CIFAR, args={"tile": 1})}
    )

    def __init__(
        self,
        img_size: int = 32,
        patch_size: int = 4,
        in_chans: int = 3,
        num_classes: int = 100,
        side: int = 16,
        tile: int = 4,
        depth: int = 6,
        num_heads: int = 4,
        mlp_scale: int = 2,
        drop_path_rate: float = 0.0,
    ) -> None:
        if side % tile or (side // tile) ** 2 % num_heads:
            raise BadInput(
                f"side={side}, tile={tile} and num_heads={num_heads} were given; tiles have to fill the image and "
                "heads to divide the (side / tile)² kernels. Try side=16, tile=4, num_heads=4."
            )
        dim = side**2
        super().__init__(dim, depth, patch_size, num_classes)
        self.patch_size = patch_size
        self.patch_embed = _vit.PatchEmbed(in_chans, dim, patch_size)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, (img_size // patch_size) ** 2 + 1, dim))
        self.blocks = nn.ModuleList(
            _Block(side, tile, num_heads, mlp_scale * side, rate)
            for rate in drop_rates(drop_path_rate, [depth])[0]
        )
        self.norm = nn.LayerNorm(dim)
        self.head = linear_head(dim, num_classes)
        self.apply(small_normal)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        nn.init.trunc_normal_(self.cls_token, std=0.02)

    def embed(self, x: Tensor) -> Tensor:
        """Class token and patches, with their positions.

        Args:
            x: Images.
        """
        return _vit.with_class_token(self.patch_embed(x), self.cls_token, self.pos_embed)

    def forward_features(self, x: Tensor) -> Tensor:
        """Normalised tokens.

        Args:
            x: Images.
        """
        x = self.embed(x)
        for block in self.blocks:
            x = block(x)
        out: Tensor = self.norm(x)
        return out

    def forward_stages(self, x: Tensor, n_stages: int | None = None) -> list[Tensor]:
        """The map after each block.

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

    @classmethod
    def tiny(cls, **changes: Any) -> Self:
        """Two blocks.

        Args:
            changes: Constructor arguments that differ from the tiny ones.
        """
        small: dict[str, Any] = {
            "img_size": 64, "patch_size": 16, "side": 8, "tile": 2, "depth": 2, "mlp_scale": 1, "num_classes": 10,
        }  # fmt: skip
        return cls(**{**small, **changes})


class _Block(nn.Module):
    def __init__(self, side: int, tile: int, n_heads: int, side_inside: int, rate: float) -> None:
        super().__init__()
        dim = side**2
        self.n_heads, self.n_kernels = n_heads, (side // tile) ** 2
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.q, self.k, self.v, self.proj = (SharedProjection(side, side, tile) for _ in range(4))
        self.fc1, self.fc2 = (
            SharedProjection(side, side_inside, tile),
            SharedProjection(side_inside, side, tile),
        )
        self.drop_path, self.tile = DropPath(rate), tile

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop_path(self._attended(self.norm1(x)))
        out: Tensor = x + self.drop_path(self.fc2(F.gelu(self.fc1(self.norm2(x)))))
        return out

    def _attended(self, x: Tensor) -> Tensor:
        q, k, v = (self._heads(layer(x)) for layer in (self.q, self.k, self.v))
        seen = F.scaled_dot_product_attention(q, k, v)
        out: Tensor = self.proj(self._joined(seen))
        return out

    def _heads(self, x: Tensor) -> Tensor:
        """A head owns whole tiles: (batch, head, token, kernel of the head x position of the tile)."""
        n_tiles = round(self.n_kernels**0.5)
        tiles = x.reshape(*x.shape[:2], n_tiles, self.tile, n_tiles, self.tile).transpose(3, 4)
        return tiles.reshape(*x.shape[:2], self.n_heads, -1).transpose(1, 2)

    def _joined(self, x: Tensor) -> Tensor:
        batch, _, n_seq, _ = x.shape
        n_tiles = round(self.n_kernels**0.5)
        tiles = x.transpose(1, 2).reshape(batch, n_seq, n_tiles, n_tiles, self.tile, self.tile)
        return tiles.transpose(3, 4).reshape(batch, n_seq, -1)
