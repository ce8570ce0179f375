"""Depthwise convolution whose kernel is made for every position by a small network."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


def position_conv(
    x: Float[Tensor, "batch dim height width"], kernels: Float[Tensor, "batch group taps height width"]
) -> Float[Tensor, "batch dim height width"]:
    """Convolve with another kernel at every position; outside the map everything is 0.

    Args:
        x: Map; its channels are cut into as many runs as there are groups.
        kernels: Square kernels of odd side, row by row.
    """
    side = round(kernels.shape[2] ** 0.5)
    height, width = x.shape[-2:]
    around = F.unfold(x, side, padding=side // 2).reshape(x.shape[0], x.shape[1], -1, height, width)
    grouped = around.reshape(len(x), kernels.shape[1], -1, *around.shape[2:])
    return torch.einsum("bgcthw,bgthw->bgchw", grouped, kernels).flatten(1, 2)


class DynamicDepthwiseConv(nn.Module):
    """A kernel for every position and group of channels, made from the neighbourhood.

    Args:
        dim: Channels; must divide by 4 and by `group_dim`.
        kernel: Side of the kernel, odd.
        group_dim: Channels that share a kernel.
        bias: Biases in the network that makes kernels.

    Reference: arXiv:2301.02031
    """

    def __init__(self, dim: int, kernel: int, group_dim: int, bias: bool = True) -> None:
        super().__init__()
        inner, self.n_groups = dim // 4, dim // group_dim
        self.conv1 = nn.Sequential(
            nn.Conv2d(dim, inner, 1, bias=bias),
            nn.Conv2d(inner, inner, kernel, padding=kernel // 2, groups=inner, bias=bias),
        )
        self.conv2 = nn.Sequential(nn.Conv2d(inner, kernel**2 * self.n_groups, 1, bias=bias))

    def forward(self, x: Float[Tensor, "batch dim height width"]) -> Float[Tensor, "batch dim height width"]:
        """The convolved map.

        Args:
            x: Map.
        """
        kernels = self.conv2(self.conv1(x)).unflatten(1, (self.n_groups, -1))
        return position_conv(x, kernels)
