"""VidHalluc's scene changes: was one seen, and are the two places described alike?

Reference: arXiv:2412.03735, section 4; the official `eval_sth.py`.
"""

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from vlmtools.errors import BadInput

LOWEST_SIMILARITY = 0.5
"""A similarity of places up to this counts nothing in the official main function."""


Similarity = Callable[[str, str], float]
"""How alike two places are, from −1 to 1."""


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
