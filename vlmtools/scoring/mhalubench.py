"""MHaluBench: how well a detector finds hallucinated claims and segments in answers of other models.

This is a benchmark of detectors: its labels say which claims in stored answers are hallucinated. A segment is
hallucinated when any of its claims is, an answer when any of its segments is.

Traps worth knowing before numbers are compared:

* The paper prints precision, recall and F1 of both classes, and their unweighted means (Mac.). A class nobody predicts
  has precision 0.
* The rate of hallucinated claims can be over all claims or a mean over answers: 53.68 % and 54.14 % on the 200
  captions.
* There is no official program for the metrics; they are scikit-learn's on the labels.

Reference: arXiv:2402.03190, section 5 and table 3.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from vlmtools.errors import BadInput

HALLUCINATION = "hallucination"
FAITHFUL = "non-hallucination"


@dataclass(frozen=True, slots=True)
class ClassScore:
    """How well one class is found; all in [0, 1].

    Args:
        precision: Of those taken for this class, the share that belongs to it.
        recall: Of those of this class, the share that is found.
        f1: Harmonic mean of the two.
        n: How many there are.
    """

    precision: float = 0.0
    recall: float = 0.0
    f1: float = 0.0
    n: int = 0


@dataclass(frozen=True, slots=True)
class DetectionScore:
    """One level, claims or segments or answers.

    Args:
        hallucination: The hallucinated class.
        faithful: The other class.
        accuracy: Share of right labels, in [0, 1].
        macro_precision: Mean over the two classes.
        macro_recall: Mean over the two classes.
        macro_f1: Mean over the two classes: the paper's headline.
        n: Labels compared.
    """

    hallucination: ClassScore = ClassScore()
    faithful: ClassScore = ClassScore()
    accuracy: float = 0.0
    macro_precision: float = 0.0
    macro_recall: float = 0.0
    macro_f1: float = 0.0
    n: int = 0


@dataclass(frozen=True, slots=True)
class LabelRates:
    """How much of the annotated answers is hallucinated; rates in [0, 1].

    Args:
        claim_rate: Hallucinated claims / claims.
        segment_rate: Hallucinated segments / segments.
        answer_rate: Answers with any hallucinated claim / answers.
        claim_rate_per_answer: Mean over answers of the share of hallucinated claims.
        n_claims: Claims.
        n_segments: Segments.
        n_answers: Answers.
        by_category: Category of claims → share that is hallucinated.
    """

    claim_rate: float = 0.0
    segment_rate: float = 0.0
    answer_rate: float = 0.0
    claim_rate_per_answer: float = 0.0
    n_claims: int = 0
    n_segments: int = 0
    n_answers: int = 0
    by_category: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Claim:
    """One claim of an annotated answer.

    Args:
        text: The claim.
        hallucinated: Its label.
        segment: Number of the segment it belongs to, from 0.
        categories: object, attribute, scene-text or fact.
    """

    text: str = ""
    hallucinated: bool = False
    segment: int = 0
    categories: tuple[str, ...] = ()


def claims_of(annotation: Sequence[Mapping[str, object]]) -> tuple[Claim, ...]:
    """The claims of one annotated answer, in order.

    Args:
        annotation: The published field `annotation`: segments with their `claims`.

    Raises:
        BadInput: A label is neither of the two.
    """
    found = []
    for number, segment in enumerate(annotation):
        for claim in segment["claims"]:  # type: ignore[attr-defined]
            label = is_hallucination(str(claim["claim_label"]))
            found.append(Claim(str(claim["claim"]), label, number, tuple(claim.get("claim_category", ()))))
    return tuple(found)


def is_hallucination(label: str) -> bool:
    """Whether a published label says hallucinated.

    Args:
        label: `hallucination` or `non-hallucination`.

    Raises:
        BadInput: It is neither.
    """
    if label not in (HALLUCINATION, FAITHFUL):
        raise BadInput(
            f"MHaluBench has no label {label!r}. There is: {HALLUCINATION}, {FAITHFUL}. Look at the field claim_label."
        )
    return label == HALLUCINATION


def by_segment(claims: Sequence[Claim], flags: Sequence[bool]) -> tuple[bool, ...]:
    """Claim flags → segment flags: a segment is hallucinated when any of its claims is.

    Args:
        claims: Claims of one answer.
        flags: One per claim: the labels, or what a detector says.
    """
    segments: dict[int, bool] = {}
    for claim, flag in zip(claims, flags, strict=True):
        segments[claim.segment] = segments.get(claim.segment, False) or flag
    return tuple(segments.values())


def detection(truth: Sequence[bool], found: Sequence[bool]) -> DetectionScore:
    """Precision, recall and F1 of both classes.

    Args:
        truth: Whether each is hallucinated.
        found: What the detector says, in the same order.

    Raises:
        BadInput: There are none, or the lengths differ.
    """
    if not truth or len(truth) != len(found):
        raise BadInput(
            f"There are {len(truth)} labels and {len(found)} verdicts. MHaluBench compares them one by one: give one "
            "verdict per claim (or segment), and at least one."
        )
    pairs = list(zip(truth, found, strict=True))
    bad, good = _class(pairs, True), _class(pairs, False)
    return DetectionScore(
        bad,
        good,
        sum(t == f for t, f in pairs) / len(pairs),
        (bad.precision + good.precision) / 2,
        (bad.recall + good.recall) / 2,
        (bad.f1 + good.f1) / 2,
        len(pairs),
    )


def label_rates(answers: Iterable[Sequence[Claim]]) -> LabelRates:
    """How much of the annotated answers is hallucinated.

    Args:
        answers: The claims of each answer.

    Raises:
        BadInput: There are no claims.
    """
    each = [list(claims) for claims in answers if claims]
    if not each:
        raise BadInput("There are no claims to count. Give the annotation of at least one answer.")
    claims = [claim for answer in each for claim in answer]
    segments = [flag for answer in each for flag in by_segment(answer, [c.hallucinated for c in answer])]
    names = sorted({name for claim in claims for name in claim.categories})
    return LabelRates(
        claim_rate=_rate(claims),
        segment_rate=sum(segments) / len(segments),
        answer_rate=sum(any(c.hallucinated for c in answer) for answer in each) / len(each),
        claim_rate_per_answer=sum(_rate(answer) for answer in each) / len(each),
        n_claims=len(claims),
        n_segments=len(segments),
        n_answers=len(each),
        by_category={n: _rate([c for c in claims if n in c.categories]) for n in names},
    )


def _rate(claims: Sequence[Claim]) -> float:
    return sum(claim.hallucinated for claim in claims) / len(claims)


def _class(pairs: Sequence[tuple[bool, bool]], wanted: bool) -> ClassScore:
    hit = sum(truth == found == wanted for truth, found in pairs)
    n_found, n_truth = sum(f == wanted for _, f in pairs), sum(t == wanted for t, _ in pairs)
    precision, recall = hit / n_found if n_found else 0.0, hit / n_truth if n_truth else 0.0
    f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    return ClassScore(precision, recall, f1, n_truth)
