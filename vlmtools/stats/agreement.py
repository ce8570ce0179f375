"""How well every column of a table agrees with one of them."""

from collections.abc import Iterable
from dataclasses import dataclass

from vlmtools.errors import BadInput
from vlmtools.stats.association import KINDS, Correlation, correlation
from vlmtools.stats.columns import Column, NumberTable


@dataclass(frozen=True)
class Agreement:
    """One column against the chosen one.

    Args:
        column: Its name.
        n: Rows where both have a number.
        flipped: True when its sign was turned, because it and the chosen column point in opposite directions.
        pearson: Linear agreement.
        spearman: Agreement of the ranks.
        kendall: Agreement of the orders of pairs (tau-b).
    """

    column: str
    n: int
    flipped: bool
    pearson: Correlation
    spearman: Correlation
    kendall: Correlation


def agreements(
    table: NumberTable,
    against: str,
    higher_is_better: Iterable[str] = (),
    level: float = 0.95,
    n_boot: int | None = None,
    seed: int = 0,
) -> tuple[Agreement, ...]:
    """Correlate every column with one, signs turned so that good agreement is positive.

    A column whose header does not say counts as lower-is-better, like a hallucination score.

    Args:
        table: The columns.
        against: Name, or unique beginning of the name, of the column to compare with.
        higher_is_better: Names of columns where more is better, besides those marked ↑.
        level: Coverage of the intervals, between 0 and 1.
        n_boot: Resamples of the rows; None chooses the method by the number of rows (see `correlation`).
        seed: Seed of the resampling.

    Raises:
        UnknownName: No such column.
        BadInput: There is no other column.
    """
    chosen = table.find(against)
    upward = {table.find(name).name for name in higher_is_better}
    others = [column for column in table.columns if column is not chosen]
    if not others:
        raise BadInput(f"{chosen.name!r} is the only numeric column; there is nothing to compare it with.")
    return tuple(
        _agreement(column, chosen, _up(column, upward) != _up(chosen, upward), level, n_boot, seed)
        for column in others
    )


def _up(column: Column, upward: set[str]) -> bool:
    return bool(column.higher_is_better) or column.name in upward


def _agreement(
    column: Column, chosen: Column, flipped: bool, level: float, n_boot: int | None, seed: int
) -> Agreement:
    values = -column.values if flipped else column.values
    each = {kind: correlation(values, chosen.values, kind, level, n_boot, seed) for kind in KINDS}
    return Agreement(
        column.name, each["pearson"].n, flipped, each["pearson"], each["spearman"], each["kendall"]
    )
