"""A ranking as comma-separated values, safe to open in a spreadsheet."""

import csv as writer
import io
from collections.abc import Sequence

from vlmtools.crosscheck.ranking import Ranking, Row
from vlmtools.report._text import one_line

COLUMNS = (
    "rank", "model", "score", "ci_low", "ci_high", "rank_low", "rank_high", "rank_loo_low", "rank_loo_high",
    "tie_group", "n_items", "n_claims", "claims_per_item", "words_per_item", "unparsed", "weight", "modality",
)  # fmt: skip
"""The header, after which the names of further per-model figures follow."""


def csv(ranking: Ranking) -> str:
    """One line per model in rank order, with a header; numbers in full precision, nothing where there is none.

    A spreadsheet would run a text cell that begins with `=`, `+`, `-`, `@`, a tab or a line break as a formula. Such
    names get an apostrophe in front: a program that reads the file back removes it, or reads JSON instead.

    Args:
        ranking: What to write.
    """
    extra = list(dict.fromkeys(name for row in ranking.rows for name in row.extra))
    buffer = io.StringIO()
    lines = writer.writer(buffer, lineterminator="\n")
    lines.writerow([*COLUMNS, *map(guarded, extra)])
    lines.writerows(_cells(row, extra) for row in ranking.rows)
    return buffer.getvalue()


def guarded(text: str) -> str:
    """The text on one line, with an apostrophe in front where a spreadsheet would take it for a formula."""
    line = one_line(text)
    return "'" + line if line[0] in "=+-@" or text[:1] in "\t\r\n" else line


def _cells(row: Row, extra: Sequence[str]) -> list[str]:
    texts = [guarded(row.name), "+".join(row.modality)]
    before = [row.score, *row.ci, *row.rank_ci, *(row.rank_loo or (None, None)), row.tie_group, row.n_items]
    after = [row.n_claims, row.claims_per_item, row.words_per_item, row.unparsed, row.weight]
    figures = [row.extra.get(name) for name in extra]
    return [str(row.rank), texts[0], *map(_number, [*before, *after]), texts[1], *map(_number, figures)]


def _number(value: float | None) -> str:
    return "" if value is None or value != value else repr(value + 0)
