"""Read a table of scores, as people publish it, into columns of numbers."""

import csv
import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from vlmtools.errors import BadInput, UnknownName, suggest
from vlmtools.types import Json

MISSING = frozenset({"", "-", "–", "—", "n/a", "na", "nan", "none", "null"})
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?\s*%?", re.IGNORECASE)
_THOUSANDS = re.compile(r"[+-]?\d{1,3}(,\d{3})+(\.\d+)?")
_PARTS = re.compile(r"(.*?)\s*\(([^()]*/[^()]*)\)\s*(.*)")


@dataclass(frozen=True)
class Column:
    """Numbers under one header.

    Args:
        name: The header without its arrow.
        values: One number per row; NaN where the cell is empty.
        higher_is_better: True for ↑, False for ↓, None when the header does not say.
    """

    name: str
    values: Float[np.ndarray, "row"]
    higher_is_better: bool | None = None


@dataclass(frozen=True)
class NumberTable:
    """The numeric columns of a table.

    Args:
        rows: Name of each row: the first column that holds no numbers, or row numbers.
        columns: Columns of numbers, in file order.
        skipped: Why a column that has some numbers could not be used.
    """

    rows: tuple[str, ...]
    columns: tuple[Column, ...]
    skipped: tuple[str, ...] = ()

    def find(self, wanted: str) -> Column:
        """The column of this name, in any case, with or without its arrow, or with this unique beginning.

        Raises:
            UnknownName: No such column.
            BadInput: Several columns begin like this.
        """
        bare = _bare(wanted)[0].casefold()
        found = [c for c in self.columns if c.name.casefold() == bare]
        found = found or [c for c in self.columns if c.name.casefold().startswith(bare)]
        if not found or not bare:
            known = [column.name for column in self.columns]
            raise UnknownName(f"No numeric column is called {wanted!r}.{suggest(bare, known)}")
        if len(found) > 1:
            names = ", ".join(repr(c.name) for c in found)
            raise BadInput(f"{wanted!r} may be any of {names}. Write the whole name of one.")
        return found[0]

    def joined(self, name: str, scores: Mapping[str, float]) -> "NumberTable":
        """The table with one more column, its numbers looked up by row name.

        Args:
            name: Header of the new column.
            scores: Row name → number, lower is better. Rows it does not name stay empty.

        Raises:
            BadInput: It names none of the rows.
        """
        known = {row.strip().casefold(): value for row, value in scores.items()}
        values = np.array([known.get(row.strip().casefold(), np.nan) for row in self.rows], dtype=float)
        if np.isnan(values).all():
            raise BadInput(
                f"No row of the table is named like a model of {name}. The table has {_listed(self.rows)}; "
                f"the scores have {_listed(scores)}. Make the names in the first column equal."
            )
        return NumberTable(self.rows, (*self.columns, Column(name, values, False)), self.skipped)


def read_table(path: Path) -> NumberTable:
    """Read CSV, TSV or JSON (a list of objects, or the `--json` output of crosscheck).

    A cell like "32.0, 17.6" under "CHAIR (s/i)" becomes two columns, "CHAIR s" and "CHAIR i". An arrow at the
    end of a header says which direction is better and is not part of the name.

    Args:
        path: The file; `.json` and `.tsv` are told by their ending, anything else is read as CSV.

    Raises:
        BadInput: The file is not there, is empty, or is not such a table.
    """
    header, rows = _cells(Path(path))
    if not rows:
        raise BadInput(f"{path} has no rows. Give a table with a header and one row per model.")
    parsed = [_column(name, [row[i] for row in rows]) for i, name in enumerate(header)]
    columns = [column for found in parsed if not isinstance(found, str) for column in found]
    names = _names(parsed, rows)
    reasons = [found for i, found in enumerate(parsed) if isinstance(found, str) and i != names]
    called = [str(n + 1) if names is None else row[names] for n, row in enumerate(rows)]
    return NumberTable(tuple(called), tuple(columns), tuple(reasons))


def read_scores(path: Path) -> dict[str, float]:
    """Model → score from the `--json` output of crosscheck.

    Raises:
        BadInput: The file is not there or is no such output.
    """
    content = _json(Path(path))
    if not isinstance(content, dict) or not isinstance(content.get("ranking"), list):
        raise BadInput(f"{path} is not the output of `vlmtools crosscheck --json`: it has no list 'ranking'.")
    try:
        return {str(row["name"]): float(row["score"]) for row in content["ranking"]}
    except (KeyError, TypeError, ValueError):
        raise BadInput(f"{path}: every row of 'ranking' needs a 'name' and a number 'score'.") from None


def _cells(path: Path) -> tuple[list[str], list[list[str]]]:
    if path.suffix.lower() == ".json":
        return _json_cells(path)
    delimiter = "\t" if path.suffix.lower() in (".tsv", ".tab") else ","
    reader = csv.reader(io.StringIO(_text(path), newline=""), delimiter=delimiter)
    lines = [row for row in reader if "".join(row).strip()]
    if not lines:
        return [], []
    header, *rows = lines
    for number, row in enumerate(rows, start=1):
        if len(row) > len(header):
            raise BadInput(
                f"{path}, row {number}: {len(row)} cells under {len(header)} headers. Quote cells that hold a "
                f"{'tab' if delimiter == chr(9) else 'comma'}."
            )
    return header, [row + [""] * (len(header) - len(row)) for row in rows]


def _json_cells(path: Path) -> tuple[list[str], list[list[str]]]:
    content = _json(path)
    if isinstance(content, dict) and "ranking" in content:
        scores = read_scores(path)
        return ["name", "score ↓"], [[name, repr(score)] for name, score in scores.items()]
    if not isinstance(content, list) or not all(isinstance(row, dict) for row in content):
        raise BadInput(
            f"{path} must hold a list of objects, one per model, or the --json output of crosscheck."
        )
    header = list(dict.fromkeys(name for row in content for name in row))
    return header, [[_cell(row.get(name)) for name in header] for row in content]


def _cell(value: Json) -> str:
    if value is None:
        return ""
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError:
        raise BadInput(f"There is no readable file {path}. Give a CSV, TSV or JSON table.") from None
    except UnicodeDecodeError:
        raise BadInput(f"{path} is not UTF-8 text. Save it as UTF-8 CSV.") from None


def _json(path: Path) -> Json:
    try:
        return json.loads(_text(path))
    except json.JSONDecodeError as problem:
        raise BadInput(f"{path} is not JSON: {problem}.") from None


def _names(parsed: Sequence[tuple[Column, ...] | str], rows: Sequence[Sequence[str]]) -> int | None:
    """Which column names the rows: the first, unless it is all numbers; else the first that holds text."""
    if isinstance(parsed[0], str):
        return 0
    texts = (i for i, found in enumerate(parsed) if found == () and any(row[i].strip() for row in rows))
    return next(texts, None)


def _column(header: str, cells: Sequence[str]) -> tuple[Column, ...] | str:
    """The column or columns under a header; none when it holds text; a sentence when it holds some of both."""
    name, better = _bare(header)
    announced = _PARTS.fullmatch(name)
    labels = [label.strip() for label in announced[2].split("/")] if announced else []
    parsed = [_numbers(cell, bool(labels)) for cell in cells]
    sizes = {len(numbers) for numbers in parsed if numbers}
    if not sizes:
        return ()
    if None in parsed or len(sizes) > 1:
        row, cell = _offender(cells, parsed)
        return f"{name!r}: row {row} holds {cell!r}, which is not a number like the others"
    (size,) = sizes
    table = np.array([numbers or [np.nan] * size for numbers in parsed], dtype=float)
    if size == 1:
        return (Column(name, table[:, 0], better),)
    if announced and len(labels) == size:
        names = [" ".join(part for part in (announced[1], label, announced[3]) if part) for label in labels]
    else:
        names = [f"{name} {number}" for number in range(1, size + 1)]
    return tuple(Column(each, table[:, i], better) for i, each in enumerate(names))


def _numbers(cell: str, parts_announced: bool) -> list[float] | None:
    """The numbers of a cell; [] when it is empty; None when it holds anything else."""
    text = cell.strip().replace("−", "-")
    if text.casefold() in MISSING:
        return []
    if _THOUSANDS.fullmatch(text) and not parts_announced:
        return [float(text.replace(",", ""))]
    # Without a blank, "17,6" may be a decimal comma: it is split only where the header announces parts.
    pieces = re.split(r"\s*[,;/]\s*" if parts_announced else r",\s+|\s*[;/]\s*", text)
    if not all(_NUMBER.fullmatch(piece) for piece in pieces):
        return None
    return [float(piece.rstrip("% ")) for piece in pieces]


def _offender(cells: Sequence[str], parsed: Sequence[list[float] | None]) -> tuple[int, str]:
    usual = next(len(numbers) for numbers in parsed if numbers)
    places = (i for i, numbers in enumerate(parsed) if numbers is None or len(numbers) not in (0, usual))
    first = next(places)
    return first + 1, cells[first]


def _bare(header: str) -> tuple[str, bool | None]:
    text = header.strip()
    better = {"↑": True, "↓": False}.get(text[-1:])
    return (text if better is None else text[:-1].rstrip()), better


def _listed(names: Iterable[str], most: int = 5) -> str:
    known = list(names)
    return ", ".join(known[:most]) + (f" and {len(known) - most} more" if len(known) > most else "")
