"""Shorten a batch of prompts: which columns stay, in which order, and everything that has one entry per token."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from vlmtools.pruning.base import Selection


@dataclass(frozen=True, slots=True, eq=False)
class Area:
    """One view among the placeholders of its kind.

    Args:
        places: Numbers of its tokens among all placeholders of the batch, in raster order.
        grid: (height, width) in tokens.
        picture: Number of the picture, or of the video, it belongs to; None where only the prompt shows it: tiles that
            stand together are one picture.
    """

    places: Int[Tensor, "token"]
    grid: tuple[int, int]
    picture: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Kept:
    """The visual tokens that stay, in the order the language model reads them.

    Args:
        source: Placeholder whose position a token takes, counted over the batch.
        order: Where a token stands among the placeholders; merged tokens stand behind their view.
    """

    source: Int[Tensor, "kept"]
    order: Tensor


def kept_places(n_places: int, areas: Sequence[Area], selections: Sequence[Selection | None]) -> Kept:
    """Bring the decisions for single views together; what belongs to no view stays.

    Args:
        n_places: Placeholders of the batch.
        areas: The views.
        selections: What was decided for each; None keeps it whole.
    """
    decided = [pair for pair in zip(areas, selections, strict=True) if pair[1] is not None]
    stays = torch.ones(n_places, dtype=torch.bool)
    source, order = [], []
    for area, chosen in decided:
        assert chosen is not None  # noqa: S101
        stays[area.places] = False
        source.append(area.places[chosen.kept.cpu()])
        order.append(source[-1].double())
        if chosen.merged is not None and chosen.merged_at is not None:
            source.append(area.places[chosen.merged_at.cpu()])
            order.append(area.places.max().double().expand(len(source[-1])) + 0.5)
    rest = stays.nonzero()[:, 0]
    every, key = torch.cat([rest, *source]), torch.cat([rest.double(), *order])
    by_key = key.argsort(stable=True)
    return Kept(every[by_key], key[by_key])


def columns_of(
    visual: Sequence[Bool[Tensor, "batch seq"]], kept: Sequence[Kept]
) -> list[Int[Tensor, "short"]]:
    """For every prompt the columns that stay, in their new order.

    Args:
        visual: The placeholders of each kind.
        kept: Which of them stay.
    """
    text = ~torch.stack(list(visual)).any(0)
    found = [_placed(mask.cpu(), one) for mask, one in zip(visual, kept, strict=True)]
    return [_row(row, text[row].cpu().nonzero()[:, 0], found) for row in range(len(text))]


def _placed(mask: Tensor, kept: Kept) -> tuple[Tensor, Tensor, Tensor]:
    """(row, column, sort key) of every token that stays."""
    rows, columns = mask.nonzero(as_tuple=True)
    behind = kept.order - kept.order.floor()
    key = columns[kept.order.long()].double() + behind
    return rows[kept.source], columns[kept.source], key


def _row(row: int, text: Tensor, found: Sequence[tuple[Tensor, Tensor, Tensor]]) -> Tensor:
    mine = [rows == row for rows, _, _ in found]
    columns = torch.cat([text, *(one[1][here] for one, here in zip(found, mine, strict=True))])
    key = torch.cat([text.double(), *(one[2][here] for one, here in zip(found, mine, strict=True))])
    return columns[key.argsort(stable=True)]


@dataclass(frozen=True, slots=True, eq=False)
class Cut:
    """How a batch is shortened: its rows are gathered and filled up on the left.

    Args:
        columns: Source columns; 0 at fillers.
        filler: Which places were filled up.
    """

    columns: Int[Tensor, "batch short"]
    filler: Bool[Tensor, "batch short"]

    def of(self, values: Tensor, fill: int) -> Tensor:
        """Anything with one entry per token, (…, batch, seq).

        Args:
            values: To shorten.
            fill: For the fillers.
        """
        columns = self.columns.to(values.device).expand(*values.shape[:-1], -1)
        return values.gather(-1, columns).masked_fill(self.filler.to(values.device), fill)


def cut(columns: Sequence[Int[Tensor, "short"]], real: Bool[Tensor, "batch seq"], spare: int = 0) -> Cut:
    """Rows of different length side by side, without columns that are padding in every row.

    Args:
        columns: For every prompt the columns that stay.
        real: Which tokens of the batch are no padding.
        spare: Columns of padding to put in front all the same.
    """
    real = real.cpu()
    lengths = [int(real[row][kept].long().cumsum(0).eq(0).sum()) for row, kept in enumerate(columns)]
    trimmed = [kept[lead:] for kept, lead in zip(columns, lengths, strict=True)]
    width = max(1, *map(len, trimmed)) + spare
    places = torch.zeros(len(trimmed), width, dtype=torch.long)
    filler = torch.ones(len(trimmed), width, dtype=torch.bool)
    for row, kept in enumerate(trimmed):
        places[row, width - len(kept) :] = kept
        filler[row, width - len(kept) :] = False
    return Cut(places, filler)


def counted(real: Bool[Tensor, "batch seq"]) -> Int[Tensor, "batch seq"]:
    """Positions that count tokens and skip padding, as `generate` numbers them.

    Args:
        real: Which tokens are no padding.
    """
    return (real.long().cumsum(-1) - 1).clamp(min=0)
