"""AMBER: objects and facts a model makes up, counted without a judge, as the official program counts.

Traps worth knowing before numbers are compared:

* Generative: only nouns of a vocabulary of 418 words count, in lower case and in singular as WordNet has it, so "men",
  "vases" and "leaves" never count. Eight words are "safe": they are never wrong, yet they count as nouns.
* Generative, official: a noun also counts as right when its word vector is close (cosine > .8, spaCy's
  `en_core_web_lg`) to a word of the truth. Nothing is downloaded here: give `similar`, a function of two words, for
  that mode; without it words must be equal (the official program with `--similarity_score 1.0`). The two give
  different numbers and must not stand in one table.
* Discriminative: only the exact strings `Yes` and `No` are answers; "yes", "Yes." and "No, …" are wrong. Precision and
  recall are about **No**, and F1 is computed from the rounded two with .0001 (.001 for existence) in its denominator.
* Rows of type `relation` (without "discriminative-") count with `discriminative-relation`.
* All denominators begin at .001; `printed` follows this, the plain rates do not.

Reference: arXiv:2311.07397, sections 3 and 4; the official `inference.py`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from vlmtools.errors import BadInput, suggest
from vlmtools.scoring._amber_nouns import Nouns, nltk_nouns, own_nouns
from vlmtools.scoring._amber_questions import (
    PARTS,
    START,
    Discriminative,
    Part,
    discriminative,
    f1,
    part_of,
    read,
)
from vlmtools.scoring._word_vectors import Similar, similarity_from

__all__ = [
    "PARTS", "Described", "Discriminative", "Generative", "Nouns", "Part", "Similar", "Vocabulary", "describe",
    "discriminative", "f1", "generative", "nltk_nouns", "own_nouns", "part_of", "read", "similarity_from", "vocabulary",
]  # fmt: skip


@dataclass(frozen=True)
class Vocabulary:
    """The words AMBER knows.

    Args:
        related: Word → words that mean nearly the same, for this word.
        safe: Words that are never counted as hallucinated.
    """

    related: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    safe: frozenset[str] = frozenset()

    @property
    def words(self) -> frozenset[str]:
        """Every word that counts as an object."""
        return frozenset(self.related) | {word for words in self.related.values() for word in words}


@dataclass(frozen=True, slots=True)
class Described:
    """One description against its picture's objects.

    Args:
        nouns: The nouns that count, in order, repeats kept.
        hallucinated: Those of them that are not in the picture.
        n_covered: Objects of the picture that were named.
        n_truth: Objects of the picture.
        n_lured: Objects people tend to imagine here that were named (Cog).
        n_lures: Objects people tend to imagine here.
    """

    nouns: tuple[str, ...] = ()
    hallucinated: tuple[str, ...] = ()
    n_covered: int = 0
    n_truth: int = 0
    n_lured: int = 0
    n_lures: int = 0


@dataclass(frozen=True, slots=True)
class Generative:
    """The generative task; rates in [0, 1].

    Args:
        chair: Hallucinated nouns / nouns.
        cover: Objects named / objects in the pictures.
        hal: Share of descriptions with any hallucinated noun.
        cog: Imagined objects named / objects people tend to imagine.
        n: Descriptions.
        n_nouns: Nouns counted.
        printed: Name → number as the official program prints it (percent, one digit).
    """

    chair: float = 0.0
    cover: float = 0.0
    hal: float = 0.0
    cog: float = 0.0
    n: int = 0
    n_nouns: int = 0
    printed: Mapping[str, float] = field(default_factory=dict)


def vocabulary(related: Mapping[str, Sequence[str]], safe_words: str = "") -> Vocabulary:
    """The vocabulary from the content of the official files.

    Args:
        related: Parsed `relation.json`.
        safe_words: Text of `safe_words.txt`, one word per line.
    """
    return Vocabulary(
        {word: tuple(words) for word, words in related.items()}, frozenset(safe_words.split("\n")) - {""}
    )


def describe(
    response: str,
    truth: Sequence[str],
    lures: Sequence[str],
    known: Vocabulary,
    similar: Similar | None = None,
    threshold: float = 0.8,
    nouns: Nouns = own_nouns,
) -> Described:
    """Score one description.

    Args:
        response: As the model wrote it.
        truth: Objects in the picture, out of the vocabulary; repeats are objects that can never be covered.
        lures: Objects that are not there and that people tend to imagine.
        known: The vocabulary.
        similar: Cosine of two words; None (neutral) asks for equal words.
        threshold: Two words are near when their cosine is above it; .8 is official.
        nouns: Finds the nouns; `own_nouns` (this package) or `nltk_nouns` (official).

    Raises:
        BadInput: An object is not in the vocabulary.

    Reference: arXiv:2311.07397, eq. 1 to 5.
    """
    words = known.words
    kept = [noun for noun in nouns(response, words) if noun in words]
    there, imagined = _places(truth, known), _places(lures, known)
    covered: set[int] = set()
    lured: set[int] = set()
    wrong = []
    for noun in kept:
        if noun in known.safe:
            continue
        place = _equal(noun, there)
        if place is None:
            lured |= {_equal(noun, imagined), _near(noun, imagined, similar, threshold)} - {None}  # type: ignore[arg-type]
            place = _near(noun, there, similar, threshold)
        if place is None:
            wrong.append(noun)
        else:
            covered.add(place)
    return Described(tuple(kept), tuple(wrong), len(covered), len(truth), len(lured), len(lures))


def generative(described: Iterable[Described]) -> Generative:
    """The four numbers of the generative task.

    Args:
        described: One per picture.
    """
    each = list(described)
    n_nouns, n_wrong = (sum(len(one.nouns) for one in each), sum(len(one.hallucinated) for one in each))
    sums = {
        "chair": (n_wrong, n_nouns),
        "cover": (sum(one.n_covered for one in each), sum(one.n_truth for one in each)),
        "hal": (sum(not one.hallucinated for one in each), len(each)),
        "cog": (sum(one.n_lured for one in each), sum(one.n_lures for one in each)),
    }
    rates = {name: part / whole if whole else 0.0 for name, (part, whole) in sums.items()}
    shown = {name: part / (whole + START) * 100 for name, (part, whole) in sums.items()}
    printed = {name: round(100 - value if name == "hal" else value, 1) for name, value in shown.items()}
    hal = 1 - rates["hal"] if each else 0.0
    return Generative(rates["chair"], rates["cover"], hal, rates["cog"], len(each), n_nouns, printed)


def _places(objects: Sequence[str], known: Vocabulary) -> list[tuple[str, int]]:
    """(word, which object it names): first all related words, then the objects themselves, as they are searched."""
    strange = [word for word in objects if word not in known.related]
    if strange:
        raise BadInput(
            f"The truth names {strange[0]!r}, which AMBER's relation.json does not have."
            f"{suggest(strange[0], known.related)} Use annotations.json and relation.json of one release."
        )
    related = [(word, place) for place, name in enumerate(objects) for word in known.related[name]]
    return related + [(name, place) for place, name in enumerate(objects)]


def _equal(noun: str, places: Sequence[tuple[str, int]]) -> int | None:
    return next((place for word, place in places if word == noun), None)


def _near(
    noun: str, places: Sequence[tuple[str, int]], similar: Similar | None, threshold: float
) -> int | None:
    if similar is None:
        return None
    return next((place for word, place in places if similar(noun, word) > threshold), None)
