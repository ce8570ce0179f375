"""Controls for numbers on captions: are they repetitive, cut, or only shorter?"""

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from vlmtools.scoring.chair import COCO

REPEATED = 0.2
"""Share of a caption's 4-word sequences that occurred earlier in it, above which it is degenerate."""
_WORD = re.compile(r"\S+")
_SENTENCE = re.compile(r".+?(?:[.!?][\"')\]]*(?=\s|$)|$)", re.DOTALL)


def repetition(text: str, n: int = 4) -> float:
    """Share of the n-word sequences that occurred earlier in the text; 0 for texts of fewer than n words.

    Args:
        text: The caption; case and punctuation do not matter.
        n: Words per sequence, from 1.

    Reference: arXiv:1908.04319, section 6 (seq-rep-4).
    """
    words = re.findall(r"[a-z0-9']+", text.lower())
    grams = [tuple(words[start : start + n]) for start in range(len(words) - n + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def degenerate(text: str) -> bool:
    """Whether a caption repeats itself so much that it is no description any more."""
    return repetition(text) > REPEATED


def whole_sentences(text: str) -> str:
    """The text without an unfinished last sentence; unchanged when no sentence is finished.

    Args:
        text: The caption, possibly cut by a length limit.
    """
    stripped = text.rstrip()
    if re.search(r"[.!?][\"')\]]*$", stripped):
        return text
    ends = [found.end() for found in re.finditer(r"[.!?][\"')\]]*(?=\s)", stripped)]
    return stripped[: ends[-1]] if ends else text


@dataclass(frozen=True)
class Cut:
    """Captions shortened to a common limit.

    Args:
        most: Words or sentences that are left of a caption at most; a fraction says that the first so many captions, in
            the order given, keep one more.
        captions: Id → what is left.
    """

    most: float = 0.0
    captions: Mapping[str, str] = field(default_factory=dict)


def recall_matched(
    captions: Mapping[str, str],
    truth: Mapping[str, Collection[str]],
    recall: float,
    named: Callable[[str], Collection[str]] = COCO.named,
) -> dict[str, Cut]:
    """Shorten captions until they name no more of the pictures' objects than some other captions do.

    For words and for sentences: every caption keeps its first L units, where L is the largest number at which the
    recall, pooled over captions, does not exceed the wanted one; then as many captions as possible, in the order given,
    keep one unit more while it still does not. So the cut captions recall at most as much as wanted, and less by less
    than what one unit of one caption adds. Captions whose whole recall is not above the wanted one stay uncut.

    Args:
        captions: Id → caption of the baseline.
        truth: Id → objects in the picture.
        recall: Wanted, in [0, 1].
        named: Objects a text names; COCO's by default.

    Returns:
        "cut_by_words" and "cut_by_sentences".
    """
    return {
        f"cut_by_{unit}": _matched(
            captions, {id: set(names) for id, names in truth.items()}, recall, ends, named
        )
        for unit, ends in (("words", _word_ends), ("sentences", _sentence_ends))
    }


def _word_ends(text: str) -> list[int]:
    return [found.end() for found in _WORD.finditer(text)]


def _sentence_ends(text: str) -> list[int]:
    return [found.end() for found in _SENTENCE.finditer(text) if found.group().strip()]


def _matched(
    captions: Mapping[str, str],
    truth: Mapping[str, set[str]],
    recall: float,
    ends: Callable[[str], list[int]],
    named: Callable[[str], Collection[str]],
) -> Cut:
    pieces = {id: [0, *ends(text)] for id, text in captions.items()}
    allowed = recall * sum(len(truth[id]) for id in captions) + 1e-9
    known: dict[tuple[str, int], int] = {}

    def left(id: str, most: int) -> str:
        return captions[id][: pieces[id][min(most, len(pieces[id]) - 1)]]

    def found(id: str, most: int) -> int:
        key = id, min(most, len(pieces[id]) - 1)
        if key not in known:
            known[key] = len(truth[id].intersection(named(left(*key))))
        return known[key]

    longest = max((len(marks) - 1 for marks in pieces.values()), default=0)
    most = _last(longest, lambda limit: sum(found(id, limit) for id in captions) <= allowed)
    if most == longest:
        return Cut(float(longest), dict(captions))
    ids = list(captions)
    short, long = [found(id, most) for id in ids], [found(id, most + 1) for id in ids]
    more = _last(len(ids), lambda k: sum(long[:k]) + sum(short[k:]) <= allowed)
    kept = {id: left(id, most + (place < more)) for place, id in enumerate(ids)}
    return Cut(most + more / len(ids), kept)


def _last(end: int, fits: Callable[[int], bool]) -> int:
    """The largest number in 0..end that fits, where everything below it is taken to fit."""
    low, high = 0, end
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low
