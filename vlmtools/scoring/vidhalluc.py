"""VidHalluc: temporal hallucination in actions, order and scenes, as the four official programs count.

Four tasks: actions by multiple choice (`mcq`) and by yes/no over clips that look alike (`bqa`), the order of two
actions (`tsh`), and changes of scene (`sth`).

Traps worth knowing before numbers are compared:

* Multiple choice: every A, B, C or D that stands alone counts, so "A dog is running: C" says {A, C}. Only without any
  letter is the first option taken whose text stands in the answer.
* Yes/no: what comes before the first full stop or comma must be the gold word; a question counts only when the answers
  about all its clips are right.
* Order: "AB." is not read, "ab" is. Of "Action A … b." the last letter of the second name is the full stop; `lenient`
  reads the letter.
* Scenes: .6 × ((MCC + 1)/2)² + .4 × how alike the described places are. The program's default says a similarity up to
  .3 counts nothing, but its main function passes .5, which is what published numbers come from. The published
  similarity is the cosine of SimCSE embeddings; whoever gives another one gets another number.

Reference: arXiv:2412.03735, section 4; the official `eval_mcq.py`, `eval_bqa.py`, `eval_tsh.py`, `eval_sth.py`.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from vlmtools.scoring._vidhalluc_order import read_order
from vlmtools.scoring._vidhalluc_scenes import Scene, SceneScore, matthews, read_scene, score_sth

__all__ = [
    "TASKS", "Choice", "Clips", "Order", "Scene", "SceneScore", "Share", "chosen", "is_right_choice",
    "is_right_on_clips", "matthews", "read_order", "read_scene", "said_of_clip", "score_bqa", "score_mcq",
    "score_sth", "score_tsh",
]  # fmt: skip

TASKS = ("mcq", "bqa", "tsh", "sth")
"""Actions by choice, actions by yes/no, temporal sequence, scene transition."""
LETTERS = "ABCD"


@dataclass(frozen=True, slots=True)
class Choice:
    """One multiple-choice question, answered.

    Args:
        answer: As the model wrote it; None when there is none.
        gold: The right letters, such as `AC`.
        options: Letter → text of the option.
    """

    answer: str | None = None
    gold: str = ""
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Clips:
    """One yes/no question, answered for every clip it is about.

    Args:
        answers: (gold, answer or None) for each clip.
    """

    answers: Sequence[tuple[str, str | None]] = ()


@dataclass(frozen=True, slots=True)
class Order:
    """One question about the order of two actions, answered.

    Args:
        answer: As the model wrote it; None when there is none.
        gold: AB, BA, A or B.
    """

    answer: str | None = None
    gold: str = ""


@dataclass(frozen=True, slots=True)
class Share:
    """How many questions of one task are right.

    Args:
        accuracy: In [0, 1]; 0 without questions.
        n: Questions counted.
        n_right: Those of them that are right.
        n_unread: Questions whose answer, or one of whose answers, is missing or cannot be read; they count as wrong.
    """

    accuracy: float = 0.0
    n: int = 0
    n_right: int = 0
    n_unread: int = 0


def chosen(answer: str | None, options: Mapping[str, str]) -> frozenset[str]:
    """The letters an answer chooses; empty when nothing can be read.

    Args:
        answer: As the model wrote it.
        options: Letter → text of the option, tried in this order when no letter stands alone.
    """
    letters = re.findall(rf"\b[{LETTERS}]\b", answer or "")
    if letters:
        return frozenset(letters)
    said = (answer or "").lower()
    named = next(
        (letter for letter, text in options.items() if answer is not None and text.lower() in said), ""
    )
    return frozenset([named.strip().upper()] if named else [])


def is_right_choice(one: Choice) -> bool:
    """Whether the letters chosen are exactly the right ones.

    Args:
        one: The question.
    """
    return chosen(one.answer, one.options) == frozenset(re.findall(f"[{LETTERS}]", one.gold.strip().upper()))


def said_of_clip(answer: str) -> str:
    """What comes before the first full stop or comma, in capitals.

    Args:
        answer: As the model wrote it.
    """
    return answer.strip().split(".")[0].split(",")[0].strip().upper()


def is_right_on_clips(one: Clips) -> bool:
    """Whether the answers about all clips of a question are right.

    Args:
        one: The question.
    """
    return all(
        answer is not None and said_of_clip(answer) == gold.strip().upper() for gold, answer in one.answers
    )


def score_mcq(questions: Iterable[Choice]) -> Share:
    """Actions by multiple choice.

    Args:
        questions: With their answers.
    """
    rows = list(questions)
    return _counted(
        [is_right_choice(one) for one in rows], [not chosen(one.answer, one.options) for one in rows]
    )


def score_bqa(questions: Iterable[Clips]) -> Share:
    """Actions by yes/no over clips.

    Args:
        questions: With their answers; a question is right when it is right for all its clips.
    """
    rows = list(questions)
    unread = [any(a is None or said_of_clip(a) not in ("YES", "NO") for _, a in one.answers) for one in rows]
    return _counted([is_right_on_clips(one) for one in rows], unread)


def score_tsh(questions: Iterable[Order], lenient: bool = False) -> Share:
    """The order of two actions.

    Args:
        questions: With their answers.
        lenient: See `read_order`.
    """
    rows = list(questions)
    read = [read_order(one.answer, lenient) for one in rows]
    right = [found == one.gold for found, one in zip(read, rows, strict=True)]
    return _counted(right, [found == "None" for found in read])


def _counted(right: Sequence[bool], unread: Sequence[bool]) -> Share:
    n, n_right = len(right), sum(right)
    return Share(n_right / n if n else 0.0, n, n_right, sum(unread))
