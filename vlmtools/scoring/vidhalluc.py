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

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from vlmtools.errors import BadInput
from vlmtools.scoring._vidhalluc_order import read_order

__all__ = [
    "TASKS", "Choice", "Clips", "Order", "Scene", "SceneScore", "Share", "chosen", "is_right_choice",
    "is_right_on_clips", "matthews", "read_order", "read_scene", "said_of_clip", "score_bqa", "score_mcq",
    "score_sth", "score_tsh",
]  # fmt: skip

TASKS = ("mcq", "bqa", "tsh", "sth")
"""Actions by choice, actions by yes/no, temporal sequence, scene transition."""
LETTERS = "ABCD"
LOWEST_SIMILARITY = 0.5
"""A similarity of places up to this counts nothing in the official main function."""
Similarity = Callable[[str, str], float]
"""How alike two places are, from −1 to 1."""


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
class Scene:
    """One video whose change of scene is asked for, answered.

    Args:
        answer: As the model wrote it; None when there is none.
        change: Yes or No: the truth.
        places: The truth, as `from … to ….`
    """

    answer: str | None = None
    change: str = "No"
    places: str = ""


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


@dataclass(frozen=True, slots=True)
class SceneScore:
    """Scene transition of one model.

    Args:
        mcc: Matthews correlation of the answers with the truth, −1 to 1; 0 when undefined.
        classification: ((mcc + 1)/2)², in [0, 1].
        description: How alike the places are, in [0, 1], over videos where both say there is a change.
        overall: .6 × classification + .4 × description; None without a similarity.
        n: Videos counted.
        n_described: Videos where both say there is a change.
        n_unread: Answers that are missing or say neither yes nor no; they count as no change.
    """

    mcc: float = 0.0
    classification: float = 0.25
    description: float | None = None
    overall: float | None = None
    n: int = 0
    n_described: int = 0
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
    named = next((letter for letter, text in options.items() if answer is not None and text.lower() in said), "")
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


def read_scene(answer: str | None) -> tuple[str, str]:
    """(yes or no or what else stands there, the places) of an answer in the format that was asked for.

    Args:
        answer: As the model wrote it.
    """
    change, _, places = (answer or "").partition(", Locations: ")
    return change.split(": ", 1)[-1].split(",")[0].strip().lower(), places.strip()


def score_sth(
    videos: Iterable[Scene], similarity: Similarity | None = None, lowest: float = LOWEST_SIMILARITY
) -> SceneScore:
    """Changes of scene.

    Args:
        videos: With their answers.
        similarity: How alike two places are; None leaves description and overall out.
        lowest: A similarity up to this counts nothing, from 0 to below 1.

    Raises:
        BadInput: There are no videos.

    Reference: arXiv:2412.03735, section 4.
    """
    rows = list(videos)
    if not rows:
        raise BadInput("There are no videos to score. Scene transition needs at least one.")
    read = [read_scene(row.answer) for row in rows]
    truth = [row.change.lower() == "yes" for row in rows]
    said = [change == "yes" for change, _ in read]
    mcc = matthews(truth, said)
    both = [
        (places, row.places)
        for row, (_, places), a, b in zip(rows, read, truth, said, strict=True)
        if a and b
    ]
    classification = ((mcc + 1) / 2) ** 2
    description = None if similarity is None else _mean([_alike(*pair, similarity, lowest) for pair in both])
    return SceneScore(
        mcc=mcc,
        classification=classification,
        description=description,
        overall=None if description is None else 0.6 * classification + 0.4 * description,
        n=len(rows),
        n_described=len(both),
        n_unread=sum(change not in ("yes", "no") for change, _ in read),
    )


def matthews(truth: Sequence[bool], said: Sequence[bool]) -> float:
    """Matthews correlation of two rows of yes and no; 0 when one of them is constant.

    Args:
        truth: What is so.
        said: What was said, in the same order.
    """
    pairs = list(zip(truth, said, strict=True))
    tp, tn = pairs.count((True, True)), pairs.count((False, False))
    fp, fn = pairs.count((False, True)), pairs.count((True, False))
    spread = (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)
    return (tp * tn - fp * fn) / math.sqrt(spread) if spread else 0.0


def _alike(said: str, truth: str, similarity: Similarity, lowest: float) -> float:
    ours, theirs = _from_to(said), _from_to(truth)
    if not ours or not theirs:
        return 0.0
    return _mean([_scaled(similarity(a, b), lowest) for a, b in zip(ours, theirs, strict=True)])


def _from_to(places: str) -> tuple[str, ...]:
    found = re.match(r"from (.+?) to (.+?)\.", places, re.IGNORECASE)
    names = tuple(name.strip() for name in found.groups()) if found else ()
    return names if all(names) else ()


def _scaled(similarity: float, lowest: float) -> float:
    """0 up to `lowest`, 1 at 1, along the logistic curve between."""
    if similarity <= lowest:
        return 0.0
    return (_logistic(similarity) - _logistic(lowest)) / (_logistic(1.0) - _logistic(lowest))


def _logistic(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def _counted(right: Sequence[bool], unread: Sequence[bool]) -> Share:
    n, n_right = len(right), sum(right)
    return Share(n_right / n if n else 0.0, n, n_right, sum(unread))
