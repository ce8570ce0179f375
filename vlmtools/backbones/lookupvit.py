"""LookupViT: a few compressed tokens are worked on thoroughly, the many patches only look on and are looked up.

The authors gave out no program, and of the paper only the abstract and summaries were at hand. Our reading where they
are silent: compressed tokens start as the map of patches, positions included, resized bilinearly; the attention of the
way there is used for the way back as it is, transposed (`anew` reads it otherwise); the narrow feed-forward part of the
patches is half as wide as a token; the logits come from the mean of the compressed tokens, which is why the last block
does not write back. With 5 x 5 compressed tokens ViT-B/16 then costs less than half, which is what the abstract says of
the method; the paper's tables of parameters, FLOPs and accuracy were not at hand.
"""

from collections.abc import Sequence
from types import MappingProxyType
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vlmtools.backbones import _vit
from vlmtools.backbones._init import small_normal
from vlmtools.backbones.base import Variant, linear_head, sized
from vlmtools.errors import BadInput
from vlmtools.layers.lookup import LookupBlock

_B = Variant(
    MappingProxyType({"embed_dim": 768, "num_heads": 12, "sides": (10,)}),
    licence="no program was given out; written from the paper",
    source="Google DeepMind; nothing public",
    note="our reading of the abstract and summaries; sizes not compared with published ones",
)
_S: dict[str, Any] = {"embed_dim": 384, "num_heads": 6}


class LookupViT(_vit.TokenBackbone):
    """Vision transformer with two streams of tokens.

    Args:
        img_size: Side in pixels that position embeddings are made for; others are interpolated.
        patch_size: Side of a patch.
        in_chans: Channels of the images.
        num_classes: Outputs; 0 for none.
        embed_dim: Channels.
        depth: Blocks.
        num_heads: Heads.
        mlp_ratio: Widening of the feed-forward part of the compressed tokens.
        lookup_ratio: The same for the patches, below 1.
        sides: Sides of the square of compressed tokens; with several, training draws one each time and evaluation
            takes the largest unless `forward_tokens` is told otherwise.
        anew: Normalise the attention of the way back over the compressed tokens, the other way to read the paper.
        last_writes: Whether the last block writes back into the patches too, for heads that read the last map; the
            logits do not see it.

    Reference: arXiv:2407.12753
    """

    variants = MappingProxyType(
        {
            "lookupvit_b16_10": _B,
            "lookupvit_b16_7": sized(_B, args={"sides": (7,)}),
            "lookupvit_b16_5": sized(_B, args={"sides": (5,)}),
            "lookupvit_b16_3": sized(_B, args={"sides": (3,)}),
            "lookupvit_b16_multi": sized(_B, args={"sides": (3, 5, 7, 10)}),
            "lookupvit_s16_10": sized(_B, args=_S),
            "lookupvit_s16_5": sized(_B, args={**_S, "sides": (5,)}),
        }
    )

    def __init__(
        self,
        img_size: int = 224,
        patch_size: int = 16,
        in_chans: int = 3,
        num_classes: int = 1000,
        embed_dim: int = 768,
        depth: int = 12,
        num_heads: int = 12,
        mlp_ratio: float = 4.0,
        lookup_ratio: float = 0.5,
        sides: Sequence[int] = (10,),
        anew: bool = False,
        last_writes: bool = False,
    ) -> None:
        super().__init__(embed_dim, depth, patch_size, num_classes)
        self.patch_size, self.sides = patch_size, tuple(sorted(sides))
        self.patch_embed = _vit.PatchEmbed(in_chans, embed_dim, patch_size)
        self.pos_embed = nn.Parameter(torch.zeros(1, (img_size // patch_size) ** 2, embed_dim))
        self.blocks = nn.ModuleList(
            LookupBlock(embed_dim, num_heads, mlp_ratio, lookup_ratio, last_writes or block < depth - 1, anew)
            for block in range(depth)
        )
        self.norm = nn.LayerNorm(embed_dim)
        self.head = linear_head(embed_dim, num_classes)
        self.apply(small_normal)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)

    def embed(self, x: Tensor, side: int) -> tuple[Tensor, Tensor]:
        """Compressed tokens and patches at the start, with positions.

        Args:
            x: Images.
            side: Of the square of compressed tokens.
        """
        patches = self.patch_embed(x)
        size = (int(patches.shape[-2]), int(patches.shape[-1]))
        lookup: Tensor = patches.flatten(2).transpose(1, 2)
        lookup = lookup + _vit.resized_positions(self.pos_embed, size, 0)
        few = F.interpolate(
            _vit.to_map(lookup, size), size=(side, side), mode="bilinear", align_corners=False
        )
        return few.flatten(2).transpose(1, 2), lookup

    def forward_tokens(self, x: Tensor, side: int | None = None) -> tuple[Tensor, Tensor]:
        """Normalised compressed tokens, and the patches.

        Args:
            x: Images.
            side: Of the square of compressed tokens; None for the model's own.

        Raises:
            BadInput: The side is not at least 1.
        """
        compressed, lookup = self.embed(x, self._side(side))
        for block in self.blocks:
            compressed, lookup = block(compressed, lookup)
        return self.norm(compressed), lookup

    def _side(self, side: int | None) -> int:
        if side is not None and side < 1:
            raise BadInput(
                f"A square of compressed tokens of side {side} was asked for; sides start at 1, this model has "
                f"{list(self.sides)}. Choose one of these."
            )
        if side is None and self.training and len(self.sides) > 1:
            return self.sides[int(torch.randint(len(self.sides), (), device="cpu"))]
        return self.sides[-1] if side is None else side

    def forward_features(self, x: Tensor) -> Tensor:
        """Normalised compressed tokens.

        Args:
            x: Images.
        """
        return self.forward_tokens(x)[0]

    def forward_stages(self, x: Tensor, n_stages: int | None = None) -> list[Tensor]:
        """The map of patches after each block.

        Args:
            x: Images.
            n_stages: Stop after this many blocks; None runs all.
        """
        size = (x.shape[-2] // self.patch_size, x.shape[-1] // self.patch_size)
        maps, (compressed, lookup) = [], self.embed(x, self._side(None))
        for block in self.blocks[:n_stages]:
            compressed, lookup = block(compressed, lookup)
            maps.append(_vit.to_map(lookup, size))
        return maps

    def pool(self, x: Tensor) -> Tensor:
        """The mean of the compressed tokens.

        Args:
            x: What `forward_features` gave.
        """
        return x.mean(1)

    @classmethod
    def tiny(cls, **changes: Any) -> Self:
        """Three blocks and nine compressed tokens.

        Args:
            changes: Constructor arguments that differ from the tiny ones.
        """
        small: dict[str, Any] = {
            "img_size": 64, "patch_size": 8, "embed_dim": 32, "depth": 3, "num_heads": 4, "mlp_ratio": 2,
            "sides": (3,), "num_classes": 10,
        }  # fmt: skip
        return cls(**{**small, **changes})
