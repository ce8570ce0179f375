"""What a layout is: the way that patches of a vision tower take to become image tokens, and the means it is made of."""

import contextlib
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from vlmtools.families._probe import Anatomy
from vlmtools.pruning._packing import Area

Channels = Float[Tensor, "patch channel"]
"""Values of all patches of a call in the order of the tower, class tokens left out."""


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """Pictures or videos after encoding.

    Args:
        kind: `image` or `video`.
        inputs: Of the call.
        items: Features of every picture, tile or row of the batch, (token, dim), in the order of the placeholders.
    """

    kind: str
    inputs: Mapping[str, Any]
    items: tuple[Tensor, ...]

    @property
    def n_tokens(self) -> int:
        """Placeholders they fill."""
        return sum(map(len, self.items))


class Layout(ABC):
    """The way of one family.

    Args:
        parts: Of the model.
    """

    def __init__(self, parts: Anatomy) -> None:
        self.base, self.config = parts.model.base_model, parts.model.config
        self.tower = parts.model.get_encoder(modality="image")

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Around the encoding, for layouts that learn from it."""
        yield

    @abstractmethod
    def areas(self, encoded: Encoded) -> list[Area]:
        """The views among the placeholders.

        Args:
            encoded: The pictures.
        """

    @abstractmethod
    def pack(self, values: Channels, encoded: Encoded) -> Float[Tensor, "place channel"]:
        """Values of patches, one row per placeholder; NaN where no patch stands behind one.

        Args:
            values: Of the patches.
            encoded: The pictures.
        """


def one_each(items: tuple[Tensor, ...], grids: list[tuple[int, int]]) -> list[Area]:
    """A view per item, at its end; what comes before it (a class token) belongs to no view.

    Args:
        items: Features of pictures or tiles.
        grids: (height, width) of each, in tokens.
    """
    areas, start = [], 0
    for index, (item, (height, width)) in enumerate(zip(items, grids, strict=True)):
        extra = len(item) - height * width
        areas.append(Area(torch.arange(start + extra, start + len(item)), (height, width), index))
        start += len(item)
    return areas


def square(n: int) -> tuple[int, int]:
    """(height, width) of tokens of a square picture, a class token left out; one row where they fill no square.

    Args:
        n: Tokens.
    """
    side = math.isqrt(n)
    return (side, side) if side * side in (n, n - 1) else (1, n)


def block_means(values: Channels, grid: tuple[int, int], size: int) -> Float[Tensor, "token channel"]:
    """Means over squares of patches, for one picture in raster order.

    Args:
        values: Of its patches.
        grid: (height, width) in patches; what does not fill a square is left out.
        size: Side of a square.
    """
    height, width = (one // size for one in grid)
    cropped = values.reshape(*grid, -1)[: height * size, : width * size]
    return cropped.reshape(height, size, width, size, -1).mean((1, 3)).flatten(0, 1)


def cell_means(values: Channels, size: int, order: Tensor | None = None) -> Float[Tensor, "token channel"]:
    """Means over patches that lie next to each other because they will be merged.

    Args:
        values: Of the patches.
        size: Patches per token.
        order: Token that stands at each place when the tower works in windows; None when in raster order.
    """
    means = values.reshape(-1, size, values.shape[-1]).mean(1)
    return means if order is None else means[order.to(means.device).argsort()]
