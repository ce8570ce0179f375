"""grid: keep tokens evenly spread over the picture, without looking at it."""

from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from vlmtools.pruning.base import Seen, Selection, TokenPruner


@dataclass(frozen=True)
class GridTokens(TokenPruner):
    """Rows at even distances, and tokens at even distances within them."""

    def select(self, seen: Seen, n_keep: int) -> Selection:
        """Decide by place alone."""
        return Selection(even_grid(seen.grid, n_keep).to(seen.features.device))


def even_grid(grid: tuple[int, int], n_keep: int) -> Int[Tensor, "kept"]:
    """Indices spread evenly over a grid: as many rows as the grid's shape asks for, the tokens shared out among them.

    Args:
        grid: (height, width).
        n_keep: Number of indices, from 1 to height × width.
    """
    height, width = grid
    n_rows = max(-(-n_keep // width), min(height, n_keep, round((n_keep * height / width) ** 0.5)))
    rows = _spread(n_rows, height)
    shares = [(i + 1) * n_keep // n_rows - i * n_keep // n_rows for i in range(n_rows)]
    return torch.cat([row * width + _spread(n, width) for row, n in zip(rows, shares, strict=True)])


def _spread(n: int, length: int) -> Int[Tensor, "n"]:
    """`n` different places in a line, in the middle of equal pieces."""
    return (torch.arange(n) * length * 2 + length).div(2 * n, rounding_mode="floor")
