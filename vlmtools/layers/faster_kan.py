"""FasterKAN: a layer that learns a curve for every input, made of smooth bumps at fixed places."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn


class FasterKANLayer(nn.Module):
    """Normalise, see how near every number is to each grid point, mix linearly.

    Args:
        dim_in: Numbers that come in.
        dim: Numbers that go out.
        n_grid: Grid points, evenly from -2 to 2, frozen.
        width: Width of a bump, above 0.

    Reference: arXiv:2502.13693; arXiv:2404.19756
    """

    def __init__(self, dim_in: int, dim: int, n_grid: int = 8, width: float = 0.33) -> None:
        super().__init__()
        self.width = width
        self.layernorm = nn.LayerNorm(dim_in)
        self.grid = nn.Parameter(torch.linspace(-2.0, 2.0, n_grid), requires_grad=False)
        self.spline_linear = nn.Linear(dim_in * n_grid, dim, bias=False)
        nn.init.xavier_uniform_(self.spline_linear.weight)

    def forward(self, x: Float[Tensor, "... dim_in"]) -> Float[Tensor, "... dim"]:
        """The mixed bumps.

        Args:
            x: Numbers.
        """
        away = torch.tanh((self.layernorm(x).unsqueeze(-1) - self.grid) * (1 / self.width))
        out: Tensor = self.spline_linear((1 - away * away).flatten(-2))
        return out


class FasterKAN(nn.Sequential):
    """Several such layers.

    Args:
        widths: Numbers before, between and after the layers.
    """

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__(*(FasterKANLayer(a, b) for a, b in pairwise(widths)))
