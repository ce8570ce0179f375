"""A ranking as a table in the terminal; plain ASCII without colours where the output is not a terminal."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

from vlmtools.crosscheck.ranking import Interval, Ranking, Row
from vlmtools.report._reading import facts, meaning, measured
from vlmtools.report._text import cells, number, one_line, shorten, span
from vlmtools.report._ties import Tie, ties

_GAP = 2
_PLOT_LEAST, _PLOT_MOST = 16, 44
"""Columns below which an interval plot is not worth looking at, and beyond which it gains nothing."""


@dataclass(frozen=True)
class Signs:
    """The characters the table is drawn with.

    Args:
        line: The interval in the plot.
        dot: The score in the plot.
        left: Lower end of the interval.
        right: Upper end of the interval.
        dash: Between the two ends of a range.
        dots: For what is left out of a long name.
        first: Upper end of a tie bracket.
        middle: Its middle.
        last: Its lower end.
        only: A tied model whose companions stand elsewhere.
        strange: For what cannot be shown.
    """

    line: str = "─"
    dot: str = "●"
    left: str = "╶"
    right: str = "╴"
    dash: str = "–"
    dots: str = "…"
    first: str = "┌"
    middle: str = "│"
    last: str = "└"
    only: str = "╴"
    strange: str = "�"

    def tie(self, tie: Tie) -> str:
        """The part of the bracket that stands in a row."""
        return "" if tie.place == "none" else str(getattr(self, tie.place))


ASCII = Signs("-", "o", "[", "]", "-", "...", "/", "|", "\\", "=", "?")


@dataclass(frozen=True)
class Column:
    """One column of the table.

    Args:
        header: Its name; may have two lines.
        cells: One text per row.
        justify: `left` or `right`.
        style: How its cells are set off, where there are colours.
    """

    header: str = ""
    cells: tuple[str, ...] = ()
    justify: Literal["left", "right"] = "left"
    style: str = ""

    @property
    def width(self) -> int:
        """Terminal cells its longest line takes."""
        return max(cells(line) for text in (self.header, *self.cells) for line in text.split("\n"))


def print_ranking(ranking: Ranking, console: Console, *, page: Path | None = None) -> None:
    """Prints what was measured, the table, what the score means, the warnings and what to do next.

    Args:
        ranking: What to print.
        console: Where. Fits from 60 columns on; a wide console also gets an interval plot.
        page: The saved `report.html`, named as the next thing to look at; None prints no such line.
    """
    signs = signs_for(console)
    _say(console, measured(facts(ranking)) + "\n", "dim", signs)
    console.print(ranking_table(ranking, console.width, signs))
    for text, style in _notes(ranking, signs, page):
        _say(console, text, style, signs)


def signs_for(console: Console) -> Signs:
    """ASCII where the output is piped or cannot show more."""
    unicode = console.is_terminal and (console.encoding or "").lower().replace("-", "").startswith("utf")
    return Signs() if unicode else ASCII


def ranking_table(ranking: Ranking, width: int, signs: Signs) -> Table:
    """The table alone.

    Args:
        ranking: What to show.
        width: Columns there are, from 50 on.
        signs: What to draw with.
    """
    columns = _columns(ranking, signs)
    names, others = columns[1], sum(one.width + _GAP for one in columns) - columns[1].width
    room = max(8, width - others)
    plot = min(_PLOT_MOST, width - others - min(names.width, 32) - _GAP)
    if plot >= _PLOT_LEAST:
        columns.insert(4, _plot_column(ranking.rows, plot, signs))
        room = max(8, width - others - plot - _GAP)
    columns[1] = replace(names, cells=tuple(shorten(name, room, signs.dots) for name in names.cells))
    return _table(columns)


def _table(columns: Sequence[Column]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold", show_edge=False)
    for one in columns:
        table.add_column(Text(one.header), justify=one.justify, no_wrap=True, vertical="bottom")
    for texts in zip(*(one.cells for one in columns), strict=True):
        table.add_row(*(Text(text, style=one.style) for text, one in zip(texts, columns, strict=True)))
    return table


def _columns(ranking: Ranking, signs: Signs) -> list[Column]:
    """Every column but the plot; counts that are equal and shares that are zero in all rows are left out."""
    rows, percent = ranking.rows, facts(ranking).percent.replace(" ", "")
    places = tuple(f"{signs.tie(tie):1} {row.rank}" for row, tie in zip(rows, ties(rows), strict=True))
    ranges = tuple(signs.dash.join(number(end) for end in row.ci) for row in rows)
    columns = [
        Column("#", places, "right"),
        Column("model", tuple(one_line(row.name) for row in rows)),
        Column("score", tuple(number(row.score) for row in rows), "right", "bold"),
        Column(f"{percent} CI", ranges),
        Column("ranks", tuple(span(*row.rank_ci) for row in rows)),
        Column("claims/\nanswer", tuple(number(row.claims_per_item, 1) for row in rows), "right"),
    ]
    if len({row.n_items for row in rows}) > 1:
        columns.append(Column("items", tuple(str(row.n_items) for row in rows), "right"))
    if any(row.unparsed > 0 for row in rows):
        columns.append(Column("unread", tuple(f"{100 * row.unparsed:.1f}%" for row in rows), "right"))
    return [replace(one, cells=tuple(_speak(text, signs) for text in one.cells)) for one in columns]


def _plot_column(rows: Sequence[Row], width: int, signs: Signs) -> Column:
    ends = _ends(rows)
    left, right = (number(end, 2) for end in ends)
    header = left + " " * (width - len(left) - len(right)) + right
    return Column(header, tuple(drawn(row.score, row.ci, ends, width, signs) for row in rows))


def drawn(score: float, ci: Interval, ends: Interval, width: int, signs: Signs) -> str:
    """The interval as a line of characters, the score as a dot on it.

    Args:
        score: Where the dot stands.
        ci: From where to where the line goes.
        ends: Values at the first and the last character.
        width: Characters there are.
        signs: What to draw with.
    """
    low, dot, high = (_column(value, ends, width) for value in (ci[0], score, ci[1]))
    line = [" "] * width
    line[low : high + 1] = signs.line * (high + 1 - low)
    line[low], line[high] = signs.left, signs.right
    line[dot] = signs.dot
    return "".join(line)


def _column(value: float, ends: Interval, width: int) -> int:
    if value != value or ends[1] <= ends[0]:
        return 0
    return min(width - 1, max(0, round((value - ends[0]) / (ends[1] - ends[0]) * (width - 1))))


def _ends(rows: Sequence[Row]) -> Interval:
    low = min((row.ci[0] for row in rows if row.ci[0] == row.ci[0]), default=0.0)
    high = max((row.ci[1] for row in rows if row.ci[1] == row.ci[1]), default=1.0)
    return low, high


def _notes(ranking: Ranking, signs: Signs, page: Path | None) -> list[tuple[str, str]]:
    notes = [("\n" + meaning(facts(ranking)), "dim")]
    if any(tie.place != "none" for tie in ties(ranking.rows)):
        joined, percent = "".join((signs.first, signs.middle, signs.last)), facts(ranking).percent
        notes.append((f"Models joined by {joined} cannot be told apart at the {percent} level.", "dim"))
    notes += [(f"Warning: {one_line(warning)}", "yellow") for warning in ranking.warnings]
    if page is not None:
        notes.append(
            (f"\nNext: open {page}\n(plots, pairs, and the least supported claims with their pictures)", "")
        )
    return notes


def _say(console: Console, text: str, style: str, signs: Signs) -> None:
    console.print(Text(_speak(text, signs), style=style))


def _speak(text: str, signs: Signs) -> str:
    """The text in the characters there are; ASCII writes others as escapes, which keep names apart."""
    if signs is not ASCII:
        return text
    plain = text.replace("–", "-").replace("−", "-").replace("�", signs.strange).replace("\u00a0", " ")
    return plain.encode("ascii", "backslashreplace").decode("ascii")
