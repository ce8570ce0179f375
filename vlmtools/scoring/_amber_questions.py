"""AMBER's questions: yes/no answers by the official exact words, precision and recall of the answer No.

Reference: arXiv:2311.07397, section 4; the official `inference.py`.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from vlmtools.errors import BadInput, UnknownName, suggest
from vlmtools.scoring.yes_no import YesNo
from vlmtools.scoring.yes_no import lenient as read_lenient

START = 0.001
"""Where the official program's denominators begin."""

PARTS: Mapping[str, tuple[str, ...]] = {
    "existence": ("existence",),
    "attribute": ("state", "number", "action"),
    "state": ("state",),
    "number": ("number",),
    "action": ("action",),
    "relation": ("relation",),
}
"""Rows of the official table below the total → the kinds of question counted in them."""


_KINDS = {
    "discriminative-hallucination": "existence",
    "discriminative-attribute-state": "state",
    "discriminative-attribute-number": "number",
    "discriminative-attribute-action": "action",
}


_ADDED = {"existence": 0.001}


@dataclass(frozen=True, slots=True)
class Part:
    """Counts of one part of the discriminative task.

    Args:
        n: Questions.
        n_right: Answered rightly.
        n_no: Questions whose answer is no.
        n_said_no: Answers that say no.
        n_no_right: Those of them that are right.
        added: What the official F1 has in its denominator.
    """

    n: int = 0
    n_right: int = 0
    n_no: int = 0
    n_said_no: int = 0
    n_no_right: int = 0
    added: float = 0.0001

    @property
    def accuracy(self) -> float:
        """Right answers / questions."""
        return self.n_right / self.n if self.n else 0.0

    @property
    def precision(self) -> float:
        """Of the answers that say no, the share that is right."""
        return self.n_no_right / self.n_said_no if self.n_said_no else 0.0

    @property
    def recall(self) -> float:
        """Of the questions whose answer is no, the share answered so."""
        return self.n_no_right / self.n_no if self.n_no else 0.0

    @property
    def f1(self) -> float:
        """Harmonic mean of the two, without the official rounding."""
        both = self.precision + self.recall
        return 2 * self.precision * self.recall / both if both else 0.0

    @property
    def printed(self) -> dict[str, float]:
        """The four numbers as the official program prints them (percent, one digit)."""
        pairs = ((self.n_right, self.n), (self.n_no_right, self.n_said_no), (self.n_no_right, self.n_no))
        accuracy, precision, recall = (round(part / (whole + START) * 100, 1) for part, whole in pairs)
        return {
            "accuracy": accuracy, "precision": precision, "recall": recall,
            "f1": round(float(f1(precision / 100, recall / 100, self.added)) * 100, 1),
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Discriminative:
    """The discriminative task.

    Args:
        total: Over all questions.
        parts: Row of the official table → its counts.
        n_unread: Answers the rule could not read; they are wrong.
    """

    total: Part = Part()
    parts: Mapping[str, Part] = field(default_factory=dict)
    n_unread: int = 0


def read(response: str, rule: str = "official") -> YesNo | None:
    """Yes, no, or None when the answer is neither.

    Args:
        response: As the model wrote it.
        rule: `official` takes exactly `Yes` and `No`; `lenient` what a person would read.

    Raises:
        UnknownName: No such rule.
    """
    if rule == "official":
        return "yes" if response == "Yes" else "no" if response == "No" else None
    if rule == "lenient":
        return read_lenient(response)
    raise UnknownName(f"AMBER has no rule {rule!r}.{suggest(rule, ('official', 'lenient'))}")


def part_of(kind: str) -> str:
    """The part of the table that a question belongs to: existence, state, number, action or relation.

    Args:
        kind: The official `type`, such as `discriminative-attribute-state`.
    """
    return _KINDS.get(kind, "relation")


def discriminative(answers: Iterable[tuple[str, str, YesNo | None]]) -> Discriminative:
    """The table of the discriminative task.

    Args:
        answers: (official type, truth, what was read) of every question; see `read`.

    Raises:
        BadInput: A truth is neither yes nor no.
    """
    each = [(part_of(kind), _checked(truth), said) for kind, truth, said in answers]
    parts = {
        name: _part([row for row in each if row[0] in kinds], _ADDED.get(name, 0.0001))
        for name, kinds in PARTS.items()
    }
    return Discriminative(_part(each), parts, sum(said is None for _, _, said in each))


def f1(precision: float, recall: float, added: float = 0.0001) -> float:
    """The official F1; give it precision and recall rounded to three digits to get the published number.

    Args:
        precision: 0 to 1.
        recall: 0 to 1.
        added: What stands in the denominator besides the two; .001 for existence.

    Reference: the official `inference.py`.
    """
    return 2 * precision * recall / (precision + recall + added)


def _part(rows: Collection[tuple[str, YesNo, YesNo | None]], added: float = 0.0001) -> Part:
    return Part(
        n=len(rows),
        n_right=sum(said == truth for _, truth, said in rows),
        n_no=sum(truth == "no" for _, truth, _ in rows),
        n_said_no=sum(said == "no" for _, _, said in rows),
        n_no_right=sum(said == truth == "no" for _, truth, said in rows),
        added=added,
    )


def _checked(truth: str) -> YesNo:
    if truth in ("yes", "no"):
        return "yes" if truth == "yes" else "no"
    raise BadInput(
        f"The truth of a question is {truth!r}. AMBER has 'yes' and 'no'; take it from annotations.json."
    )
