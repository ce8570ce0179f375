"""AVHBench: does a model hear what it only sees, or see what it only hears; yes/no metrics per task.

No official program for these metrics is public: the metrics are the paper's (accuracy, precision, recall, F1 and the
share of yes, per task, yes being positive), the reading of an answer is ours. The first of the words yes and no that
stands alone in the answer is what it says; an answer with neither is wrong, is no prediction of yes, and is counted.

Captions (task `AV Captioning`) are not scored: the paper uses METEOR, CIDEr and a judge on them. They are counted.

Reference: arXiv:2410.18325, section 4.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from vlmtools.errors import BadInput

TASKS = (
    "Audio-driven Video Hallucination",
    "Video-driven Audio Hallucination",
    "AV Matching",
    "AV Captioning",
)
"""Task names of the test questions; only the last is not answered with yes or no."""
CAPTIONING = "AV Captioning"


@dataclass(frozen=True, slots=True)
class Question:
    """One question, answered.

    Args:
        task: One of `TASKS`.
        answer: As the model wrote it; None when there is none, which is wrong.
        gold: Yes or No, in any case; for captions the reference caption.
    """

    task: str = ""
    answer: str | None = None
    gold: str = "Yes"


@dataclass(frozen=True, slots=True)
class TaskScore:
    """The metrics of one task; shares are in [0, 1].

    Args:
        accuracy: Share of questions answered rightly.
        precision: Of the answers yes, the share that is right; 0 without any.
        recall: Of the questions with the answer yes, the share answered so; 0 without any.
        f1: Harmonic mean of the two.
        yes: Share of answers that say yes.
        n: Questions counted.
        n_unread: Answers with neither word.
        n_missing: Questions without an answer.
    """

    accuracy: float = 0.0
    precision: float = 0.0
    recall: float = 0.0
    f1: float = 0.0
    yes: float = 0.0
    n: int = 0
    n_unread: int = 0
    n_missing: int = 0


@dataclass(frozen=True, slots=True)
class AvhBenchScore:
    """AVHBench of one model.

    Args:
        tasks: Task → its metrics, captions left out.
        n_captions: Captions, which are not scored.
    """

    tasks: Mapping[str, TaskScore] = field(default_factory=dict)
    n_captions: int = 0


def read_answer(answer: str | None) -> str | None:
    """yes, no, or None when the answer has neither as a word of its own; the first one counts.

    Args:
        answer: As the model wrote it.
    """
    found = re.search(r"\b(yes|no)\b", answer or "", re.IGNORECASE)
    return found.group(1).lower() if found else None


def score_task(questions: Sequence[Question]) -> TaskScore:
    """The metrics of one task.

    Args:
        questions: Of one task.

    Reference: arXiv:2410.18325, section 4.
    """
    rows = [(read_answer(one.answer), one.gold.strip().rstrip(".").lower()) for one in questions]
    n_yes, n_true = sum(said == "yes" for said, _ in rows), sum(gold == "yes" for _, gold in rows)
    n_hit = sum(said == gold == "yes" for said, gold in rows)
    precision, recall = _share(n_hit, n_yes), _share(n_hit, n_true)
    n_missing = sum(one.answer is None for one in questions)
    return TaskScore(
        accuracy=_share(sum(said == gold for said, gold in rows), len(rows)),
        precision=precision,
        recall=recall,
        f1=2 * precision * recall / (precision + recall) if n_hit else 0.0,
        yes=_share(n_yes, len(rows)),
        n=len(rows),
        n_unread=sum(said is None for said, _ in rows) - n_missing,
        n_missing=n_missing,
    )


def score(questions: Iterable[Question]) -> AvhBenchScore:
    """AVHBench over the tasks there are.

    Args:
        questions: With their answers.

    Raises:
        BadInput: There are none, or a right answer is neither yes nor no.
    """
    tasks: dict[str, list[Question]] = {}
    for one in questions:
        tasks.setdefault(one.task, []).append(one)
    if not tasks:
        raise BadInput(f"There are no questions to score. AVHBench has the tasks {', '.join(TASKS)}.")
    n_captions = len(tasks.pop(CAPTIONING, ()))
    for one in (one for part in tasks.values() for one in part):
        _check(one)
    return AvhBenchScore({name: score_task(part) for name, part in tasks.items()}, n_captions)


def _check(question: Question) -> None:
    if question.gold.strip().rstrip(".").lower() not in ("yes", "no"):
        raise BadInput(
            f"The right answer {question.gold!r} of task {question.task!r} is neither yes nor no. "
            f"Only {CAPTIONING!r} has other answers. Correct the field `label` of the data file."
        )


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
