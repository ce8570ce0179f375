"""Which entry of a table of offsets belongs to a pair of pixels, and which pairs a shift has brought together."""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def relative_index(side: int, wide: int) -> Int[Tensor, "query key"]:
    """Entries of the table of offsets, for the pixels of a window and those of a window around it.

    Args:
        side: Side of the window of queries.
        wide: Side of the window of keys, at least `side`.
    """
    if wide == side:
        offset = _coordinates(side)[:, None] - _coordinates(wide)[None] + side - 1
    else:
        # published with a shift that leaves negative entries: they count from the end of the table
        offset = _coordinates(wide)[None] - _coordinates(side)[:, None] + side - wide + 1
    step = side + wide - 1
    return (offset[..., 0] * step + offset[..., 1]) % step**2


def shift_mask(height: int, width: int, side: int, shift: int) -> Float[Tensor, "window query key"]:
    """-100 for pairs of pixels that only the shift has brought into one window, 0 for others.

    Args:
        height: Height of the map.
        width: Width of the map.
        side: Side of a window.
        shift: How far windows were moved.
    """
    number = 3 * _parts(height, side, shift)[:, None] + _parts(width, side, shift)[None]
    cut = number.reshape(height // side, side, width // side, side).transpose(1, 2).reshape(-1, side**2)
    return torch.where(cut[:, None] == cut[:, :, None], 0.0, -100.0)


def _coordinates(side: int) -> Tensor:
    steps = torch.arange(side)
    return torch.stack(torch.meshgrid(steps, steps, indexing="ij"), dim=-1).reshape(-1, 2)


def _parts(length: int, side: int, shift: int) -> Tensor:
    steps = torch.arange(length)
    return (steps >= length - side).long() + (steps >= length - shift).long()
