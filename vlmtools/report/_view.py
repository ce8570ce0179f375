"""What the page's template shows, computed beforehand so that the template only places it."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from vlmtools.crosscheck.ranking import Evidence, Ranking, Row, WorstClaim
from vlmtools.report import _svg
from vlmtools.report._reading import Facts
from vlmtools.report._spans import Piece, pieces
from vlmtools.report._text import number, one_line
from vlmtools.report._ties import Tie, ties
from vlmtools.report.media import Album, Picture
from vlmtools.types import Json

_EVIDENCE_SHOWN = 3
_LEAST_CONTRAST = 0.2
"""Least range of agreement, in units of support, that the shades cover."""


@dataclass(frozen=True)
class RankedRow:
    """One line of the ranking table."""

    row: Row
    tie: Tie
    plot: Markup
    ranks: Markup


@dataclass(frozen=True)
class Cell:
    """One cell of the agreement matrix.

    Args:
        text: Two decimals, or – where nobody asked.
        shade: 0 (the lowest agreement) to 8 (the highest); -1 where nobody asked.
    """

    text: str
    shade: int


@dataclass(frozen=True)
class Matrix:
    """The agreement matrix in rank order.

    Args:
        names: Rows and columns.
        cells: cells[target][evidence].
        legend: The value at the lower end of each shade, and at the end of the last one.
    """

    names: tuple[str, ...]
    cells: tuple[tuple[Cell, ...], ...]
    legend: tuple[str, ...]


@dataclass(frozen=True)
class Moved:
    """A model's rank under another setting.

    Args:
        rank: None where the setting leaves the model out.
        change: By how many ranks it is worse than in the table; negative when better.
    """

    rank: int | None
    change: int


@dataclass(frozen=True)
class Card:
    """One of the worst claims.

    Args:
        claim: The claim.
        model: Number of its model in the filter.
        pieces: The answer, cut into claims.
        pictures: Its media.
        shown: What others said, least support first, as far as it is open from the start.
        more: The rest of it.
    """

    claim: WorstClaim
    model: int
    pieces: tuple[Piece, ...]
    pictures: tuple[Picture, ...]
    shown: tuple[Evidence, ...]
    more: tuple[Evidence, ...]


def ranked(ranking: Ranking, known: Facts) -> tuple[RankedRow, ...]:
    """The rows with their plots."""
    scale, rows = scale_of(ranking), ranking.rows
    return tuple(
        RankedRow(row, tie, _svg.interval(row, scale, known.percent), _svg.rank_interval(row, len(rows)))
        for row, tie in zip(rows, ties(rows), strict=True)
    )


def scale_of(ranking: Ranking) -> _svg.Axis:
    """The axis all intervals share."""
    return _svg.axis([value for row in ranking.rows for value in (row.score, *row.ci)])


def matrix(ranking: Ranking) -> Matrix | None:
    """The agreement matrix, ranked models first; None when there is nothing to show."""
    names = _in_order(ranking)
    table = [[ranking.agreement.get(target, {}).get(other) for other in names] for target in names]
    known = [value for line in table for value in line if value is not None and value == value]
    if not known:
        return None
    low, step = _shades(min(known), max(known))
    cells = tuple(tuple(_cell(value, low, step) for value in line) for line in table)
    return Matrix(tuple(names), cells, tuple(number(low + step * edge, 2) for edge in range(10)))


def _shades(low: float, high: float) -> tuple[float, float]:
    """Where the shades begin and how wide each is; never so narrow that noise looks like contrast."""
    width = max(high - low, _LEAST_CONTRAST)
    start = min(max(0.0, (low + high - width) / 2), 1 - width)
    return start, width / 9


def _in_order(ranking: Ranking) -> list[str]:
    inside = [*ranking.agreement, *(name for line in ranking.agreement.values() for name in line)]
    return list(dict.fromkeys([*(row.name for row in ranking.rows), *inside]))


def _cell(value: float | None, low: float, step: float) -> Cell:
    if value is None or value != value:
        return Cell("–", -1)
    return Cell(number(value, 2), min(8, max(0, int((value - low) / step))))


def moved(ranking: Ranking) -> dict[str, tuple[Moved, ...]]:
    """Setting → one entry per row of the table."""
    return {
        setting: tuple(_moved(row, ranks.get(row.name)) for row in ranking.rows)
        for setting, ranks in ranking.sensitivity.items()
    }


def _moved(row: Row, rank: int | None) -> Moved:
    return Moved(rank, 0 if rank is None else rank - row.rank)


def cards(worst: Sequence[WorstClaim], album: Album | None) -> tuple[Card, ...]:
    """One card per claim; without an album no picture is read."""
    numbers = {name: index for index, name in enumerate(dict.fromkeys(claim.model for claim in worst))}
    return tuple(_card(claim, numbers[claim.model], album) for claim in worst)


def _card(claim: WorstClaim, model: int, album: Album | None) -> Card:
    said = sorted(claim.evidence, key=lambda one: (one.support, one.model))
    pictures = tuple(
        album.picture(kind, where)
        if album
        else Picture(kind, where, why="pictures were left out of this report")
        for kind, where in claim.media
    )
    return Card(
        claim, model, pieces(claim), pictures, tuple(said[:_EVIDENCE_SHOWN]), tuple(said[_EVIDENCE_SHOWN:])
    )


def flat(record: Mapping[str, Json]) -> list[tuple[str, str]]:
    """The record as (dotted name, value) lines; lists of plain values stay on one line."""
    return list(_flat("", record))


def _flat(name: str, value: Json) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _flat(f"{name}.{key}" if name else str(key), inner)
    elif isinstance(value, list | tuple) and any(isinstance(one, Mapping | list | tuple) for one in value):
        for index, inner in enumerate(value, start=1):
            yield from _flat(f"{name} {index}", inner)
    elif name:
        yield name, _written(value)


def _written(value: Json) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list | tuple):
        return ", ".join(_written(one) for one in value) or "none"
    return json.dumps(value, default=str, ensure_ascii=False)


def figures(rows: Sequence[Row]) -> list[str]:
    """Names of the further figures that any row has."""
    return list(dict.fromkeys(one_line(name) for row in rows for name in row.extra))
