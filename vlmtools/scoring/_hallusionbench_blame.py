"""A question of HallusionBench with its verdict, and: is an error put down to language, to sight, or to both?

Reference: arXiv:2310.14566, section 4; the official `utils.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Verdict = Literal[0, 1, 2]
"""0 wrong, 1 right, 2 uncertain."""


@dataclass(frozen=True, slots=True)
class Judged:
    """One question with the verdict on its answer.

    Args:
        category: VD (needs the figure) or VS (the figure only adds to it).
        subcategory: chart, illusion, map, …
        set_id: Figures that belong together.
        figure_id: Number within the set; 0 is the original figure, or none at all for VS.
        question_id: Number of the question.
        visual_input: 0 no figure, 1 original, 2 edited.
        verdict: 0 wrong, 1 right, 2 uncertain.
        truth: Whether the right answer is yes.
        same: Whether the answer agrees with the one on the original figure, as the second judge says. True is what
            a run without that judge assumes.
    """

    category: str = "VD"
    subcategory: str = ""
    set_id: str = "0"
    figure_id: str = "0"
    question_id: str = "0"
    visual_input: str = "1"
    verdict: Verdict = 0
    truth: bool = True
    same: bool = True

    @property
    def pair(self) -> tuple[str, ...]:
        """What the same question on other figures shares."""
        return (self.category, self.subcategory, self.set_id, self.question_id)

    @property
    def figure(self) -> tuple[str, ...] | None:
        """What other questions on the same figure share; None where there is no figure."""
        if self.category == "VS" and self.figure_id == "0":
            return None
        return (self.category, self.subcategory, self.set_id, self.figure_id)

    @property
    def hard(self) -> bool:
        """Whether the figure was edited."""
        return self.visual_input == "2"

    @property
    def right(self) -> bool:
        """Whether it counts as right: uncertain does, for VS without a figure."""
        return self.verdict == 1 or (self.verdict == 2 and self.category == "VS" and self.figure_id == "0")


def blamed(row: Judged, original: Verdict) -> tuple[bool, bool]:
    """(language, sight): what an answer's error is put down to; (False, False) where there is none.

    Args:
        row: The question with its verdict.
        original: The verdict on the same question with figure 0.

    Reference: arXiv:2310.14566, figure 4; the official `get_eval_pair_all`.
    """
    if row.category == "VD":
        return _blamed_vd(row, original)
    if row.figure_id == "0":
        return row.verdict == 0, False
    if row.verdict == 1:
        return False, False
    if original == 0:
        return True, not (row.verdict == 0 and row.same)
    by_language = original == 1 and row.verdict == 0 and row.hard and row.same
    return by_language, not by_language


def _blamed_vd(row: Judged, original: Verdict) -> tuple[bool, bool]:
    if row.verdict == 1:
        return False, False
    mixed = row.figure_id != "0" and original == 1 and row.verdict == 0 and row.same
    return mixed, True


def blame(rows: Sequence[Judged]) -> dict[str, float]:
    """Share of errors put down to `language`, `sight` or `both`; empty without errors.

    Args:
        rows: Questions, those on the original figures among them.
    """
    first = {row.pair: row.verdict for row in rows if row.figure_id == "0"}
    found = [blamed(row, first[row.pair]) for row in rows]
    counts = {
        "language": found.count((True, False)),
        "sight": found.count((False, True)),
        "both": found.count((True, True)),
    }
    n_errors = sum(counts.values())
    return {name: count / n_errors for name, count in counts.items()} if n_errors else {}
