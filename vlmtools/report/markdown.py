"""A ranking as Markdown, for a paper draft, an issue or a pull request."""

import re
from collections.abc import Sequence

from vlmtools.crosscheck.ranking import Ranking, Row
from vlmtools.report._reading import facts, meaning, measured, reading
from vlmtools.report._text import number, one_line, span
from vlmtools.report._ties import Tie, ties

_SPECIAL = re.compile(r"[\\`*_{}\[\]|~<>&$@]|^[-+=#]|^\d+(?=[.)])|:(?=//)|(?<=www)\.")


def markdown(ranking: Ranking) -> str:
    """What was measured, the table with intervals, its plain-language reading, and the warnings.

    Args:
        ranking: What to write.
    """
    known = facts(ranking)
    unread = any(row.unparsed > 0 for row in ranking.rows)
    header = ["#", "Tie", "Model", "Score", f"{known.percent} CI", "Ranks", "Claims/answer", "Items"]
    lines = [
        _line(header + ["Unread"] * unread),
        _line(["---:", ":-:", "---", "---:", "---", "---", "---:", "---:"]),
    ]
    lines[1] += " ---: |" * unread
    lines += [
        _line(_cells(row, tie, unread)) for row, tie in zip(ranking.rows, ties(ranking.rows), strict=True)
    ]
    parts = [
        escaped(measured(known)),
        "\n".join(lines),
        _note(ranking),
        _list(reading(ranking)),
        _warned(ranking),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def escaped(text: str) -> str:
    """The text on one line, with all that Markdown or HTML could act on made harmless.

    Args:
        text: Anything. Entities stand for what would be markup, a mention or a link even behind a backslash.
    """
    return _SPECIAL.sub(_harmless, one_line(text))


def _harmless(found: re.Match[str]) -> str:
    named = {"<": "&lt;", ">": "&gt;", "&": "&amp;"}
    plain = found[0] in "\\`*_{}[]~$" or found[0] in "-+=#"
    if found[0][0].isdigit():
        return f"&#{ord(found[0][0])};{found[0][1:]}"
    return "\\" + found[0] if plain else named.get(found[0], f"&#{ord(found[0])};")


def _cells(row: Row, tie: Tie, unread: bool) -> list[str]:
    low, high = (number(end) for end in row.ci)
    figures = [f"**{number(row.score)}**", f"{low} to {high}", span(*row.rank_ci)]
    counts = [number(row.claims_per_item, 1), str(row.n_items)]
    share = [f"{100 * row.unparsed:.1f} %"] * unread
    return [str(row.rank), tie.letter, escaped(row.name), *figures, *counts, *share]


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _note(ranking: Ranking) -> str:
    tied = any(tie.letter for tie in ties(ranking.rows))
    return meaning(facts(ranking)) + " Models with the same letter cannot be told apart." * tied


def _list(sentences: Sequence[str]) -> str:
    return "\n".join(f"- {escaped(sentence)}" for sentence in sentences)


def _warned(ranking: Ranking) -> str:
    return "\n".join(f"> **Warning:** {escaped(warning)}  " for warning in ranking.warnings).rstrip()
