"""ChannelViT: every channel of a picture gives its own tokens, so that channels may differ, be many, or be absent."""

from types import MappingProxyType
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vlmtools.backbones import _vit
from vlmtools.backbones._init import small_normal
from vlmtools.backbones.base import Variant, drop_rates, linear_head, sized

_T = Variant(
    MappingProxyType({"embed_dim": 192, "num_heads": 3, "num_classes": 0}),
    params=5_426_688,
    licence="CC-BY-NC-4.0 (the authors' code and weights; this file was written from the paper)",
    source="insitro/ChannelViT",
    note="no classifier, 3 channels",
)
_S: dict[str, Any] = {"embed_dim": 384, "num_heads": 6}
_B: dict[str, Any] = {"embed_dim": 768, "num_heads": 12}
_EIGHT = "no classifier, 8 channels"


class ChannelViT(_vit.TokenBackbone):
    """Vision transformer over the patches of every channel.

    Args:
        img_size: Side in pixels that position embeddings are made for; others are interpolated.
        patch_size: Side of a patch.
        in_chans: Channels that exist; images may have fewer, see `forward_tokens`.
        num_classes: Outputs; 0 for none.
        embed_dim: Width of a token.
        depth: Blocks.
        num_heads: Heads.
        mlp_ratio: Widening of the feed-forward part.
        qkv_bias: Biases in the projections.
        drop_path_rate: Highest chance of skipping a block in training, in [0, 1); 0 skips none.
        sample_channels: In training, show a random number of random channels (hierarchical channel sampling).

    Reference: arXiv:2309.16108
    """

    variants = MappingProxyType(
        {
            "channelvit_tiny_in3": _T,
            "channelvit_tiny_in8": sized(_T, args={"in_chans": 8}, params=5_427_648, note=_EIGHT),
            "channelvit_small_in3": sized(_T, args=_S, params=21_470_208),
            "channelvit_small_in8": sized(_T, args={**_S, "in_chans": 8}, params=21_472_128, note=_EIGHT),
            "channelvit_base_in3": sized(_T, args=_B, params=85_407_744),
            "channelvit_base_in8": sized(_T, args={**_B, "in_chans": 8}, params=85_411_584, note=_EIGHT),
        }
    )
    renames = ((r"^patch_embed\.channel_embed$", "channel_embed"),)

    def __init__(
        self,
        img_size: int = 224,
        patch_size: int = 16,
        in_chans: int = 3,
        num_classes: int = 1000,
        embed_dim: int = 192,
        depth: int = 12,
        num_heads: int = 3,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        drop_path_rate: float = 0.0,
        sample_channels: bool = False,
    ) -> None:
        super().__init__(embed_dim, depth, patch_size, num_classes)
        self.patch_size, self.sample_channels = patch_size, sample_channels
        self.patch_embed = _vit.PatchEmbed(1, embed_dim, patch_size)
        self.channel_embed = nn.Parameter(torch.zeros(embed_dim, in_chans))
        self.cls_token = nn.Parameter(torch.zeros(1, 1, embed_dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, (img_size // patch_size) ** 2 + 1, embed_dim))
        rates = drop_rates(drop_path_rate, [depth])[0]
        self.blocks = nn.ModuleList(
            _vit.Block(embed_dim, num_heads, mlp_ratio, qkv_bias, rate) for rate in rates
        )
        self.norm = nn.LayerNorm(embed_dim, eps=1e-6)
        self.head = linear_head(embed_dim, num_classes)
        self.apply(small_normal)
        for table in (self.pos_embed, self.cls_token, self.channel_embed):
            nn.init.trunc_normal_(table, std=0.02)

    def embed(self, x: Tensor, channels: Tensor | None = None) -> Tensor:
        """Class token, then the patches of one channel after the other, with positions and channels added.

        Args:
            x: Images.
            channels: Which channels the images have, one row per image; None when they have all, in order.
        """
        if channels is None:
            channels = torch.arange(x.shape[1], device=x.device).expand(x.shape[0], -1)
        if self.training and self.sample_channels:
            x, channels = _sampled(x, channels)
        batch, n_channels = x.shape[:2]
        patches = self.patch_embed(x.flatten(0, 1).unsqueeze(1))
        size = (int(patches.shape[-2]), int(patches.shape[-1]))
        where = self._positions(size, n_channels)
        tokens = patches.flatten(2).transpose(1, 2).reshape(batch, n_channels, size[0] * size[1], -1)
        tokens = tokens + self.channel_embed.T[channels].unsqueeze(2) + where[:, None, 1:]
        first = (self.cls_token + where[:, :1]).expand(batch, -1, -1)
        return torch.cat([first, tokens.flatten(1, 2)], dim=1)

    def _positions(self, size: tuple[int, int], n_channels: int) -> Tensor:
        """The published numbers come out only if positions are resampled a tenth of a patch too wide.

        With several channels this happens even at the trained size; with one channel at other sizes only.
        """
        prefix, patches = self.pos_embed[:, :1], self.pos_embed[:, 1:]
        side = round(patches.shape[1] ** 0.5)
        if n_channels == 1 and size == (side, side):
            return self.pos_embed
        square = patches.transpose(1, 2).reshape(1, -1, side, side)
        factors = [(length + 0.1) / side for length in size]
        fitted = F.interpolate(square, scale_factor=factors, mode="bicubic", align_corners=False)
        return torch.cat([prefix, fitted.flatten(2).transpose(1, 2)], dim=1)

    def forward_tokens(self, x: Tensor, channels: Tensor | None = None) -> Tensor:
        """Normalised tokens.

        Args:
            x: Images.
            channels: Which channels the images have, one row per image; None when they have all, in order.
        """
        x = self.embed(x, channels)
        for block in self.blocks:
            x = block(x)
        out: Tensor = self.norm(x)
        return out

    def forward_features(self, x: Tensor) -> Tensor:
        """Normalised tokens of images that have all channels.

        Args:
            x: Images.
        """
        return self.forward_tokens(x)

    def forward_stages(self, x: Tensor, n_stages: int | None = None) -> list[Tensor]:
        """The map after each block, averaged over channels.

        Args:
            x: Images.
            n_stages: Stop after this many blocks; None runs all.
        """
        size = (x.shape[-2] // self.patch_size, x.shape[-1] // self.patch_size)
        maps, tokens = [], self.embed(x)
        for block in self.blocks[:n_stages]:
            tokens = block(tokens)
            patches = tokens[:, 1:].reshape(x.shape[0], -1, size[0] * size[1], tokens.shape[-1])
            maps.append(_vit.to_map(patches.mean(1), size))
        return maps

    @classmethod
    def tiny(cls, **changes: Any) -> Self:
        """Two blocks.

        Args:
            changes: Constructor arguments that differ from the tiny ones.
        """
        small: dict[str, Any] = {
            "img_size": 64, "embed_dim": 32, "depth": 2, "num_heads": 4, "mlp_ratio": 2, "num_classes": 10,
        }  # fmt: skip
        return cls(**{**small, **changes})


def _sampled(x: Tensor, channels: Tensor) -> tuple[Tensor, Tensor]:
    """First how many, then which: every number of channels is equally likely."""
    n_kept = int(torch.randint(1, x.shape[1] + 1, ()))
    chosen = torch.randperm(x.shape[1])[:n_kept].to(x.device)
    return x[:, chosen], channels[:, chosen]
