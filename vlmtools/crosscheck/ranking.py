"""The result of a crosscheck: frozen, prints as a table, saves as JSON, CSV, Markdown and HTML."""

import math
from collections.abc import Callable, Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from typing import Any, TypeVar

from vlmtools.errors import BadInput, MissingField
from vlmtools.types import Json

T = TypeVar("T")

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
        n_items: Compared items that the model answered; an answer without a single claim counts as one.
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
        agreement: agreement[target][evidence] = mean support of the target's claims by the evidence model,
            0 to 1; None where nobody asked.
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

    def __str__(self) -> str:
        """The ranking as plain text; `vlmtools report` shows more."""
        width = max([len("model"), *(len(row.name) for row in self.rows)])
        head = f" #  {'model':<{width}}  hallucination      95 % CI     claims"
        level = self.record.get("settings", {}).get("level", 0.95)
        lines = [head.replace("95 %", f"{100 * level:g} %")]
        for row in self.rows:
            interval = f"{row.ci[0]:.3f} – {row.ci[1]:.3f}"
            lines.append(
                f"{row.rank:>2}  {row.name:<{width}}  {row.score:>13.3f}  {interval}  {row.n_claims:>7,}"
            )
        return "\n".join([*lines, *(f"Warning: {warning}" for warning in self.warnings)])

    def to_json(self, *, full: bool = False) -> dict[str, Json]:
        """The documented form of `--json` (see docs/formats.md); numbers that are not finite become null.

        Args:
            full: Also write the worst claims with their answers and evidence, as a run folder's
                `ranking.json` does, so that `Ranking.from_json` gives back the whole ranking. False
                keeps it small.
        """
        written: dict[str, Json] = {
            "ranking": [asdict(row) for row in self.rows],
            "pairs": [asdict(pair) for pair in self.pairs],
            "agreement": self.agreement,
            "sensitivity": self.sensitivity,
            "warnings": self.warnings,
            "record": self.record,
        }
        if full:
            written["worst"] = [asdict(claim) for claim in self.worst]
        return {name: _plain(value) for name, value in written.items()}

    @classmethod
    def from_json(cls, data: Json) -> "Ranking":
        """The ranking that `to_json` wrote; fields this version does not know are passed over.

        Args:
            data: The parsed file. Only `ranking` must be there; whatever else is missing is taken as empty.

        Raises:
            MissingField: A row, pair or claim lacks a field.
            BadInput: The data is not a ranking, or a field holds something else than it should.
        """
        if not isinstance(data, Mapping) or "ranking" not in data:
            raise BadInput(
                "This is not a saved ranking: it has no key 'ranking'. A run folder's ranking.json has one; "
                "give that file, or make it with: vlmtools crosscheck"
            )
        try:
            return _ranking(data)
        except (TypeError, ValueError, AttributeError) as error:
            if isinstance(error, BadInput):
                raise
            raise BadInput(
                f"The saved ranking holds a value that cannot be read ({error}). Fields and types are "
                "those of Ranking.to_json; write the file anew with: vlmtools crosscheck"
            ) from error


def _ranking(data: Mapping[str, Json]) -> Ranking:
    return Ranking(
        rows=tuple(_row(row) for row in data["ranking"]),
        agreement={target: dict(row) for target, row in data.get("agreement", {}).items()},
        pairs=tuple(_pair(pair) for pair in data.get("pairs", ())),
        worst=tuple(_claim(claim) for claim in data.get("worst", ())),
        sensitivity={setting: dict(ranks) for setting, ranks in data.get("sensitivity", {}).items()},
        warnings=tuple(data.get("warnings", ())),
        record=dict(data.get("record", {})),
    )


def _row(data: Mapping[str, Json]) -> Row:
    numbers = dict.fromkeys(("score", "claims_per_item", "words_per_item", "unparsed"), _number)
    return _read(Row, data, ci=_floats, rank_ci=_ints, rank_loo=_ints, modality=tuple, **numbers)


def _pair(data: Mapping[str, Json]) -> Pair:
    return _read(
        Pair, data, ci=_floats, **dict.fromkeys(("difference", "p", "p_holm", "detectable"), _number)
    )


def _claim(data: Mapping[str, Json]) -> WorstClaim:
    return _read(
        WorstClaim,
        data,
        score=_number,
        spans=lambda spans: tuple((int(start), int(end), _number(score)) for start, end, score in spans),
        evidence=lambda said: tuple(_read(Evidence, one, support=_number) for one in said),
        media=lambda media: tuple((str(kind), str(where)) for kind, where in media),
    )


def _read(kind: type[T], data: Mapping[str, Json], **convert: Callable[[Any], Any]) -> T:
    """Builds a dataclass from the fields it knows, each through its converter."""
    known = {one.name: one for one in fields(kind)}  # type: ignore[arg-type]
    needed = [
        name for name, one in known.items() if one.default is MISSING and one.default_factory is MISSING
    ]
    missing = [name for name in needed if name not in data]
    if missing:
        raise MissingField(
            f"A saved {kind.__name__} has no {', '.join(missing)}; it has {', '.join(data) or 'nothing'}. "
            "Write the file anew with: vlmtools crosscheck"
        )
    return kind(**{name: convert.get(name, _same)(value) for name, value in data.items() if name in known})


def _same(value: Any) -> Any:
    return value


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


def _floats(values: Any) -> tuple[float, ...]:
    return tuple(_number(value) for value in values)


def _ints(values: Any) -> tuple[int, ...] | None:
    return None if values is None else tuple(int(value) for value in values)


def _plain(value: Json) -> Json:
    """Lists and dicts instead of tuples and mappings, null instead of NaN and infinity, which JSON lacks."""
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
