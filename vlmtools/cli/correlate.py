"""`vlmtools correlate`: does a cheap score rank models like an expensive one?"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from vlmtools.stats.agreement import Agreement
    from vlmtools.stats.association import Correlation
    from vlmtools.stats.columns import NumberTable
    from vlmtools.types import Json

LEVEL = 0.95


def correlate(
    table: Annotated[Path, typer.Argument(help="CSV, TSV or JSON: one row per model, one column per score.")],
    against: Annotated[
        str, typer.Option("--against", "-a", help="Column to compare with, or its beginning: Human.")
    ],
    higher_is_better: Annotated[
        list[str] | None,
        typer.Option(
            "--higher-is-better", help="Column where more is better; ↑ in a header says it too. Repeatable."
        ),
    ] = None,
    scores: Annotated[
        list[Path] | None,
        typer.Option("--scores", help="Output of `crosscheck --json`, joined by model name. Repeatable."),
    ] = None,
    bootstrap: Annotated[
        int | None,
        typer.Option(
            "--bootstrap", min=1, help="Resample the rows this often. Default: a formula below 50 rows."
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the resampling.")] = 0,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Correlate every score of a table with one column: Pearson, Spearman and Kendall, with intervals.

    Signs are turned so that good agreement is positive. Example:
    `vlmtools correlate leaderboard.csv --against Human`
    """
    from vlmtools.cli._screen import console, print_json
    from vlmtools.stats.agreement import agreements

    numbers = _read(table, scores or ())
    found = agreements(numbers, against, higher_is_better or (), LEVEL, bootstrap, seed)
    chosen = numbers.find(against).name
    if json_:
        print_json(_as_json(chosen, numbers, found))
        return
    screen = console()
    screen.print(_as_table(chosen, found))
    for line in _notes(numbers, found):
        screen.print(line, soft_wrap=True, markup=False)


def _read(table: Path, scores: "Sequence[Path]") -> "NumberTable":
    from vlmtools.stats.columns import read_scores, read_table

    numbers = read_table(table)
    for path in scores:
        numbers = numbers.joined(path.stem, read_scores(path))
    return numbers


def _as_table(chosen: str, found: "Sequence[Agreement]") -> "Table":
    from rich.markup import escape
    from rich.table import Table

    shown = Table(title=escape(f"Agreement with {chosen}"), title_justify="left", box=None, pad_edge=False)
    shown.add_column("column", overflow="fold")
    for name in ("n", "Pearson", "Spearman", "Kendall"):
        shown.add_column(name, justify="right", no_wrap=True)
    for row in found:
        name = escape(row.column) + (" *" if row.flipped else "")
        shown.add_row(name, str(row.n), *map(_shown, (row.pearson, row.spearman, row.kendall)))
    return shown


def _shown(value: "Correlation") -> str:
    if value.value != value.value:
        return "–"
    low, high = value.ci
    interval = "" if low != low else rf" \[{_short(low, 2)}, {_short(high, 2)}]"
    return _short(value.value, 3) + interval


def _short(value: float, digits: int) -> str:
    """Without the leading zero, so that three coefficients with intervals fit on 80 columns."""
    text = f"{value:.{digits}f}"
    return text.replace("0.", ".", 1) if abs(float(text)) < 1 else text


def _notes(numbers: "NumberTable", found: "Sequence[Agreement]") -> list[str]:
    methods = dict.fromkeys(
        each.interval for row in found for each in (row.pearson, row.spearman, row.kendall)
    )
    known = ", ".join(method for method in methods if not method.startswith("none"))
    notes = ["", f"{LEVEL:.0%} intervals by {known}." if known else "Too few rows for intervals."]
    flipped = ", ".join(row.column for row in found if row.flipped)
    if flipped:
        notes.append(f"* Sign turned, because the better direction is the opposite one: {flipped}.")
    best = {kind: _best(found, kind) for kind in ("spearman", "pearson")}
    if len(set(best.values())) > 1:
        notes.append(f"Best by Spearman: {best['spearman']}. Best by Pearson: {best['pearson']}.")
    return notes + [f"Left out: {reason}." for reason in numbers.skipped]


def _best(found: "Sequence[Agreement]", kind: str) -> str:
    values = {row.column: getattr(row, kind).value for row in found}
    known = {name: value for name, value in values.items() if value == value}
    return max(known, key=lambda name: known[name], default="")


def _as_json(chosen: str, numbers: "NumberTable", found: "Sequence[Agreement]") -> "Json":
    return {
        "against": chosen,
        "n_rows": len(numbers.rows),
        "level": LEVEL,
        "columns": [
            {
                "column": row.column,
                "n": row.n,
                "flipped": row.flipped,
                **{each.kind: _correlation_json(each) for each in (row.pearson, row.spearman, row.kendall)},
            }
            for row in found
        ],
        "skipped": list(numbers.skipped),
    }


def _correlation_json(value: "Correlation") -> "Json":
    plain = {"value": value.value, "low": value.ci[0], "high": value.ci[1], "p": value.p}
    known = {name: (None if number != number else number) for name, number in plain.items()}
    return known | {"interval": value.interval, "test": value.test}
