"""A convolution without bias and its batch norm."""

from torch import nn


class ConvNorm(nn.Sequential):
    """Convolve and normalise.

    Args:
        dim_in: Channels that come in.
        dim: Channels that go out.
        kernel: Side of the kernel, odd; the map is padded to keep its size.
        stride: Stride.
        groups: Groups of the convolution.
        start: First factor of the norm; 0 silences a residual branch at the start of training.
    """

    def __init__(
        self, dim_in: int, dim: int, kernel: int = 1, stride: int = 1, groups: int = 1, start: float = 1.0
    ) -> None:
        super().__init__()
        self.add_module("c", nn.Conv2d(dim_in, dim, kernel, stride, kernel // 2, groups=groups, bias=False))
        norm = nn.BatchNorm2d(dim)
        nn.init.constant_(norm.weight, start)
        self.add_module("bn", norm)
