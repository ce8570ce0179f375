"""VideoHallucer: is the plain question answered rightly, and its hallucinated twin too, as the official programs count.

Traps worth knowing before numbers are compared:

* An answer hits when the gold word stands anywhere in it, whole and in any case: "yes no" hits both questions of a
  pair. `n_both_words` counts such answers, `strict` is the same score when they hit nothing.
* The headline is the mean over parts of the pair accuracy, so each part counts alike: the repository's temporal
  part has 176 pairs and not the 200 of the paper.
* The official program for the bias towards yes mixes the two questions of a pair: it looks for "no" in the
  hallucinated answer to judge the plain one, and the reverse. `bias` repeats this, `own_bias` looks at the answer
  the count is about.

Reference: arXiv:2406.16338, section 3; the official `evaluation_utils.py` and `evaluation_bias.py`.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from vlmtools.errors import BadInput

PARTS = ("obj_rel", "temporal", "semantic", "fact", "nonfact")
"""The five parts, by the short names of the official result files."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A plain question and its hallucinated twin, answered.

    Args:
        basic: The answer to the plain question; None when there is none, which hits nothing.
        hallucination: The answer to its twin.
        basic_gold: The right answer to the plain question.
        hallucination_gold: The right answer to its twin.
    """

    basic: str | None = None
    hallucination: str | None = None
    basic_gold: str = "yes"
    hallucination_gold: str = "no"


@dataclass(frozen=True, slots=True)
class Accuracy:
    """How often the questions of one part are answered rightly; shares are in [0, 1].

    Args:
        basic: Share of plain questions.
        hallucination: Share of their twins.
        both: Share of pairs with both right: the benchmark's score.
        n_pairs: Pairs counted.
    """

    basic: float = 0.0
    hallucination: float = 0.0
    both: float = 0.0
    n_pairs: int = 0


@dataclass(frozen=True, slots=True)
class Bias:
    """Which word a model leans to, over the pairs of all parts.

    Args:
        yes_difference: (answers yes − questions whose answer is yes) / questions; 0 is unbiased.
        no_difference: The same of no.
        false_positive_ratio: Wrong answers that say yes to a hallucination / wrong answers; .5 is unbiased.
        hallucination_score: Of pairs whose plain question is right, the share whose twin is not; None without any.
    """

    yes_difference: float = 0.0
    no_difference: float = 0.0
    false_positive_ratio: float = 0.0
    hallucination_score: float | None = None


@dataclass(frozen=True, slots=True)
class VideoHallucerScore:
    """VideoHallucer of one model.

    Args:
        parts: Part → its accuracies.
        macro: Mean over parts: the official headline.
        pooled: Over the pairs of all parts, as the official bias program prints.
        strict: `macro` when an answer with both words hits nothing.
        bias: As the official program counts; None unless every pair asks for yes and then no.
        own_bias: The same quantities, each read from the answer it is about.
        n_missing: Questions without an answer.
        n_both_words: Answers that hold yes and no.
        n_neither: Answers that hold neither.
    """

    parts: Mapping[str, Accuracy] = field(default_factory=dict)
    macro: Accuracy = Accuracy()
    pooled: Accuracy = Accuracy()
    strict: Accuracy = Accuracy()
    bias: Bias | None = None
    own_bias: Bias | None = None
    n_missing: int = 0
    n_both_words: int = 0
    n_neither: int = 0


def hits(answer: str | None, gold: str, strict: bool = False) -> bool:
    """Whether the gold word stands in the answer, as a word of its own, in any case.

    Args:
        answer: As the model wrote it; None hits nothing.
        gold: The right word.
        strict: An answer with both yes and no hits nothing. False is official.
    """
    if answer is None or (strict and _has(answer, "yes") and _has(answer, "no")):
        return False
    return _has(answer, gold)


def accuracy(pairs: Sequence[Pair], strict: bool = False) -> Accuracy:
    """The three accuracies of one part.

    Args:
        pairs: At least one.
        strict: An answer with both words hits nothing. False is official.

    Raises:
        BadInput: There are no pairs.
    """
    if not pairs:
        raise BadInput("There are no pairs to score. A part has at least one pair of questions.")
    basic = [hits(pair.basic, pair.basic_gold, strict) for pair in pairs]
    twin = [hits(pair.hallucination, pair.hallucination_gold, strict) for pair in pairs]
    both = [a and b for a, b in zip(basic, twin, strict=True)]
    n = len(pairs)
    return Accuracy(sum(basic) / n, sum(twin) / n, sum(both) / n, n)


def official_bias(pairs: Sequence[Pair]) -> Bias:
    """The bias as the official program computes it, which mixes up the two questions of a pair.

    Args:
        pairs: Every pair asks for yes and then no.
    """
    plain = [hits(pair.basic, "yes") for pair in pairs]
    twin = [hits(pair.hallucination, "no") for pair in pairs]
    n_yes_only = sum(a and not b for a, b in zip(plain, twin, strict=True))
    n_no_only = sum(b and not a for a, b in zip(plain, twin, strict=True))
    # a wrong twin counts as yes when the *plain* question is answered with yes, and the reverse
    return _bias(
        len(pairs),
        sum(plain),
        sum(twin),
        sum(plain) + n_yes_only,
        sum(twin) + n_no_only,
        n_yes_only,
        n_yes_only,
    )


def own_bias(pairs: Sequence[Pair]) -> Bias:
    """The same quantities, each counted from the answers it is about.

    Args:
        pairs: Every pair asks for yes and then no.
    """
    plain = [hits(pair.basic, "yes") for pair in pairs]
    twin = [hits(pair.hallucination, "no") for pair in pairs]
    n_yes = sum(plain) + sum(hits(pair.hallucination, "yes") for pair in pairs)
    n_no = sum(twin) + sum(hits(pair.basic, "no") for pair in pairs)
    n_false_yes = sum(hits(pair.hallucination, "yes") and not b for pair, b in zip(pairs, twin, strict=True))
    n_fooled = sum(a and not b for a, b in zip(plain, twin, strict=True))
    return _bias(len(pairs), sum(plain), sum(twin), n_yes, n_no, n_false_yes, n_fooled)


def score(parts: Mapping[str, Sequence[Pair]]) -> VideoHallucerScore:
    """VideoHallucer over the parts there are.

    Args:
        parts: Part → its pairs; the headline is the mean over them.

    Raises:
        BadInput: There are no parts, or one has no pairs.
    """
    if not parts:
        raise BadInput(f"There are no parts to score. VideoHallucer has the parts {', '.join(PARTS)}.")
    pairs = [pair for part in parts.values() for pair in part]
    each = {name: accuracy(part) for name, part in parts.items()}
    said = [answer for pair in pairs for answer in (pair.basic, pair.hallucination)]
    usual = all((pair.basic_gold, pair.hallucination_gold) == ("yes", "no") for pair in pairs)
    return VideoHallucerScore(
        parts=each,
        macro=_mean(each.values()),
        pooled=accuracy(pairs),
        strict=_mean([accuracy(part, strict=True) for part in parts.values()]),
        bias=official_bias(pairs) if usual else None,
        own_bias=own_bias(pairs) if usual else None,
        n_missing=sum(answer is None for answer in said),
        n_both_words=sum(hits(answer, "yes") and hits(answer, "no") for answer in said),
        n_neither=sum(
            answer is not None and not _has(answer, "yes") and not _has(answer, "no") for answer in said
        ),
    )


def _has(answer: str, word: str) -> bool:
    return re.search(rf"\b({re.escape(word)})\b", answer, re.IGNORECASE) is not None


def _mean(each: Iterable[Accuracy]) -> Accuracy:
    rows = list(each)
    n = len(rows)
    return Accuracy(
        sum(row.basic for row in rows) / n,
        sum(row.hallucination for row in rows) / n,
        sum(row.both for row in rows) / n,
        sum(row.n_pairs for row in rows),
    )


def _bias(n: int, n_plain: int, n_twin: int, n_yes: int, n_no: int, n_false_yes: int, n_fooled: int) -> Bias:
    n_wrong = 2 * n - n_plain - n_twin
    return Bias(
        yes_difference=(n_yes - n) / (2 * n),
        no_difference=(n_no - n) / (2 * n),
        false_positive_ratio=n_false_yes / n_wrong if n_wrong else 0.0,
        hallucination_score=n_fooled / n_plain if n_plain else None,
    )
