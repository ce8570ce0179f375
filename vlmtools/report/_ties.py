"""Which ranked models stand under one bracket."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from vlmtools.crosscheck.ranking import Row

Place = Literal["none", "only", "first", "middle", "last"]


@dataclass(frozen=True)
class Tie:
    """One row's part of a bracket.

    Args:
        place: Where in the bracket the row stands; `none` outside any, `only` where its companions
            stand elsewhere.
        letter: Name of the group, a to z, then aa …; empty outside any.
    """

    place: Place = "none"
    letter: str = ""


def ties(rows: Sequence[Row]) -> tuple[Tie, ...]:
    """One `Tie` per row, in order; groups of one model have no bracket.

    Args:
        rows: In rank order.
    """
    groups = [row.tie_group for row in rows]
    sizes = Counter(groups)
    shared = [group for group in dict.fromkeys(groups) if sizes[group] > 1]
    letters = {group: _letter(index) for index, group in enumerate(shared)}
    return tuple(
        Tie(_place(groups, index), letters[group]) if group in letters else Tie()
        for index, group in enumerate(groups)
    )


def _place(groups: Sequence[int], index: int) -> Place:
    above = index > 0 and groups[index - 1] == groups[index]
    below = index + 1 < len(groups) and groups[index + 1] == groups[index]
    if above:
        return "middle" if below else "last"
    return "first" if below else "only"


def _letter(index: int) -> str:
    first, last = divmod(index, 26)
    return (chr(96 + first) if first else "") + chr(97 + last)
