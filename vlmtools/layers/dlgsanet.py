"""DLGSANet: lightweight super-resolution by kernels made per position and sparse attention among channels."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from vlmtools.layers.dynamic_depthwise_conv import DynamicDepthwiseConv
from vlmtools.layers.hat import RGB_MEAN, upsampler_of
from vlmtools.layers.transposed_attention import TransposedAttention


class DLGSANet(nn.Module):
    """A larger picture from a small one; weights have the authors' names.

    Args:
        in_chans: Channels of the pictures.
        dim: Channels inside.
        groups: Groups of blocks.
        blocks: Pairs of blocks in a group.
        buildblock_type: "sparseedge" for local blocks and sparse attention, "edge" for local blocks and softmax
            attention, "idynamic" for local blocks alone, "restormer" for softmax attention alone.
        window_size: Side of the kernels made per position, odd.
        idynamic_num_heads: Channels that share such a kernel.
        idynamic_ffn_type: Feed-forward part of local blocks: "GDFN" gated, "BaseFFN" plain.
        idynamic_ffn_expansion_factor: Its widening.
        idynamic: Make kernels per position; otherwise they are learned once.
        restormer_num_heads: Heads of the attention among channels.
        restormer_ffn_type: Feed-forward part of attention blocks.
        restormer_ffn_expansion_factor: Its widening.
        tlc_flag: Outside training, attend inside local windows.
        tlc_kernel: Side of these windows; softmax attention always has 48, as published.
        activation: How scores become weights in sparse attention: "relu", "gelu", "sigmoid" or "" for none.
        upscale: How many times larger the picture gets.
        img_range: Largest value of a picture, 1 or 255.
        upsampler: "pixelshuffledirect", "pixelshuffle", or "" to keep the size.
        body_norm: Normalise before and after the groups.

    Raises:
        ValueError: There is no such kind of block or feed-forward part.

    Reference: arXiv:2301.02031
    """

    mean: Tensor

    def __init__(
        self,
        in_chans: int = 3,
        dim: int = 60,
        groups: int = 4,
        blocks: int = 3,
        buildblock_type: str = "edge",
        window_size: int = 7,
        idynamic_num_heads: int = 6,
        idynamic_ffn_type: str = "GDFN",
        idynamic_ffn_expansion_factor: float = 2.0,
        idynamic: bool = True,
        restormer_num_heads: int = 6,
        restormer_ffn_type: str = "GDFN",
        restormer_ffn_expansion_factor: float = 2.0,
        tlc_flag: bool = True,
        tlc_kernel: int = 48,
        activation: str = "relu",
        upscale: int = 4,
        img_range: float = 1.0,
        upsampler: str = "",
        body_norm: bool = False,
    ) -> None:
        super().__init__()
        self.img_range = img_range
        mean = torch.tensor(RGB_MEAN if in_chans == 3 else (0.0,))
        self.register_buffer("mean", mean.reshape(1, -1, 1, 1), persistent=False)
        self.overlap_embed = nn.Sequential(_Embed(in_chans, dim))

        def local() -> nn.Module:
            mixer = _LocalMixer(dim, window_size, idynamic_num_heads, idynamic)
            return _LocalBlock(dim, mixer, _feed(idynamic_ffn_type, dim, idynamic_ffn_expansion_factor))

        def among_channels(weights: str, window: int) -> nn.Module:
            mixer = TransposedAttention(dim, restormer_num_heads, weights, window if tlc_flag else None)
            feed = _feed(restormer_ffn_type, dim, restormer_ffn_expansion_factor)
            return _ChannelBlock(dim, mixer, feed)

        kinds: dict[str, Callable[[], list[nn.Module]]] = {
            "sparseedge": lambda: [local(), among_channels(activation, tlc_kernel)],
            "edge": lambda: [local(), among_channels("softmax", 48)],
            "idynamic": lambda: [local()],
            "restormer": lambda: [among_channels("softmax", 48)],
        }
        make = _known(kinds, buildblock_type, "buildblock_type")
        groups_made = [_Group(dim, [part for _ in range(blocks) for part in make()]) for _ in range(groups)]
        ends = [[_MapNorm(dim)] if body_norm else [] for _ in range(2)]
        last = nn.Conv2d(dim, dim, 3, padding=1)
        self.deep_feature_extraction = nn.Sequential(*ends[0], *groups_made, *ends[1], last)
        self._add_upsampling(upsampler, dim, upscale, in_chans)

    def _add_upsampling(self, kind: str, dim: int, scale: int, in_chans: int) -> None:
        self.conv_before_upsample: nn.Module = nn.Identity()
        self.upsample: nn.Module = nn.Identity()
        self.conv_last: nn.Module = nn.Identity()
        if kind == "pixelshuffledirect":
            conv = nn.Conv2d(dim, scale**2 * in_chans, 3, padding=1)
            self.upsample = nn.Sequential(conv, nn.PixelShuffle(scale))
        elif kind == "pixelshuffle":
            self.conv_before_upsample = nn.Sequential(nn.Conv2d(dim, 64, 3, padding=1), nn.LeakyReLU())
            self.upsample, self.conv_last = upsampler_of(scale, 64), nn.Conv2d(64, in_chans, 3, padding=1)
        else:
            self.conv_last = nn.Conv2d(dim, in_chans, 3, padding=1)

    def forward(self, x: Float[Tensor, "batch channel height width"]) -> Float[Tensor, "batch channel h w"]:
        """The larger picture.

        Args:
            x: Picture.
        """
        shallow = self.overlap_embed((x - self.mean) * self.img_range)
        deep = self.deep_feature_extraction(shallow) + shallow
        large: Tensor = self.conv_last(self.upsample(self.conv_before_upsample(deep)))
        return large / self.img_range + self.mean


def _known(
    kinds: dict[str, Callable[[], list[nn.Module]]], name: str, what: str
) -> Callable[[], list[nn.Module]]:
    if name not in kinds:
        raise ValueError(f"{what}={name!r}; there are {', '.join(kinds)}. Choose one of these.")
    return kinds[name]


def _feed(kind: str, dim: int, ratio: float) -> nn.Module:
    if kind not in ("GDFN", "BaseFFN"):
        raise ValueError(
            f"The feed-forward part is {kind!r}; there are GDFN and BaseFFN. Choose one of these."
        )
    return _Gated(dim, int(dim * ratio)) if kind == "GDFN" else _Plain(dim, int(dim * ratio))


class _Embed(nn.Module):
    def __init__(self, in_chans: int, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_chans, dim, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.proj(x)
        return out


class _Group(nn.Module):
    def __init__(self, dim: int, blocks: list[nn.Module]) -> None:
        super().__init__()
        self.body = nn.Sequential(*blocks, nn.Conv2d(dim, dim, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.body(x)
        return out


class _MapNorm(nn.Module):
    """LayerNorm over the channels of a map that has them first."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.body = nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return out


class _LocalBlock(nn.Module):
    def __init__(self, dim: int, mixer: nn.Module, feed: nn.Module) -> None:
        super().__init__()
        self.norm1, self.norm2 = _MapNorm(dim), _MapNorm(dim)
        self.IDynamicDWConv, self.IDynamic_ffn = mixer, feed

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.IDynamicDWConv(self.norm1(x))
        out: Tensor = x + self.IDynamic_ffn(self.norm2(x))
        return out


class _ChannelBlock(nn.Module):
    def __init__(self, dim: int, mixer: nn.Module, feed: nn.Module) -> None:
        super().__init__()
        self.norm3, self.norm4 = _MapNorm(dim), _MapNorm(dim)
        self.restormer_attn, self.restormer_ffn = mixer, feed

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.restormer_attn(self.norm3(x))
        out: Tensor = x + self.restormer_ffn(self.norm4(x))
        return out


class _LocalMixer(nn.Module):
    def __init__(self, dim: int, kernel: int, group_dim: int, dynamic: bool) -> None:
        super().__init__()
        self.conv0, self.conv1 = (nn.Conv2d(dim, dim, 1, bias=False) for _ in range(2))
        plain = nn.Conv2d(dim, dim, kernel, padding=kernel // 2, groups=dim)
        self.conv = DynamicDepthwiseConv(dim, kernel, group_dim) if dynamic else plain

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv1(self.conv(self.conv0(x)))
        return out


class _Gated(nn.Module):
    """Half of the channels, after GELU, weigh the other half."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.project_in = nn.Conv2d(dim, 2 * hidden, 1, bias=False)
        self.dwconv = nn.Conv2d(2 * hidden, 2 * hidden, 3, padding=1, groups=2 * hidden, bias=False)
        self.project_out = nn.Conv2d(hidden, dim, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gate, value = self.dwconv(self.project_in(x)).chunk(2, dim=1)
        out: Tensor = self.project_out(F.gelu(gate) * value)
        return out


class _Plain(nn.Module):
    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(dim, hidden, 1), nn.GELU(), nn.Conv2d(hidden, dim, 1))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(x)
        return out
