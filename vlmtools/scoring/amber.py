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

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from vlmtools.errors import BadInput, UnknownName, suggest
from vlmtools.scoring._amber_nouns import Nouns, nltk_nouns, own_nouns
from vlmtools.scoring._word_vectors import Similar, similarity_from
from vlmtools.scoring.yes_no import YesNo
from vlmtools.scoring.yes_no import lenient as read_lenient

__all__ = [
    "PARTS", "Described", "Discriminative", "Generative", "Nouns", "Part", "Similar", "Vocabulary", "describe",
    "discriminative", "f1", "generative", "nltk_nouns", "own_nouns", "part_of", "read", "similarity_from", "vocabulary",
]  # fmt: skip

PARTS: Mapping[str, tuple[str, ...]] = {
    "existence": ("existence",),
    "attribute": ("state", "number", "action"),
    "state": ("state",),
    "number": ("number",),
    "action": ("action",),
    "relation": ("relation",),
}
"""Rows of the official table below the total → the kinds of question counted in them."""
_KINDS = {
    "discriminative-hallucination": "existence",
    "discriminative-attribute-state": "state",
    "discriminative-attribute-number": "number",
    "discriminative-attribute-action": "action",
}
_START = 0.001
_ADDED = {"existence": 0.001}


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


@dataclass(frozen=True, slots=True)
class Part:
    """Counts of one part of the discriminative task.

    Args:
        n: Questions.
        n_right: Answered rightly.
        n_no: Questions whose answer is no.
        n_said_no: Answers that say no.
        n_no_right: Those of them that are right.
        added: What the official F1 has in its denominator.
    """

    n: int = 0
    n_right: int = 0
    n_no: int = 0
    n_said_no: int = 0
    n_no_right: int = 0
    added: float = 0.0001

    @property
    def accuracy(self) -> float:
        """Right answers / questions."""
        return self.n_right / self.n if self.n else 0.0

    @property
    def precision(self) -> float:
        """Of the answers that say no, the share that is right."""
        return self.n_no_right / self.n_said_no if self.n_said_no else 0.0

    @property
    def recall(self) -> float:
        """Of the questions whose answer is no, the share answered so."""
        return self.n_no_right / self.n_no if self.n_no else 0.0

    @property
    def f1(self) -> float:
        """Harmonic mean of the two, without the official rounding."""
        both = self.precision + self.recall
        return 2 * self.precision * self.recall / both if both else 0.0

    @property
    def printed(self) -> dict[str, float]:
        """The four numbers as the official program prints them (percent, one digit)."""
        pairs = ((self.n_right, self.n), (self.n_no_right, self.n_said_no), (self.n_no_right, self.n_no))
        accuracy, precision, recall = (round(part / (whole + _START) * 100, 1) for part, whole in pairs)
        return {
            "accuracy": accuracy, "precision": precision, "recall": recall,
            "f1": round(float(f1(precision / 100, recall / 100, self.added)) * 100, 1),
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Discriminative:
    """The discriminative task.

    Args:
        total: Over all questions.
        parts: Row of the official table → its counts.
        n_unread: Answers the rule could not read; they are wrong.
    """

    total: Part = Part()
    parts: Mapping[str, Part] = field(default_factory=dict)
    n_unread: int = 0


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
    shown = {name: part / (whole + _START) * 100 for name, (part, whole) in sums.items()}
    printed = {name: round(100 - value if name == "hal" else value, 1) for name, value in shown.items()}
    hal = 1 - rates["hal"] if each else 0.0
    return Generative(rates["chair"], rates["cover"], hal, rates["cog"], len(each), n_nouns, printed)


def read(response: str, rule: str = "official") -> YesNo | None:
    """Yes, no, or None when the answer is neither.

    Args:
        response: As the model wrote it.
        rule: `official` takes exactly `Yes` and `No`; `lenient` what a person would read.

    Raises:
        UnknownName: No such rule.
    """
    if rule == "official":
        return "yes" if response == "Yes" else "no" if response == "No" else None
    if rule == "lenient":
        return read_lenient(response)
    raise UnknownName(f"AMBER has no rule {rule!r}.{suggest(rule, ('official', 'lenient'))}")


def part_of(kind: str) -> str:
    """The part of the table that a question belongs to: existence, state, number, action or relation.

    Args:
        kind: The official `type`, such as `discriminative-attribute-state`.
    """
    return _KINDS.get(kind, "relation")


def discriminative(answers: Iterable[tuple[str, str, YesNo | None]]) -> Discriminative:
    """The table of the discriminative task.

    Args:
        answers: (official type, truth, what was read) of every question; see `read`.

    Raises:
        BadInput: A truth is neither yes nor no.
    """
    each = [(part_of(kind), _checked(truth), said) for kind, truth, said in answers]
    parts = {
        name: _part([row for row in each if row[0] in kinds], _ADDED.get(name, 0.0001))
        for name, kinds in PARTS.items()
    }
    return Discriminative(_part(each), parts, sum(said is None for _, _, said in each))


def f1(precision: float, recall: float, added: float = 0.0001) -> float:
    """The official F1; give it precision and recall rounded to three digits to get the published number.

    Args:
        precision: 0 to 1.
        recall: 0 to 1.
        added: What stands in the denominator besides the two; .001 for existence.

    Reference: the official `inference.py`.
    """
    return 2 * precision * recall / (precision + recall + added)


def _part(rows: Collection[tuple[str, YesNo, YesNo | None]], added: float = 0.0001) -> Part:
    return Part(
        n=len(rows),
        n_right=sum(said == truth for _, truth, said in rows),
        n_no=sum(truth == "no" for _, truth, _ in rows),
        n_said_no=sum(said == "no" for _, _, said in rows),
        n_no_right=sum(said == truth == "no" for _, truth, said in rows),
        added=added,
    )


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


def _checked(truth: str) -> YesNo:
    if truth in ("yes", "no"):
        return "yes" if truth == "yes" else "no"
    raise BadInput(
        f"The truth of a question is {truth!r}. AMBER has 'yes' and 'no'; take it from annotations.json."
    )
