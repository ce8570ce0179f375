"""Large depthwise convolution trained with dilated helpers beside it, which merge into one kernel afterwards."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

_HELPERS: dict[int, tuple[tuple[int, int], ...]] = {
    19: ((5, 1), (7, 1), (9, 1), (9, 2), (3, 4), (3, 5), (3, 7)),
    17: ((5, 1), (7, 1), (9, 2), (3, 4), (3, 5), (3, 7)),
    15: ((5, 1), (7, 1), (7, 2), (3, 3), (3, 5), (3, 7)),
    13: ((5, 1), (7, 1), (7, 2), (3, 3), (3, 4), (3, 5)),
    11: ((5, 1), (7, 1), (5, 2), (3, 3), (3, 4), (3, 5)),
    9: ((5, 1), (7, 1), (5, 2), (3, 3), (3, 4)),
    7: ((5, 1), (3, 1), (3, 2), (3, 3)),
    5: ((3, 1), (3, 2)),
}
"""Kernel → (kernel, dilation) of each helper."""


class DilatedReparamConv(nn.Module):
    """Depthwise convolution as a sum of branches, each with its BatchNorm.

    Args:
        dim: Channels.
        kernel: Side of the large kernel: odd, 5 to 19.
        deploy: Start merged, as one convolution with bias.

    Raises:
        ValueError: There are no helpers for such a kernel.

    Reference: arXiv:2311.15599
    """

    def __init__(self, dim: int, kernel: int, deploy: bool = False) -> None:
        super().__init__()
        if kernel not in _HELPERS:
            raise ValueError(f"kernel is {kernel}. There is {sorted(_HELPERS)}. Choose one of them.")
        self.lk_origin = nn.Conv2d(dim, dim, kernel, padding=kernel // 2, groups=dim, bias=deploy)
        self.origin_bn = None if deploy else nn.BatchNorm2d(dim)
        self.helpers = nn.ModuleDict()
        for side, step in () if deploy else _HELPERS[kernel]:
            padding = (step * (side - 1) + 1) // 2
            conv = nn.Conv2d(dim, dim, side, padding=padding, dilation=step, groups=dim, bias=False)
            self.helpers[f"k{side}_{step}"] = nn.Sequential(conv, nn.BatchNorm2d(dim))

    def forward(self, x: Float[Tensor, "batch dim height width"]) -> Float[Tensor, "batch dim height width"]:
        """The convolved map.

        Args:
            x: Map.
        """
        out: Tensor = self.lk_origin(x)
        if self.origin_bn is not None:
            out = self.origin_bn(out)
        for helper in self.helpers.values():
            out = out + helper(x)
        return out

    @torch.no_grad()
    def merge(self) -> None:
        """Fold all branches into the large kernel; what comes out in evaluation mode stays."""
        if self.origin_bn is None:
            return
        kernel, bias = _fused(self.lk_origin, self.origin_bn)
        helpers: list[Any] = list(self.helpers.values())
        for helper in helpers:
            small, shift = _fused(*helper.children())
            wide = _spread(small, next(iter(helper.children())).dilation[0])
            kernel, bias = kernel + F.pad(wide, [(kernel.shape[-1] - wide.shape[-1]) // 2] * 4), bias + shift
        self.lk_origin.weight.copy_(kernel)
        self.lk_origin.bias = nn.Parameter(bias)
        self.origin_bn, self.helpers = None, nn.ModuleDict()


def _fused(conv: Any, norm: Any) -> tuple[Tensor, Tensor]:
    """Kernel and bias of a convolution without bias followed by BatchNorm."""
    factor = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    return conv.weight * factor.reshape(-1, 1, 1, 1), norm.bias - norm.running_mean * factor


def _spread(kernel: Tensor, step: int) -> Tensor:
    """The kernel with the gaps of its dilation written out as zeros."""
    side = step * (kernel.shape[-1] - 1) + 1
    wide = kernel.new_zeros(*kernel.shape[:2], side, side)
    wide[..., ::step, ::step] = kernel
    return wide
