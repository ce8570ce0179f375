"""Object HalBench: COCO objects a model makes up in long descriptions, extracted by a language model.

Traps worth knowing before numbers are compared:

* The response rate is over answers that name any COCO object (`response`), not over all (`response_all`).
* In one answer a word counts once; "man" and "woman" are two words for one object and count twice.
* Answers of three words or fewer are not shown to the judge and name nothing.
* Officially each extracted name is tagged and brought to singular by spaCy's `en_core_web_trf`, and adjacent nouns make
  one name ("baseball player" is nothing). That model is not part of this package: `node_words` uses plain rules of
  plural, a name counts when it is a word of the table once leading adjectives of a short list are dropped, or when it
  holds a known pair of words. How often this differs from spaCy has not been measured.
* The judge was gpt-3.5-turbo-0613, which is retired; numbers of different judges must not stand in one table.

Reference: arXiv:2312.00849, section 4.1 (after arXiv:1809.02156); the official `eval_gpt_obj_halbench.py`.
"""

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cache

from vlmtools.errors import BadInput
from vlmtools.scoring._coco_objects import PAIRS, SYNONYMS
from vlmtools.scoring._lemmas import shortest_form

# ruff: noqa: SIM905 - lists of words are read as text

_MORE = {
    "person": ("brother", "pedestrian"),
    "motorcycle": ("motor bike",),
    "cake": ("cheesecake",),
    "dining table": ("coffee table",),
    "remote": ("remote control",),
    "cell phone": ("iphone",),
    "oven": ("stove top oven",),
}
"""What the refined table has beyond CHAIR's."""
_BY_THE_WAY = frozenset(
    """
    a an the one two three four five several some many few other another small large big tall short long little tiny
    huge young old elderly new red orange yellow green blue purple pink brown black white gray grey beige dark bright
    light wooden metal plastic glass stone empty full open closed parked male female
    """.split()
)

TEMPLATE = (
    "A model was shown a picture and asked a question.\n\nQuestion: {question}\n\nAnswer: {answer}\n\n"
    "Take the answer for true and list every visible object that it says is in the picture: only objects named in the "
    "answer, only their names, without colour, material, number or other attributes. Reply with a JSON list of strings "
    'and nothing else, such as ["dog", "tennis racket"]; reply [] when there is none.'
)
"""Our prompt for the judge; the official one asks for the same list in other words."""


@dataclass(frozen=True, slots=True)
class Extracted:
    """One answer's objects against its picture.

    Args:
        words: (word, object) of each COCO object named, each word once.
        hallucinated: Those of them that are not in the picture.
        n_found: Distinct objects rightly named.
        n_truth: Objects in the picture.
        n_words: Words of the answer, split at single blanks.
    """

    words: tuple[tuple[str, str], ...] = ()
    hallucinated: tuple[tuple[str, str], ...] = ()
    n_found: int = 0
    n_truth: int = 0
    n_words: int = 0


@dataclass(frozen=True, slots=True)
class ObjectHalScore:
    """Object HalBench of one model; rates in [0, 1].

    Args:
        response: Answers with a hallucinated object / answers that name any.
        mention: Hallucinated words / words that name an object.
        response_all: Answers with a hallucinated object / answers.
        recall: Distinct objects rightly named / objects in the pictures.
        n: Answers.
        n_naming: Answers that name any object.
        mean_words: Mean number of words of an answer.
    """

    response: float = 0.0
    mention: float = 0.0
    response_all: float = 0.0
    recall: float = 0.0
    n: int = 0
    n_naming: int = 0
    mean_words: float = 0.0


@cache
def _table() -> dict[str, str]:
    words = {word: node for node, names in SYNONYMS.items() for word in names}
    return words | {word: node for node, names in _MORE.items() for word in names} | {"bow tie": "tie"}


@cache
def _pairs() -> dict[str, str]:
    several = {word: word for word in _table() if " " in word and word.count(" ") == 1}
    return several | PAIRS


def judge_prompt(question: str, answer: str, template: str = TEMPLATE) -> str:
    """What the judge is asked about one answer.

    Args:
        question: The question.
        answer: As the model wrote it.
        template: A text with {question} and {answer}; the default is ours.
    """
    return template.replace("{question}", question).replace("{answer}", answer)


def is_too_short(answer: str) -> bool:
    """Whether the official program takes the answer for empty without asking.

    Args:
        answer: As the model wrote it.
    """
    return len(answer.split()) <= 3


def read_objects(reply: str | None) -> tuple[str, ...] | None:
    """The names in the judge's reply: the whole of it as JSON, or its last line; None when neither is a list.

    Args:
        reply: What the judge wrote; None when the call failed.
    """
    whole = (reply or "").strip()
    for text in (whole, whole.split("\n")[-1] if '["' in whole else ""):
        try:
            found = json.loads(text)
        except ValueError:
            continue
        if isinstance(found, list):
            return tuple(str(name) for name in found)
    return None


def node_words(names: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """(word, object) of each name that is a COCO object, each word once, in order.

    Args:
        names: What the judge extracted.
    """
    words = dict.fromkeys(word for name in names for word in _words_of(name))
    if "toilet" in words:
        words.pop("seat", None)
    return tuple((word, _table()[word]) for word in words if word in _table())


def extracted(answer: str, names: Iterable[str], truth: Collection[str]) -> Extracted:
    """Compare what an answer names with what the picture has.

    Args:
        answer: As the model wrote it.
        names: What the judge extracted from it.
        truth: The objects in the picture, out of COCO's 80.

    Raises:
        BadInput: The truth holds a name that is not one of the 80.
    """
    strange = sorted(set(truth) - set(SYNONYMS))
    if strange:
        raise BadInput(
            f"{strange[0]!r} is not one of the 80 COCO objects. Object HalBench's truth is made like CHAIR's: "
            "`vlmtools.scoring.chair.ground_truth_from_coco` makes it."
        )
    words = node_words(names)
    return Extracted(
        words=words,
        hallucinated=tuple(pair for pair in words if pair[1] not in truth),
        n_found=len({node for _, node in words} & set(truth)),
        n_truth=len(set(truth)),
        n_words=len(answer.strip().split(" ")),
    )


def score(answers: Iterable[Extracted]) -> ObjectHalScore:
    """The official rates.

    Args:
        answers: One per question.

    Raises:
        BadInput: There are none.
    """
    each = list(answers)
    if not each:
        raise BadInput("There are no answers to score. Object HalBench has 300; give at least one.")
    n_wrong, n_naming = sum(bool(one.hallucinated) for one in each), sum(bool(one.words) for one in each)
    return ObjectHalScore(
        response=_share(n_wrong, n_naming),
        mention=_share(sum(len(o.hallucinated) for o in each), sum(len(o.words) for o in each)),
        response_all=_share(n_wrong, len(each)),
        recall=_share(sum(one.n_found for one in each), sum(one.n_truth for one in each)),
        n=len(each),
        n_naming=n_naming,
        mean_words=_share(sum(one.n_words for one in each), len(each)),
    )


def _words_of(name: str) -> list[str]:
    parts = [_singular(part) for part in name.lower().split()]
    pairs = _pairs_in(parts)
    if pairs:
        return pairs
    while len(parts) > 1 and parts[0] in _BY_THE_WAY:
        parts = parts[1:]
    return [" ".join(parts)]


def _pairs_in(parts: Sequence[str]) -> list[str]:
    found, place = [], 0
    while place < len(parts):
        read_as = _pairs().get(" ".join(parts[place : place + 2]))
        if read_as is not None:
            found.append(read_as)
        place += 1 if read_as is None else 2
    return found


def _singular(word: str) -> str:
    return shortest_form(word, _single_words()) or word


@cache
def _single_words() -> frozenset[str]:
    return frozenset(part for word in (*_table(), *_pairs()) for part in word.split())


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
