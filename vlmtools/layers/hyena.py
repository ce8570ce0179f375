"""Hyena: long convolutions between gates, in the place of attention; causal, and sub-quadratic in the length.

Reference: arXiv:2302.10866; the authors' stand-alone operator is HazyResearch/safari.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

OFFICIAL_NAMES: tuple[tuple[str, str | None], ...] = (
    (r"(in_proj|out_proj|short_filter)\.(weight|bias)", r"\1.\2"),
    (r"filter_fn\.bias", "long_filter.skip"),
    (r"filter_fn\.implicit_filter\.1\.freq", "long_filter.frequency"),
    (r"filter_fn\.implicit_filter\.\d+\.freq", None),  # one shared vector under several names
    (r"filter_fn\.implicit_filter\.(\d+)\.(weight|bias)", r"long_filter.mlp.\1.\2"),
    (r"filter_fn\.modulation\.deltas", "long_filter.decay"),
    (r"filter_fn\.pos_emb\.t", "long_filter.time"),
    (r"filter_fn\.pos_emb\.z", "long_filter.position"),
)


def causal_convolution(
    x: Float[Tensor, "batch dim seq"], kernel: Float[Tensor, "dim seq"]
) -> Float[Tensor, "batch dim seq"]:
    """Convolve every channel with a filter as long as the sequence; position t reads positions 0 to t only.

    Args:
        x: Values.
        kernel: One filter per channel; entry 0 weighs the position itself.
    """
    n_seq = x.shape[-1]
    padded = 2 * n_seq  # a circular convolution this long never wraps round
    spectrum = torch.fft.rfft(x.float(), n=padded) * torch.fft.rfft(kernel.float(), n=padded)
    whole: Tensor = torch.fft.irfft(spectrum, n=padded)
    return whole[..., :n_seq].to(x.dtype)


def positions(n_max: int, width: int) -> Float[Tensor, "1 seq width"]:
    """Time in [0, 1] followed by cosines and negative sines of (width − 1) / 2 frequencies.

    Args:
        n_max: Longest sequence, in tokens.
        width: Odd and at least 3.
    """
    n_bands = (width - 1) // 2
    time = torch.linspace(0, 1, n_max)[:, None]
    angle = 2 * math.pi * torch.arange(n_max)[:, None] / n_max * torch.linspace(1e-4, n_bands - 1, n_bands)
    return torch.cat([time, angle.cos(), -angle.sin()], dim=-1)[None]


def decays(n_channels: int, fast: float = 0.3, slow: float = 1.5, target: float = 0.01) -> Tensor:
    """Rates at which the filters of the channels fade, spread evenly from the slowest to the fastest.

    Args:
        n_channels: Number of filters.
        fast: Share of the longest sequence after which the fastest filter has faded to `target`.
        slow: The same for the slowest filter.
        target: What counts as faded, in (0, 1).
    """
    return torch.linspace(math.log(target) / slow, math.log(target) / fast, n_channels)[None, None]


class _LongFilter(nn.Module):
    """Filters written by a small network of sine layers that reads the position."""

    def __init__(self, n_channels: int, n_max: int, width: int, hidden: int, n_sine: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Linear(width, hidden), nn.Identity()]
        for _ in range(n_sine - 1):
            layers += [nn.Linear(hidden, hidden), nn.Identity()]
        self.mlp = nn.Sequential(*layers, nn.Linear(hidden, n_channels, bias=False))
        self.frequency = nn.Parameter(torch.full((1, hidden), 10.0))
        self.skip = nn.Parameter(torch.randn(n_channels))
        self.position = nn.Parameter(positions(n_max, width))
        self.register_buffer("time", self.position.detach()[..., :1].clone())
        self.register_buffer("decay", decays(n_channels))

    def forward(self, n_seq: int) -> Float[Tensor, "seq channel"]:
        h: Tensor = self.position[0, :n_seq]
        for layer in self.mlp:
            h = torch.sin(self.frequency * h) if isinstance(layer, nn.Identity) else layer(h)
        time, decay = self.get_buffer("time")[0, :n_seq], self.get_buffer("decay")[0]
        return h * torch.exp(-time * decay.abs())


class Hyena(nn.Module):
    """The Hyena operator on sequences, with `order` − 1 long convolutions.

    Args:
        dim: Width.
        n_max: Longest sequence, in tokens.
        order: Number of gates, at least 2.
        width: Width of the position features, odd.
        hidden: Width of the network that writes the filters.
        n_sine: Its sine layers.

    Reference: arXiv:2302.10866, definition 3.1.
    """

    def __init__(
        self, dim: int, n_max: int, order: int = 2, width: int = 3, hidden: int = 64, n_sine: int = 3
    ) -> None:
        super().__init__()
        self.dim, self.order, n_inner = dim, order, dim * (order + 1)
        self.in_proj, self.out_proj = nn.Linear(dim, n_inner), nn.Linear(dim, dim)
        self.short_filter = nn.Conv1d(n_inner, n_inner, 3, padding=2, groups=n_inner)
        self.long_filter = _LongFilter(dim * (order - 1), n_max, width, hidden, n_sine)

    def forward(self, x: Float[Tensor, "batch seq dim"]) -> Float[Tensor, "batch seq dim"]:
        """Mix along the sequence.

        Args:
            x: Tokens, at most `n_max`.
        """
        n_seq = x.shape[1]
        mixed = self.short_filter(self.in_proj(x).transpose(1, 2))[..., :n_seq]
        *gates, v = mixed.split(self.dim, dim=1)
        # order-major: the filters of all channels for the first convolution, then those for the next
        kernels = self.long_filter(n_seq).T.reshape(self.order - 1, self.dim, n_seq)
        skips = self.long_filter.skip.reshape(self.order - 1, self.dim)
        for kernel, skip, gate in zip(kernels, skips, reversed(gates[1:]), strict=True):
            v = v * gate
            v = causal_convolution(v, kernel) + v * skip[:, None]
        out: Tensor = self.out_proj((v * gates[0]).transpose(1, 2))
        return out
