"""Sparsifiner: a vision transformer that predicts, per picture, which pairs of tokens need attention."""

from collections.abc import Sequence
from types import MappingProxyType
from typing import Any, Self

import torch
from torch import Tensor, nn

from vlmtools.backbones import _vit
from vlmtools.backbones._init import small_normal
from vlmtools.backbones.base import Variant, drop_rates, linear_head, sized
from vlmtools.errors import BadInput
from vlmtools.layers.drop_path import DropPath
from vlmtools.layers.sparse_attention import SparseAttention

_S = Variant(
    MappingProxyType({"embed_dim": 384, "num_heads": 6}),
    licence="MIT",
    source="lim142857/Sparsifiner",
    note="keep rates as in the authors' default; the whole net has no golden numbers, its attention has",
)


class Sparsifiner(_vit.TokenBackbone):
    """Vision transformer with predicted attention masks.

    Args:
        img_size: Side of the images in pixels, fixed.
        patch_size: Side of a patch.
        in_chans: Channels of the images.
        num_classes: Outputs; 0 for none.
        embed_dim: Channels.
        depth: Blocks.
        num_heads: Heads.
        mlp_ratio: Widening of the feed-forward part.
        qkv_bias: Biases in the projections.
        drop_path_rate: Highest chance of skipping a block in training, in [0, 1); 0 skips none.
        attn_keep_rate: Share of keys that each query keeps, for every block or one for all, in (0, 1].
        token_keep_rate: Share of patches kept by blocks that drop any.
        prune_at: Blocks that drop patches; none by default.
        reduce_n_factor: How many times fewer basis rows than tokens there are.
        reduce_c_factor: How many times shorter queries and keys become in the predictor.

    Raises:
        BadInput: The images are not as large as said.

    Reference: arXiv:2303.13755
    """

    variants = MappingProxyType(
        {
            "sparsifiner_small": _S,
            "sparsifiner_tiny": sized(_S, args={"embed_dim": 192, "num_heads": 3}),
            "sparsifiner_base": sized(_S, args={"embed_dim": 768, "num_heads": 12}),
        }
    )
    fixed_size = True
    # the mask is a hard choice without a gradient: the authors train its parts with a reconstruction loss of their own
    training_only = ("mask_predictor",)
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
        attn_keep_rate: float | Sequence[float] = 0.25,
        token_keep_rate: float = 0.7,
        prune_at: Sequence[int] = (),
        reduce_n_factor: int = 8,
        reduce_c_factor: int = 2,
    ) -> None:
        super().__init__(embed_dim, depth, patch_size, num_classes)
        self.img_size, self.patch_size = img_size, patch_size
        n_tokens = (img_size // patch_size) ** 2 + 1
        self.patch_embed = _vit.PatchEmbed(in_chans, embed_dim, patch_size)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, embed_dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, n_tokens, embed_dim))
        keep = [attn_keep_rate] * depth if isinstance(attn_keep_rate, (int, float)) else list(attn_keep_rate)
        self.blocks = nn.ModuleList()
        for index, rate in enumerate(drop_rates(drop_path_rate, [depth])[0]):
            attention = SparseAttention(
                embed_dim, n_tokens, num_heads, keep[index], token_keep_rate, index in prune_at,
                reduce_n_factor, reduce_c_factor, qkv_bias,
            )  # fmt: skip
            self.blocks.append(_Block(embed_dim, attention, int(embed_dim * mlp_ratio), rate))
        self.norm = nn.LayerNorm(embed_dim, eps=1e-6)
        self.head = linear_head(embed_dim, num_classes)
        self.apply(small_normal)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        nn.init.trunc_normal_(self.cls_token, std=0.02)

    def _run(self, x: Tensor, n_blocks: int | None = None) -> list[Tensor]:
        if x.shape[-2:] != (self.img_size, self.img_size):
            raise BadInput(
                f"Images of {x.shape[-2]} x {x.shape[-1]} were given to a Sparsifiner for "
                f"{self.img_size} x {self.img_size}. Resize them, or create it with img_size={x.shape[-1]}."
            )
        patches = self.patch_embed(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.cls_token.expand(x.shape[0], -1, -1), patches], dim=1) + self.pos_embed
        found: list[Tensor] = []
        mask: Tensor | None = None
        for block in self.blocks[:n_blocks]:
            tokens, mask = block(tokens, mask)
            found.append(tokens)
        return found

    def forward_features(self, x: Tensor) -> Tensor:
        """Normalised tokens; dropped patches are 0 before the norm.

        Args:
            x: Images.
        """
        out: Tensor = self.norm(self._run(x)[-1])
        return out

    def forward_stages(self, x: Tensor, n_stages: int | None = None) -> list[Tensor]:
        """The map after each block; dropped patches are 0.

        Args:
            x: Images.
            n_stages: Stop after this many blocks; None runs all.
        """
        side = self.img_size // self.patch_size
        return [_vit.to_map(tokens[:, 1:], (side, side)) for tokens in self._run(x, n_stages)]

    @classmethod
    def tiny(cls, **changes: Any) -> Self:
        """Three blocks, one of which drops patches.

        Args:
            changes: Constructor arguments that differ from the tiny ones.
        """
        small: dict[str, Any] = {
            "img_size": 64, "embed_dim": 32, "depth": 3, "num_heads": 4, "mlp_ratio": 2, "prune_at": (1,),
            "reduce_n_factor": 4, "num_classes": 10,
        }  # fmt: skip
        return cls(**{**small, **changes})


class _Block(nn.Module):
    def __init__(self, dim: int, attention: nn.Module, hidden: int, rate: float) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim, eps=1e-6), nn.LayerNorm(dim, eps=1e-6)
        self.attn, self.mlp, self.drop_path = attention, _vit.Mlp(dim, hidden), DropPath(rate)

    def forward(self, x: Tensor, token_mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
        found = self.attn(self.norm1(x), token_mask)
        x = x + self.drop_path(found.x)
        x = x + self.drop_path(self.mlp(self.norm2(x)))
        if found.token_mask is not None:
            left = torch.cat([torch.ones_like(found.token_mask[:, :1]), found.token_mask], dim=1)
            x = x * left.unsqueeze(-1)
        return x, found.token_mask
