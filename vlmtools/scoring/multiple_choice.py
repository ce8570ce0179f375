"""Multiple choice: which letter an answer chooses, and the scores of MMVP and CV-Bench.

Traps worth knowing before numbers are compared:

* MMVP counts a pair only when both pictures are answered rightly; guessing gets 25 %. The authors let GPT-4 grade free
  answers (`mmvp_judge_prompt`, `read_grade`); toolkits read letters. Four labels of the published table are swapped
  (questions 99, 100, 279 and 280): `MMVP_CORRECTED` has the right ones, the official numbers use the wrong ones.
* CV-Bench is half the mean of ADE20K and COCO plus half Omni3D: not the share of right answers.
* There is no official reader of letters. `first_letter` takes a leading letter in brackets or not, so "A dog" chooses A
  and "Because…" chooses B; `clear_letter` wants the letter to stand alone.

Reference: MMVP arXiv:2401.06209, section 3; CV-Bench arXiv:2406.16860, section 3.3 and its data card.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from vlmtools.errors import BadInput

MMVP_CORRECTED: Mapping[int, str] = {99: "B", 100: "A", 279: "B", 280: "A"}
"""Number of the question, from 1 → the right letter where the published table is wrong."""

_FIRST = re.compile(r"[(\s]*([A-Za-z])[).\s]*")
_BRACKETED = re.compile(r"\(([A-Za-z])\)")
_ALONE = re.compile(r"(?:^|[\s:*\"'])([A-Za-z])(?=[.),:;*\"']|$)|^\s*([A-Z])(?=\s)")
_ANNOUNCED = re.compile(
    r"(?i:\b(?:answer|option|choice)\b(?:\s+(?:is|would be))?\s*:?\s*)\*{0,2}(?:\(([A-Za-z])\)|([A-Z])\b(?!'))"
)


@dataclass(frozen=True, slots=True)
class PairScore:
    """MMVP of one model.

    Args:
        pair_accuracy: Pairs with both answers right / pairs, in [0, 1]: the benchmark's score.
        accuracy: Right answers / questions, in [0, 1].
        n_pairs: Pairs.
    """

    pair_accuracy: float = 0.0
    accuracy: float = 0.0
    n_pairs: int = 0


@dataclass(frozen=True, slots=True)
class CvScore:
    """CV-Bench of one model; all in [0, 1].

    Args:
        overall: Half of `two_d` plus half of `three_d`.
        two_d: Mean of the accuracies on ADE20K and COCO.
        three_d: Accuracy on Omni3D.
        by_source: Source of the picture → accuracy.
        by_task: Task (Count, Relation, Depth, Distance) → accuracy.
        n: Questions.
    """

    overall: float = 0.0
    two_d: float = 0.0
    three_d: float = 0.0
    by_source: Mapping[str, float] = field(default_factory=dict)
    by_task: Mapping[str, float] = field(default_factory=dict)
    n: int = 0


def first_letter(answer: str, letters: str = "ABCDE") -> str | None:
    """A leading letter, bracketed or not, even when it begins a word; None when it is not one of the choices.

    Args:
        answer: As the model wrote it.
        letters: The choices.
    """
    found = _FIRST.match(answer.strip())
    letter = found[1].upper() if found else ""
    return letter if letter and letter in letters else None


def clear_letter(answer: str, choices: Sequence[str] = (), letters: str = "ABCDE") -> str | None:
    """The choice a person would read: a lone letter, or the text of one choice; None when that is not clear.

    Args:
        answer: As the model wrote it.
        choices: Texts of the choices, in order of the letters; none to read letters only.
        letters: The choices' letters.
    """
    text = answer.strip()
    for pattern in (_ANNOUNCED, _BRACKETED, _ALONE):
        found = {letter.upper() for match in pattern.finditer(text) for letter in match.groups() if letter}
        found &= set(letters)
        if found:
            return found.pop() if len(found) == 1 else None
    named = {letter for letter, choice in zip(letters, choices, strict=False) if _names(text, choice)}
    return named.pop() if len(named) == 1 else None


def choices_of(options: str) -> list[str]:
    """The texts of choices written as `(a) Open (b) Closed`, in order.

    Args:
        options: The published field `Options`.
    """
    return [part.strip() for part in re.split(r"\([a-zA-Z]\)", options)[1:]]


def mmvp_judge_prompt(question: str, correct: str, answer: str) -> str:
    """What the authors ask GPT-4 about one answer, to the letter.

    Args:
        question: The question.
        correct: The right answer.
        answer: As the model wrote it.
    """
    return (
        f"Given the following question {question}, the correct answer is {correct}. "
        f"Does the following answer correctly answers the question, answer:{answer}?"
    )


def read_grade(reply: str | None) -> bool | None:
    """The official reading of the grader's reply: "yes" or "no" alone, in any case; None for anything else.

    Args:
        reply: What the grader wrote; None when the call failed.
    """
    word = (reply or "").removesuffix("\n").lower()
    return word == "yes" if word in ("yes", "no") else None


def pair_score(right: Mapping[int, bool]) -> PairScore:
    """MMVP's two accuracies.

    Args:
        right: Number of the question, from 1 → whether it is answered rightly; 1 and 2 are a pair, 3 and 4 the next.

    Raises:
        BadInput: A question's twin is missing, or there are none.
    """
    alone = [number for number in right if _twin(number) not in right]
    if alone or not right:
        what = (
            f"question {alone[0]} has no answer to its twin {_twin(alone[0])}"
            if alone
            else "there are no answers"
        )
        raise BadInput(
            f"MMVP counts pairs, and {what}. Questions are numbered from 1. Answer both of each pair."
        )
    pairs = [right[number] and right[_twin(number)] for number in right if number % 2]
    return PairScore(sum(pairs) / len(pairs), sum(right.values()) / len(right), len(pairs))


def cv_score(answers: Iterable[tuple[str, str, bool]]) -> CvScore:
    """CV-Bench's numbers.

    Args:
        answers: (source, task, whether it is right) of every question; sources are ADE20K, COCO and Omni3D.

    Raises:
        BadInput: A source is missing.
    """
    rows = list(answers)
    by_source = _accuracies([(source, right) for source, _, right in rows])
    missing = [source for source in ("ADE20K", "COCO", "Omni3D") if source not in by_source]
    if missing:
        raise BadInput(
            f"No answers to CV-Bench's questions on {' and '.join(missing)}; there are "
            f"{', '.join(by_source) or 'none'}. Its score is made of ADE20K, COCO and Omni3D: "
            "answer test_2d.jsonl and test_3d.jsonl."
        )
    two_d = (by_source["ADE20K"] + by_source["COCO"]) / 2
    three_d = by_source["Omni3D"]
    by_task = _accuracies([(task, right) for _, task, right in rows])
    return CvScore((two_d + three_d) / 2, two_d, three_d, by_source, by_task, len(rows))


def _accuracies(rows: Sequence[tuple[str, bool]]) -> dict[str, float]:
    groups: dict[str, list[bool]] = {}
    for name, right in rows:
        groups.setdefault(name, []).append(right)
    return {name: sum(group) / len(group) for name, group in groups.items()}


def _names(text: str, choice: str) -> bool:
    return bool(choice) and re.search(rf"(?<!\w){re.escape(choice)}(?!\w)", text, re.IGNORECASE) is not None


def _twin(number: int) -> int:
    return number + 1 if number % 2 else number - 1
