"""Share of a sentence's content words that the evidence uses too: no model, no download, very fast."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from vlmtools.crosscheck.judges.base import Judge, Question, Vote
from vlmtools.errors import BadInput
from vlmtools.types import Json

_WORD = re.compile(
    r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]|\d+(?:[.,]\d+)*|[^\W\d_\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]+"
)
_LABEL = re.compile(r"^\s*(?:\d{1,3}[.)]|[-*•])\s+")
_CONTRACTED = re.compile(r"(n)?['’](?:s|m|d|re|ve|ll|t)\b", re.IGNORECASE)


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


STOP_WORDS = _words(
    "a an the this that these those there here it its he him his she her they them their i me my we us "
    "our you your who whom whose which what where when why how and or but nor so if then than as at by "
    "for from in into of off on onto out over to up with within without about above across after "
    "against along among around before behind below beneath beside besides between beyond down during "
    "inside near next outside through toward towards under upon is am are was were be been being do "
    "does did doing have has had having can could may might must shall should will would not no n t s "
    "also very too just some any each both all such other another more most many much few several own "
    "same only while because although however overall additionally moreover furthermore thus image "
    "picture photo photograph scene video show feature depict appear seem see visible include contain "
    "various"
)
"""Words that say nothing about what is in the picture, also those that descriptions begin with."""

_IRREGULAR = {
    "men": "man", "women": "woman", "children": "child", "people": "person", "feet": "foot", "teeth":
    "tooth", "mice": "mouse", "geese": "goose", "knives": "knife", "wives": "wife", "lives": "life",
    "leaves": "leaf", "shelves": "shelf", "loaves": "loaf", "wolves": "wolf", "scarves": "scarf", "ran":
    "run", "sat": "sit", "stood": "stand", "rode": "ride", "held": "hold", "wore": "wear", "ate": "eat",
    "lay": "lie", "lying": "lie", "zero": "0", "one": "1", "two": "2", "three": "3", "four": "4",
    "five": "5", "six": "6", "seven": "7", "eight": "8", "nine": "9", "ten": "10", "eleven": "11",
    "twelve": "12",
}  # fmt: skip


@dataclass(frozen=True)
class NGram(Judge):
    """Share of the sentence's content n-grams that occur in the evidence.

    In the spirit of SelfCheckGPT's n-gram score, but it needs no corpus of samples: each passage is judged
    alone, the result is in [0, 1], and the mean over passages is left to the ranking. Words are lower-cased,
    lightly stemmed and freed of stop words; small numbers are the same in words and in digits. Each distinct
    n-gram counts once. A sentence without any content word cannot be judged this way and gets .5. Paraphrase
    and negation are invisible to it.

    Args:
        n: 1 counts content words only; 2 takes the mean of the shares of single words and of neighbouring
            pairs, so that "a red car and a blue bus" does not fully support "a blue car". A sentence with
            one content word has no pairs and is judged by the word.

    Reference: arXiv:2303.08896 (the idea).
    """

    n: int = 1

    def identity(self) -> Mapping[str, Json]:
        """Name, version of the rules, and `n`."""
        return {"judge": self.name, "version": 1, "n": self.n}

    def judge(self, questions: Sequence[Question]) -> Iterator[tuple[int, tuple[Vote, ...]]]:
        """Yield the votes question by question, in order.

        Raises:
            BadInput: `n` is neither 1 nor 2.
        """
        if self.n not in (1, 2):
            raise BadInput(
                f"The judge 'ngram' was given n={self.n!r}. There is 1 (words) and 2 (words and pairs)."
            )
        for index, question in enumerate(questions):
            evidence = content_words(question.evidence or "")
            yield index, tuple(Vote(overlap(claim, evidence, self.n)) for claim in question.claims)


def overlap(claim: str, evidence: Sequence[str], n: int = 1) -> float:
    """Share of the claim's content n-grams found in the evidence; .5 when it has no content word.

    Args:
        claim: The sentence.
        evidence: Content words of the passage, in order.
        n: Longest n-gram, 1 or 2.
    """
    words = content_words(claim)
    if not words:
        return 0.5
    shares = [
        _share(_grams(words, size), _grams(evidence, size)) for size in range(1, n + 1) if len(words) >= size
    ]
    return sum(shares) / len(shares)


@lru_cache(maxsize=16_384)
def content_words(text: str) -> tuple[str, ...]:
    """The words of a text that carry content, stemmed, in order; a list label in front is not content.

    Args:
        text: A sentence or a passage.
    """
    lowered = _CONTRACTED.sub("", _LABEL.sub("", text)).lower()
    words = (found.group() for found in _WORD.finditer(lowered))
    return tuple(stem(word) for word in words if word not in STOP_WORDS and stem(word) not in _STOP_STEMS)


@lru_cache(maxsize=65_536)
def stem(word: str) -> str:
    """A light stem: plurals, -ing, -ed and a final -e go; small number words become digits.

    Args:
        word: One lower-case word.
    """
    known = _IRREGULAR.get(word)
    if known is not None:
        return known if known.isdigit() else stem(known)
    if len(word) <= 3 or not word.isascii():
        return word
    return _without_e(_without_ending(_singular(word)))


def _singular(word: str) -> str:
    if word.endswith("ies"):
        return word[:-3] + "y"
    if word.endswith(("sses", "shes", "ches", "xes", "zes")):
        return word[:-2]
    return word[:-1] if word.endswith("s") and not word.endswith(("ss", "us", "is")) else word


def _without_ending(word: str) -> str:
    for ending in ("ing", "ed"):
        base = word.removesuffix(ending)
        if base != word and len(base) >= 3 and re.search("[aeiouy]", base):
            doubled = base[-1] == base[-2] and base[-1] not in "lsz"
            return base[:-1] if doubled else base
    return word


def _without_e(word: str) -> str:
    base = word[:-1] if len(word) > 3 and word.endswith("e") else word
    return base[:-1] + "i" if base.endswith("y") and len(base) > 3 else base


def _grams(words: Sequence[str], size: int) -> set[tuple[str, ...]]:
    return set(zip(*(words[offset:] for offset in range(size)), strict=False))


def _share(wanted: set[tuple[str, ...]], there: set[tuple[str, ...]]) -> float:
    return len(wanted & there) / len(wanted)


_STOP_STEMS = frozenset(stem(word) for word in STOP_WORDS if len(word) > 3)
