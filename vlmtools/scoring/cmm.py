"""The Curse of Multi-Modalities (CMM): perception accuracy and hallucination resistance, as officially counted.

Traps worth knowing before numbers are compared:

* An answer is right when the gold word stands within its first five characters, blanks around it removed, in any
  case and not as a word of its own: "Not at all", "know…" and "I know" all answer no. `strict` wants the word itself
  at the beginning; `n_loose` counts the answers it refuses and the official rule takes.
* Perception accuracy is over the questions whose answer is yes, hallucination resistance over those whose answer is
  no; a model that always says yes has 1 and 0.

Reference: arXiv:2410.12787, section 4; the official `calculate_score.py`.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from vlmtools.errors import BadInput

SUBCATEGORIES = (
    "language_dominance", "visual_dominance", "audio_dominance",
    "visual-language", "audio-language", "visual-audio-language",
)  # fmt: skip
"""Of the two categories, overreliance on one input and spurious correlations; the scorer takes whatever it is given."""


@dataclass(frozen=True, slots=True)
class Probe:
    """One question, answered.

    Args:
        answer: As the model wrote it; None when there is none, which is wrong.
        gold: yes or no.
        subcategory: What misleads.
        granularity: object-level or event-level.
    """

    answer: str | None = None
    gold: str = "yes"
    subcategory: str = ""
    granularity: str = ""


@dataclass(frozen=True, slots=True)
class Rates:
    """The metrics over some questions; shares are in [0, 1] and 0 without any question of the kind.

    Args:
        perception: Share of the questions with the answer yes that are answered so.
        resistance: Share of the questions with the answer no that are answered so.
        accuracy: Share of all questions.
        n_yes: Questions with the answer yes.
        n_no: Questions with the answer no.
        n: Questions counted.
    """

    perception: float = 0.0
    resistance: float = 0.0
    accuracy: float = 0.0
    n_yes: int = 0
    n_no: int = 0
    n: int = 0


@dataclass(frozen=True, slots=True)
class CmmScore:
    """CMM of one model.

    Args:
        overall: Over all questions.
        subcategories: Subcategory → its rates.
        granularities: Granularity → subcategory → its rates.
        strict: `overall` when an answer must begin with the word itself.
        n_missing: Questions without an answer.
        n_unread: Answers that begin with neither word.
        n_loose: Answers that are right officially and not when read strictly.
    """

    overall: Rates = Rates()
    subcategories: Mapping[str, Rates] = field(default_factory=dict)
    granularities: Mapping[str, Mapping[str, Rates]] = field(default_factory=dict)
    strict: Rates = Rates()
    n_missing: int = 0
    n_unread: int = 0
    n_loose: int = 0


def is_right(answer: str | None, gold: str, strict: bool = False) -> bool:
    """Whether the gold word stands at the beginning of the answer.

    Args:
        answer: As the model wrote it; None is wrong.
        gold: yes or no.
        strict: The answer begins with the word itself. False is official: within five characters, as letters.
    """
    if answer is None:
        return False
    word, said = gold.strip().lower(), answer.strip().lower()
    return bool(re.match(rf"\W*{re.escape(word)}\b", said)) if strict else word in said[:5]


def rates(probes: Sequence[Probe], strict: bool = False) -> Rates:
    """The metrics over some questions.

    Args:
        probes: Questions with their answers.
        strict: See `is_right`.
    """
    right = [is_right(probe.answer, probe.gold, strict) for probe in probes]
    wants = [_wanted(probe.gold) for probe in probes]
    yes = [ok for ok, want in zip(right, wants, strict=True) if want == "yes"]
    no = [ok for ok, want in zip(right, wants, strict=True) if want == "no"]
    return Rates(_share(yes), _share(no), _share(right), len(yes), len(no), len(right))


def score(probes: Iterable[Probe]) -> CmmScore:
    """CMM over the questions there are.

    Args:
        probes: Questions with their answers.

    Raises:
        BadInput: There are none, or a right answer is neither yes nor no.
    """
    rows = list(probes)
    if not rows:
        raise BadInput("There are no questions to score. CMM has 2,400, two for each of 1,200 samples.")
    odd = next((row.gold for row in rows if not _wanted(row.gold)), None)
    if odd is not None:
        raise BadInput(
            f"The right answer {odd!r} is neither yes nor no. Correct the field `answer` of the data file."
        )
    return CmmScore(
        overall=rates(rows),
        subcategories={name: rates(part) for name, part in _by(rows, "subcategory").items()},
        granularities={
            name: {sub: rates(some) for sub, some in _by(part, "subcategory").items()}
            for name, part in _by(rows, "granularity").items()
        },
        strict=rates(rows, strict=True),
        n_missing=sum(row.answer is None for row in rows),
        n_unread=sum(row.answer is not None and not _begins(row.answer) for row in rows),
        n_loose=sum(
            is_right(row.answer, row.gold) and not is_right(row.answer, row.gold, True) for row in rows
        ),
    )


def _begins(answer: str) -> bool:
    return is_right(answer, "yes", strict=True) or is_right(answer, "no", strict=True)


def _wanted(gold: str) -> str:
    start = gold.strip().lower()[:5]
    return next((word for word in ("yes", "no") if word in start), "")


def _by(probes: Iterable[Probe], name: str) -> dict[str, list[Probe]]:
    parts: dict[str, list[Probe]] = {}
    for probe in probes:
        parts.setdefault(getattr(probe, name), []).append(probe)
    return parts


def _share(values: Sequence[bool]) -> float:
    return sum(values) / len(values) if values else 0.0
