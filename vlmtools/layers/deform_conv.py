"""Deformable convolution without compiled code: bilinear samples at learned offsets, then one product."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


def deform_conv2d(
    x: Float[Tensor, "batch channel height width"],
    offset: Float[Tensor, "batch two_taps h w"],
    weight: Float[Tensor, "out channel kh kw"],
    bias: Float[Tensor, " out"] | None = None,
    stride: int = 1,
    padding: int = 0,
    mask: Float[Tensor, "batch taps h w"] | None = None,
) -> Float[Tensor, "batch out h w"]:
    """Convolve samples taken beside the usual grid; outside the map everything is 0.

    Args:
        x: Map.
        offset: Pairs of (down, right) in pixels for every tap of the kernel and every position.
        weight: Kernel.
        bias: One number per output channel; None adds none.
        stride: Stride.
        padding: Zeros around the map.
        mask: Weight of every tap; None weighs all by 1, which is version 1 of the operator.

    Reference: arXiv:1703.06211; arXiv:1811.11168
    """
    batch = x.shape[0]
    n_rows, n_columns = weight.shape[-2:]
    h, w = offset.shape[-2:]
    shifts = offset.reshape(batch, n_rows * n_columns, 2, h, w).float()
    spots = _grid(n_rows, n_columns, h, w, stride, padding, x.device) + shifts
    samples = _sample(x, spots)
    if mask is not None:
        samples = samples * mask.reshape(batch, 1, -1, h, w)
    out = torch.einsum("bcthw,oct->bohw", samples, weight.flatten(2))
    return out if bias is None else out + bias.reshape(1, -1, 1, 1)


class DeformConv2d(nn.Module):
    """Deformable convolution that computes its own offsets.

    Args:
        dim_in: Channels that come in.
        dim: Channels that go out.
        kernel: Side of the kernel.
        stride: Stride.
        padding: Zeros around the map.

    Reference: arXiv:1703.06211
    """

    def __init__(self, dim_in: int, dim: int, kernel: int, stride: int = 1, padding: int = 0) -> None:
        super().__init__()
        self.stride, self.padding = stride, padding
        usual = nn.Conv2d(dim_in, dim, kernel)
        self.weight, self.bias = usual.weight, usual.bias
        self.conv_offset = nn.Conv2d(dim_in, 2 * kernel**2, kernel, stride, padding)
        self.reset_offset()

    def reset_offset(self) -> None:
        """Start as a plain convolution."""
        nn.init.zeros_(self.conv_offset.weight)
        if self.conv_offset.bias is not None:
            nn.init.zeros_(self.conv_offset.bias)

    def forward(self, x: Float[Tensor, "batch channel height width"]) -> Float[Tensor, "batch dim h w"]:
        """The convolved map.

        Args:
            x: Map.
        """
        return deform_conv2d(x, self.conv_offset(x), self.weight, self.bias, self.stride, self.padding)


def _grid(
    n_rows: int, n_columns: int, h: int, w: int, stride: int, padding: int, device: torch.device
) -> Tensor:
    """(tap, down/right, h, w): where every tap lies without offsets."""
    down = (
        torch.arange(h, device=device)[None, :] * stride
        - padding
        + torch.arange(n_rows, device=device)[:, None]
    )
    right = (
        torch.arange(w, device=device)[None, :] * stride
        - padding
        + torch.arange(n_columns, device=device)[:, None]
    )
    shape = (n_rows, n_columns, h, w)
    pair = [down[:, None, :, None].expand(shape), right[None, :, None, :].expand(shape)]
    return torch.stack(pair, dim=2).reshape(n_rows * n_columns, 2, h, w).float()


def _sample(x: Tensor, spots: Tensor) -> Tensor:
    batch, n_taps, _, h, w = spots.shape
    size = spots.new_tensor([max(x.shape[-1] - 1, 1), max(x.shape[-2] - 1, 1)])
    where = 2 * spots.flip(2).permute(0, 1, 3, 4, 2) / size - 1
    grid = where.reshape(batch, n_taps * h, w, 2).to(x.dtype)
    taken = F.grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=True)
    return taken.reshape(batch, -1, n_taps, h, w)
