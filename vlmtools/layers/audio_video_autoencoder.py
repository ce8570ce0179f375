"""Two masked autoencoders, for video and for sound, tied by contrast at several depths and by cross-attention.

Reference: HiCMAE, arXiv:2401.05698; sunlicai/HiCMAE.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

OFFICIAL_NAMES: tuple[tuple[str, str | None], ...] = (
    (r"encoder\.patch_embed\.proj\.(.*)", r"video.patches.\1"),
    (r"encoder_audio\.patch_embed\.proj\.(.*)", r"audio.patches.\1"),
    (r"encoder\.(.*)", r"video.\1"),
    (r"encoder_audio\.(.*)", r"audio.\1"),
    (r"encoder_fusion\.blocks\.(.*)", r"video.fusion.\1"),
    (r"encoder_fusion\.blocks_audio\.(.*)", r"audio.fusion.\1"),
    (r"encoder_fusion\.norm\.(.*)", r"video.fusion_norm.\1"),
    (r"encoder_fusion\.norm_audio\.(.*)", r"audio.fusion_norm.\1"),
    (r"encoder_to_decoder\.(.*)", r"video.to_decoder.\1"),
    (r"encoder_to_decoder_audio\.(.*)", r"audio.to_decoder.\1"),
    (r"mask_token", "video.mask_token"),
    (r"mask_token_audio", "audio.mask_token"),
    (r"decoder\.blocks\.(.*)", r"video.decoder.\1"),
    (r"decoder\.norm\.(.*)", r"video.decoder_norm.\1"),
    (r"decoder\.head\.(.*)", r"video.head.\1"),
    (r"decoder_audio\.blocks\.(.*)", r"audio.decoder.\1"),
    (r"decoder_audio\.norm\.(.*)", r"audio.decoder_norm.\1"),
    (r"decoder_audio\.head\.(.*)", r"audio.head.\1"),
)


def sinusoids(n: int, dim: int) -> Float[Tensor, "1 n dim"]:
    """Fixed positions: sines in even channels, cosines in odd ones.

    Args:
        n: Positions.
        dim: Width.
    """
    channel = torch.arange(dim, dtype=torch.float64)
    angle = torch.arange(n, dtype=torch.float64)[:, None] / 10000 ** (2 * (channel // 2) / dim)
    return torch.where(channel % 2 == 0, angle.sin(), angle.cos()).float()[None]


def contrast(
    first: Float[Tensor, "batch token dim"], second: Float[Tensor, "batch token dim"], tau: float = 0.07
) -> Float[Tensor, "batch batch"]:
    """Similarity of every pair of mean features, over a temperature; pairs lie on the diagonal.

    Args:
        first: Features of one tower.
        second: Features of the other tower for the same items.
        tau: Temperature, above 0.
    """
    one, other = (F.normalize(x.mean(dim=1), dim=-1) for x in (first, second))
    return one @ other.T / tau


def hierarchical_contrast(levels: Sequence[Float[Tensor, "batch batch"]]) -> Float[Tensor, ""]:
    """Sum over levels of the mean of both directions' cross-entropy.

    Args:
        levels: What `contrast` gave at each depth.
    """
    target = torch.arange(len(levels[0]), device=levels[0].device)
    both = [F.cross_entropy(x, target) + F.cross_entropy(x.T, target) for x in levels]
    return torch.stack(both).sum() / 2


class _Attention(nn.Module):
    """Attention whose keys have no bias; over a context if it is made for one."""

    def __init__(self, dim: int, n_heads: int, crossed: bool = False) -> None:
        super().__init__()
        self.n_heads, self.crossed = n_heads, crossed
        if crossed:
            self.q, self.kv = nn.Linear(dim, dim, bias=False), nn.Linear(dim, 2 * dim, bias=False)
        else:
            self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.q_bias, self.v_bias = nn.Parameter(torch.zeros(dim)), nn.Parameter(torch.zeros(dim))
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        if self.crossed:
            q, (k, v) = self.q(x), self.kv(context).chunk(2, dim=-1)
        else:
            q, k, v = self.qkv(x).chunk(3, dim=-1)
        split = (
            y.unflatten(-1, (self.n_heads, -1)).transpose(1, 2) for y in (q + self.q_bias, k, v + self.v_bias)
        )
        out: Tensor = self.proj(F.scaled_dot_product_attention(*split).transpose(1, 2).flatten(2))
        return out


class _Mlp(nn.Module):
    def __init__(self, dim: int, ratio: float) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(dim, int(dim * ratio)), nn.Linear(int(dim * ratio), dim)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return out


class _Block(nn.Module):
    """Pre-norm block; with `crossed` it reads a context before itself."""

    def __init__(self, dim: int, n_heads: int, ratio: float, crossed: bool = False) -> None:
        super().__init__()
        self.crossed = crossed
        if crossed:
            self.cross_norm1, self.cross_norm2 = nn.LayerNorm(dim, eps=1e-6), nn.LayerNorm(dim, eps=1e-6)
            self.cross_attn = _Attention(dim, n_heads, crossed=True)
        self.norm1, self.attn = nn.LayerNorm(dim, eps=1e-6), _Attention(dim, n_heads)
        self.norm2, self.mlp = nn.LayerNorm(dim, eps=1e-6), _Mlp(dim, ratio)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        if self.crossed:
            x = x + self.cross_attn(self.cross_norm1(x), self.cross_norm2(context))
        x = x + self.attn(self.norm1(x))
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


@dataclass(frozen=True, slots=True)
class TowerShape:
    """Sizes of one tower.

    Args:
        channels: Channels of the input.
        patch: Size of a patch along each axis, in samples or pixels; two or three axes.
        grid: Patches along each axis.
        dim: Width of the encoder.
        depth: Layers of the encoder.
        n_heads: Heads of the encoder.
        dec_dim: Width of the decoder.
        dec_depth: Layers of the decoder: one more than `levels`.
        dec_heads: Heads of the decoder.
        fusion_depth: Cross-attention layers between the towers.
        levels: Encoder layers whose output is contrasted and read by the decoder.
        mlp_ratio: Hidden width of the MLPs in widths.
    """

    channels: int = 3
    patch: tuple[int, ...] = (2, 16, 16)
    grid: tuple[int, ...] = (8, 10, 10)
    dim: int = 512
    depth: int = 10
    n_heads: int = 8
    dec_dim: int = 384
    dec_depth: int = 4
    dec_heads: int = 6
    fusion_depth: int = 2
    levels: tuple[int, ...] = (3, 6, 9)
    mlp_ratio: float = 4.0

    @property
    def n_patches(self) -> int:
        """Patches of one input."""
        return int(torch.tensor(self.grid).prod())


class _Tower(nn.Module):
    """Encoder, fusion layers and decoder of one modality."""

    def __init__(self, shape: TowerShape) -> None:
        super().__init__()
        self.levels, dim, dec = shape.levels, shape.dim, shape.dec_dim
        conv = nn.Conv3d if len(shape.patch) == 3 else nn.Conv2d
        self.patches = conv(shape.channels, dim, shape.patch, stride=shape.patch)  # type: ignore[arg-type]
        blocks = [_Block(dim, shape.n_heads, shape.mlp_ratio) for _ in range(shape.depth)]
        self.blocks, self.norm = nn.ModuleList(blocks), nn.LayerNorm(dim, eps=1e-6)
        fusion = [
            _Block(dim, shape.n_heads, shape.mlp_ratio, crossed=True) for _ in range(shape.fusion_depth)
        ]
        self.fusion, self.fusion_norm = nn.ModuleList(fusion), nn.LayerNorm(dim, eps=1e-6)
        self.to_decoder = nn.Linear(dim, dec, bias=False)
        self.mask_token = nn.Parameter(torch.randn(1, 1, dec) * 0.02)
        n_out = shape.channels * int(torch.tensor(shape.patch).prod())
        layers = [
            _Block(dec, shape.dec_heads, shape.mlp_ratio, crossed=i > 0) for i in range(shape.dec_depth)
        ]
        self.decoder, self.decoder_norm = nn.ModuleList(layers), nn.LayerNorm(dec, eps=1e-6)
        self.head = nn.Linear(dec, n_out)
        self.register_buffer("place", sinusoids(shape.n_patches, dim), persistent=False)
        self.register_buffer("dec_place", sinusoids(shape.n_patches, dec), persistent=False)

    def encode(self, x: Tensor, hidden: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Visible patches after the last layer, and after each of the levels, all normed."""
        tokens = self.patches(x).flatten(2).transpose(1, 2) + self.get_buffer("place")
        tokens = tokens[~hidden].reshape(len(x), -1, tokens.shape[-1])
        states = []
        for block in self.blocks:
            tokens = block(tokens)
            states.append(self.norm(tokens))
        return states[-1], [states[level] for level in self.levels]

    def decode(self, visible: Tensor, levels: list[Tensor], hidden: Tensor) -> Tensor:
        """Content of the hidden patches."""
        place = self.get_buffer("dec_place").expand(len(hidden), -1, -1)
        seen, unseen = (place[where].reshape(len(hidden), -1, place.shape[-1]) for where in (~hidden, hidden))
        x = torch.cat([self.to_decoder(visible) + seen, self.mask_token + unseen], dim=1)
        contexts = [None, *(self.to_decoder(level) + seen for level in reversed(levels))]
        for block, context in zip(self.decoder, contexts, strict=True):
            x = block(x, context)
        out: Tensor = self.head(self.decoder_norm(x[:, -unseen.shape[1] :]))
        return out


@dataclass(frozen=True, slots=True, eq=False)
class Reconstructed:
    """What the autoencoder gave.

    Args:
        video: Content of the hidden video patches.
        audio: Content of the hidden patches of the spectrogram.
        levels: Similarity of every video with every sound, per level; see `hierarchical_contrast`.
    """

    video: Tensor
    audio: Tensor
    levels: list[Tensor]


class AudioVideoAutoencoder(nn.Module):
    """Guess hidden patches of a video and of its sound from what is visible of both.

    Args:
        video: Sizes of the video tower.
        audio: Sizes of the sound tower; width of the encoder as in `video`.
        tau: Temperature of the contrast.
    """

    def __init__(self, video: TowerShape, audio: TowerShape, tau: float = 0.07) -> None:
        super().__init__()
        self.tau = tau
        self.video, self.audio = _Tower(video), _Tower(audio)

    def forward(
        self,
        video: Float[Tensor, "batch channel frame height width"],
        video_hidden: Bool[Tensor, "batch video_patch"],
        audio: Float[Tensor, "batch channel time frequency"],
        audio_hidden: Bool[Tensor, "batch audio_patch"],
    ) -> Reconstructed:
        """Encode what is visible, exchange, and guess what is hidden.

        Args:
            video: Frames.
            video_hidden: True for patches to guess, equally many in each item.
            audio: Spectrograms.
            audio_hidden: True for patches to guess, equally many in each item.
        """
        v, v_levels = self.video.encode(video, video_hidden)
        a, a_levels = self.audio.encode(audio, audio_hidden)
        levels = [contrast(one, other, self.tau) for one, other in zip(v_levels, a_levels, strict=True)]
        for v_block, a_block in zip(self.video.fusion, self.audio.fusion, strict=True):
            v, a = v_block(v, a), a_block(a, v)  # both read the state before the exchange
        v, a = self.video.fusion_norm(v), self.audio.fusion_norm(a)
        decoded = self.video.decode(v, v_levels, video_hidden), self.audio.decode(a, a_levels, audio_hidden)
        return Reconstructed(*decoded, levels)
