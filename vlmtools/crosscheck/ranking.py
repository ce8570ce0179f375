"""The result of a crosscheck: frozen, prints as a table, saves as JSON, CSV, Markdown and HTML."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from vlmtools.types import Json

Interval = tuple[float, float]


@dataclass(frozen=True)
class Row:
    """One ranked model.

    Args:
        rank: 1 is the least hallucinating.
        name: The source's name.
        score: Hallucination score in [0, 1], lower is better.
        ci: Bootstrap interval of the score over items.
        rank_ci: Bootstrap interval of the rank.
        rank_loo: Lowest and highest rank when any one evidence model is left out; None with too few models.
        tie_group: Models with the same number are not separable at the run's confidence level.
        n_items: Items scored.
        n_claims: Claims scored.
        claims_per_item: Mean number of claims of an answer: how much the model says.
        words_per_item: Mean length of an answer in words.
        unparsed: Share of the votes on this model's claims that could not be read, 0 to 1.
        weight: Share of this model as evidence, when the weights are per model.
        modality: The kinds of input the model received; empty when unknown.
        extra: Further per-model figures of the weighting (for `em`: sensitivity, false-mention rate).
    """

    rank: int
    name: str
    score: float
    ci: Interval
    rank_ci: tuple[int, int]
    rank_loo: tuple[int, int] | None
    tie_group: int
    n_items: int
    n_claims: int
    claims_per_item: float
    words_per_item: float
    unparsed: float
    weight: float | None = None
    modality: tuple[str, ...] = ()
    extra: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Pair:
    """Paired difference of two models over the same items.

    Args:
        a: The better ranked model.
        b: The other.
        difference: Score of b minus score of a.
        ci: Its bootstrap interval.
        p: Two-sided bootstrap p-value.
        p_holm: The same, corrected for all pairs by Holm's method.
        detectable: Smallest difference these items would show with 80 % power.
    """

    a: str
    b: str
    difference: float
    ci: Interval
    p: float
    p_holm: float
    detectable: float


@dataclass(frozen=True)
class Evidence:
    """What one evidence model said about the item of a suspicious claim.

    Args:
        model: Who said it.
        text: The passage that supports the claim least.
        support: Mean support over that model's passages, 0 to 1.
    """

    model: str
    text: str
    support: float


@dataclass(frozen=True)
class WorstClaim:
    """A claim that the other models support least.

    Args:
        item: Id of the item.
        model: Who claimed it.
        answer: The whole answer; `answer[start:end]` is the claim as written.
        claim: What was judged.
        start: First character of the claim.
        end: One past its last character.
        score: Hallucination score of this claim, 0 to 1.
        spans: (start, end, score) of every claim of the answer, for colouring.
        evidence: What the others said.
        media: (kind, path or URL) of the item's media.
        prompt: The question, when there was one.
    """

    item: str
    model: str
    answer: str
    claim: str
    start: int
    end: int
    score: float
    spans: tuple[tuple[int, int, float], ...] = ()
    evidence: tuple[Evidence, ...] = ()
    media: tuple[tuple[str, str], ...] = ()
    prompt: str = ""


@dataclass(frozen=True)
class Ranking:
    """Models from the least to the most hallucinating.

    Args:
        rows: In rank order.
        agreement: agreement[target][evidence] = mean support of the target's claims by the evidence model, 0 to 1;
            None where nobody asked.
        pairs: Every pair, in rank order.
        worst: The least supported claims, worst first.
        sensitivity: Setting → {model: rank}: the ranking under other β, weights, evidence sets or judges.
        warnings: What a reader must know before quoting a number.
        record: What reproduces the run: command, versions, settings, sources, counts.
    """

    rows: tuple[Row, ...]
    agreement: Mapping[str, Mapping[str, float | None]]
    pairs: tuple[Pair, ...]
    worst: tuple[WorstClaim, ...]
    sensitivity: Mapping[str, Mapping[str, int]]
    warnings: tuple[str, ...]
    record: Mapping[str, Json]

    def to_json(self) -> dict[str, Json]:
        """The documented form of `--json` (see docs/formats.md)."""
        return {
            "ranking": [asdict(row) for row in self.rows],
            "pairs": [asdict(pair) for pair in self.pairs],
            "agreement": {target: dict(row) for target, row in self.agreement.items()},
            "sensitivity": {setting: dict(ranks) for setting, ranks in self.sensitivity.items()},
            "warnings": list(self.warnings),
            "record": dict(self.record),
        }
