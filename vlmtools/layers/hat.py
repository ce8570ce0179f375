"""HAT: super-resolution by window attention, channel attention and overlapping windows."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vlmtools.layers.drop_path import DropPath
from vlmtools.layers.window_attention import OverlappingAttention, WindowAttention

RGB_MEAN = (0.4488, 0.4371, 0.4040)
"""Mean colour of the training pictures (DIV2K), taken off first and put back last."""


class HAT(nn.Module):
    """A larger picture from a small one; weights have the authors' names.

    Args:
        img_size: Side of the training pictures in pixels; windows are not shifted when it is no more than one window.
        in_chans: Channels of the pictures.
        embed_dim: Channels inside.
        depths: Hybrid blocks per group.
        num_heads: Heads per group.
        window_size: Side of a window; both sides of a picture must be a multiple.
        compress_ratio: How many times fewer channels the convolutions beside the attention have.
        squeeze_factor: How many times fewer channels the channel attention has.
        conv_scale: Weight of the convolutions beside the attention; 0 leaves them out.
        overlap_ratio: How much longer the side of an overlapping window is.
        mlp_ratio: Widening of the feed-forward parts.
        qkv_bias: Biases in the projections of queries, keys and values.
        drop_path_rate: Highest chance of skipping an attention in training, in [0, 1); 0 skips none.
        patch_norm: Normalise before the first group.
        upscale: How many times larger the picture gets: a power of 2, or 3.
        img_range: Largest value of a picture, 1 or 255.
        upsampler: "pixelshuffle" is the only one published.
        resi_connection: "1conv" for a convolution at the end of every group, "identity" for none.

    Raises:
        ValueError: Another upsampler or scale.

    Reference: arXiv:2205.04437
    """

    mean: Tensor

    def __init__(
        self,
        img_size: int = 64,
        in_chans: int = 3,
        embed_dim: int = 96,
        depths: Sequence[int] = (6, 6, 6, 6),
        num_heads: Sequence[int] = (6, 6, 6, 6),
        window_size: int = 7,
        compress_ratio: int = 3,
        squeeze_factor: int = 30,
        conv_scale: float = 0.01,
        overlap_ratio: float = 0.5,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        drop_path_rate: float = 0.1,
        patch_norm: bool = True,
        upscale: int = 2,
        img_range: float = 1.0,
        upsampler: str = "pixelshuffle",
        resi_connection: str = "1conv",
    ) -> None:
        super().__init__()
        if upsampler != "pixelshuffle":
            raise ValueError(f"upsampler={upsampler!r}; HAT has 'pixelshuffle' only. Choose it.")
        self.img_range = img_range
        mean = torch.tensor(RGB_MEAN if in_chans == 3 else (0.0,))
        self.register_buffer("mean", mean.reshape(1, -1, 1, 1), persistent=False)
        self.conv_first = nn.Conv2d(in_chans, embed_dim, 3, padding=1)
        self.patch_embed = nn.ModuleDict({"norm": nn.LayerNorm(embed_dim)} if patch_norm else {})
        rates = iter(torch.linspace(0, drop_path_rate, sum(depths), device="cpu").tolist())
        shift = window_size // 2 if img_size > window_size else 0
        self.layers = nn.ModuleList()
        for depth, n_heads in zip(depths, num_heads, strict=True):
            blocks = [
                HybridBlock(
                    embed_dim, n_heads, window_size, shift * (index % 2), compress_ratio, squeeze_factor,
                    conv_scale, mlp_ratio, qkv_bias, next(rates),
                )
                for index in range(depth)
            ]  # fmt: skip
            last = OverlapBlock(embed_dim, n_heads, window_size, overlap_ratio, mlp_ratio, qkv_bias)
            self.layers.append(_Group(blocks, last, _last_conv(embed_dim, resi_connection)))
        self.norm = nn.LayerNorm(embed_dim)
        self.conv_after_body = _last_conv(embed_dim, resi_connection)
        self.conv_before_upsample = nn.Sequential(nn.Conv2d(embed_dim, 64, 3, padding=1), nn.LeakyReLU())
        self.upsample = upsampler_of(upscale, 64)
        self.conv_last = nn.Conv2d(64, in_chans, 3, padding=1)
        self.apply(_start)

    def forward(self, x: Float[Tensor, "batch channel height width"]) -> Float[Tensor, "batch channel h w"]:
        """The larger picture.

        Args:
            x: Picture; both sides must be a multiple of the window.
        """
        shallow = self.conv_first((x - self.mean) * self.img_range)
        deep = self.conv_after_body(self.forward_features(shallow)) + shallow
        large: Tensor = self.conv_last(self.upsample(self.conv_before_upsample(deep)))
        return large / self.img_range + self.mean

    def forward_features(self, x: Tensor) -> Tensor:
        """The map after all groups.

        Args:
            x: Map of the first convolution.
        """
        x = x.permute(0, 2, 3, 1)
        for layer in [*self.patch_embed.values(), *self.layers]:
            x = layer(x)
        out: Tensor = self.norm(x).permute(0, 3, 1, 2)
        return out


class HybridBlock(nn.Module):
    """Window attention beside convolutions with channel attention, then a feed-forward part; channels last.

    Args:
        dim: Channels.
        n_heads: Heads.
        side: Side of a window.
        shift: How far windows are moved.
        compress_ratio: How many times fewer channels the convolutions have.
        squeeze_factor: How many times fewer channels the channel attention has.
        conv_scale: Weight of the convolutions; 0 leaves them out.
        mlp_ratio: Widening of the feed-forward part.
        qkv_bias: Biases in the projections of queries, keys and values.
        rate: Chance of skipping a branch in training.

    Reference: arXiv:2205.04437
    """

    def __init__(
        self,
        dim: int,
        n_heads: int,
        side: int,
        shift: int = 0,
        compress_ratio: int = 3,
        squeeze_factor: int = 30,
        conv_scale: float = 0.01,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        rate: float = 0.0,
    ) -> None:
        super().__init__()
        self.conv_scale = conv_scale
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attn = WindowAttention(dim, n_heads, side, shift, qkv_bias)
        self.conv_block = _ChannelBlock(dim, compress_ratio, squeeze_factor)
        self.mlp, self.drop_path = _Mlp(dim, int(dim * mlp_ratio)), DropPath(rate)

    def forward(self, x: Float[Tensor, "batch height width dim"]) -> Float[Tensor, "batch height width dim"]:
        """The map after all branches.

        Args:
            x: Map, channels last.
        """
        normed = self.norm1(x)
        beside = self.conv_block(normed.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        x = x + self.drop_path(self.attn(normed)) + self.conv_scale * beside
        out: Tensor = x + self.drop_path(self.mlp(self.norm2(x)))
        return out


class OverlapBlock(OverlappingAttention):
    """Attention from windows to larger windows, then a feed-forward part; channels last.

    Args:
        dim: Channels.
        n_heads: Heads.
        side: Side of a window.
        overlap: How much longer the side of the larger window is, as a share of `side`.
        mlp_ratio: Widening of the feed-forward part.
        qkv_bias: Biases in the projections of queries, keys and values.

    Reference: arXiv:2205.04437
    """

    def __init__(
        self, dim: int, n_heads: int, side: int, overlap: float, mlp_ratio: float, qkv_bias: bool
    ) -> None:
        super().__init__(dim, n_heads, side, overlap, qkv_bias)
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.mlp = _Mlp(dim, int(dim * mlp_ratio))

    def forward(self, x: Float[Tensor, "batch height width dim"]) -> Float[Tensor, "batch height width dim"]:
        """The map after both branches.

        Args:
            x: Map, channels last.
        """
        x = x + super().forward(self.norm1(x))
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


def upsampler_of(scale: int, dim: int) -> nn.Sequential:
    """Convolutions and pixel shuffles that enlarge a map.

    Args:
        scale: How many times: a power of 2, or 3.
        dim: Channels.

    Raises:
        ValueError: Another scale.
    """
    steps = [3] if scale == 3 else [2] * int(math.log2(scale))
    if math.prod(steps) != scale:
        raise ValueError(f"upscale={scale}; it can be a power of 2, or 3. Choose one of these.")
    pairs = [(nn.Conv2d(dim, step**2 * dim, 3, padding=1), nn.PixelShuffle(step)) for step in steps]
    return nn.Sequential(*(layer for pair in pairs for layer in pair))


def _last_conv(dim: int, kind: str) -> nn.Module:
    return nn.Conv2d(dim, dim, 3, padding=1) if kind == "1conv" else nn.Identity()


def _start(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


class _Group(nn.Module):
    def __init__(self, blocks: Sequence[nn.Module], last: nn.Module, conv: nn.Module) -> None:
        super().__init__()
        self.residual_group = nn.ModuleDict({"blocks": nn.Sequential(*blocks), "overlap_attn": last})
        self.conv = conv

    def forward(self, x: Tensor) -> Tensor:
        inner = x
        for part in self.residual_group.values():
            inner = part(inner)
        out: Tensor = self.conv(inner.permute(0, 3, 1, 2)).permute(0, 2, 3, 1) + x
        return out


class _ChannelBlock(nn.Module):
    def __init__(self, dim: int, compress: int, squeeze: int) -> None:
        super().__init__()
        self.cab = nn.Sequential(
            nn.Conv2d(dim, dim // compress, 3, padding=1), nn.GELU(),
            nn.Conv2d(dim // compress, dim, 3, padding=1), _ChannelGate(dim, squeeze),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.cab(x)
        return out


class _ChannelGate(nn.Module):
    def __init__(self, dim: int, squeeze: int) -> None:
        super().__init__()
        self.attention = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(dim, dim // squeeze, 1), nn.ReLU(),
            nn.Conv2d(dim // squeeze, dim, 1), nn.Sigmoid(),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x * self.attention(x)
        return out


class _Mlp(nn.Module):
    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1, self.act, self.fc2 = nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc2(self.act(self.fc1(x)))
        return out
