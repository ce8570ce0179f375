"""Small parts of OverLoCK: scaled, normalised, residual, squeezed, fed."""

import torch
from torch import Tensor, nn

from vlmtools.layers.grn import GRN


class LayerScale(nn.Module):
    """A factor and an offset per channel.

    Args:
        dim: Channels.
        start: First factor.
    """

    def __init__(self, dim: int, start: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((dim, 1, 1, 1), float(start)))
        self.bias = nn.Parameter(torch.zeros(dim))

    def forward(self, x: Tensor) -> Tensor:
        """The scaled map.

        Args:
            x: Map.
        """
        return x * self.weight.reshape(1, -1, 1, 1) + self.bias.reshape(1, -1, 1, 1)


class MapNorm(nn.LayerNorm):
    """LayerNorm over the channels of a map that has them first.

    Args:
        dim: Channels.
    """

    def __init__(self, dim: int) -> None:
        super().__init__(dim, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        """The normalised map.

        Args:
            x: Map.
        """
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2).contiguous()


class ResidualConv(nn.Conv2d):
    """Depthwise 3 x 3 convolution added to its input.

    Args:
        dim: Channels.
    """

    def __init__(self, dim: int) -> None:
        super().__init__(dim, dim, 3, padding=1, groups=dim)

    def forward(self, x: Tensor) -> Tensor:
        """The map plus its convolution.

        Args:
            x: Map.
        """
        return x + super().forward(x)


class SqueezeExcite(nn.Module):
    """Weigh channels by a small network of their means.

    Args:
        dim: Channels.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        inner = max(16, dim // 8)
        self.proj = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(dim, inner, 1),
            nn.GELU(),
            nn.Conv2d(inner, dim, 1),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """The weighed map.

        Args:
            x: Map.
        """
        out: Tensor = x * self.proj(x)
        return out


def feed_forward(dim: int, hidden: int) -> list[nn.Module]:
    """Widen, convolve, normalise the response, narrow.

    Args:
        dim: Channels.
        hidden: Channels inside.
    """
    return [
        nn.Conv2d(dim, hidden, 1),
        nn.GELU(),
        ResidualConv(hidden),
        GRN(hidden),
        nn.Conv2d(hidden, dim, 1),
    ]
