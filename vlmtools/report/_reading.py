"""What a ranking says, in plain sentences: shared by the terminal, the page and Markdown."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from vlmtools.crosscheck.ranking import Pair, Ranking, Row
from vlmtools.report._text import number, one_line, p_value
from vlmtools.types import Json

_CHECKED = {
    "explicit": "checked against what the other models said",
    "implicit": "checked by models that looked at the item again",
    "self": "checked against other answers of the same model",
    "ref": "checked against the reference answers",
}
_ORDER_ONLY = (
    " For sentences only the order is meant: the level rests on assuming that half of all claims are true."
)
_SUPPORT = {
    "explicit": "the other models do not support",
    "implicit": "models that look at the item do not confirm",
    "self": "its own other answers do not support",
    "ref": "the reference answers do not support",
}
"""Mode of the run → the half sentence that says where support comes from."""


@dataclass(frozen=True)
class Facts:
    """What was measured on what.

    Args:
        n_models: Ranked models.
        n_items: Items of the run.
        n_claims: Claims scored, over all models.
        judge: Name of the judge; empty when the record does not tell.
        weights: How evidence models are weighted; empty when the record does not tell.
        level: Confidence level of the intervals, in (0, 1).
        mode: Where support comes from: `explicit`, `implicit`, `self` or `ref`.
        same_items: Whether every model answered as many of the items.
        unit: What answers were split into: `sentence` or `object`; empty when the record does not tell.
    """

    n_models: int
    n_items: int
    n_claims: int
    judge: str
    weights: str
    level: float
    mode: str
    same_items: bool = True
    unit: str = ""

    @property
    def percent(self) -> str:
        """The confidence level as `95 %`."""
        return f"{100 * self.level:g} %"


def facts(ranking: Ranking) -> Facts:
    """Reads the facts from the rows and, where the rows do not hold them, from the record.

    Args:
        ranking: The record may hold `mode`, `judge` and `weights` (a name, or a mapping with `name`), `level` (or
            `confidence`) and `n_items`, at its top or under `settings`.
    """
    level = look(ranking.record, "level", "confidence")
    items = look(ranking.record, "n_items")
    return Facts(
        n_models=len(ranking.rows),
        n_items=items if isinstance(items, int) else max((row.n_items for row in ranking.rows), default=0),
        n_claims=sum(row.n_claims for row in ranking.rows),
        judge=_name(look(ranking.record, "judge")),
        weights=_name(look(ranking.record, "weights")),
        mode=str(look(ranking.record, "mode")),
        level=level if isinstance(level, float) and 0 < level < 1 else 0.95,
        same_items=len({row.n_items for row in ranking.rows}) < 2,
        unit=str(ranking.record.get("unit", "")),
    )


def look(record: Mapping[str, Json], *names: str) -> Json:
    """The first of the named entries, at the top of the record or under `settings`; None without any."""
    settings = record.get("settings")
    places = [record, settings] if isinstance(settings, Mapping) else [record]
    found = (place[name] for name in names for place in places if place.get(name) is not None)
    return next(found, None)


def _name(value: Json) -> str:
    if isinstance(value, Mapping):
        value = value.get("name") or value.get("kind")
    return one_line(str(value)) if isinstance(value, str | int | float) and value != "" else ""


def measured(known: Facts) -> str:
    """One sentence: what was measured, on what, and how."""
    models = _count(known.n_models, "model")
    how = [f"judge: {known.judge}"] * bool(known.judge) + [f"weights: {known.weights}"] * bool(known.weights)
    detail = f" ({', '.join(how)})" if how else ""
    answered = "the same" if known.same_items else "parts of"
    return (
        f"{models} answered {answered} {_count(known.n_items, 'item')}; each of their {known.n_claims:,} "
        f"claims was {_CHECKED.get(known.mode, _CHECKED['explicit'])}{detail}."
    )


def meaning(known: Facts) -> str:
    """What the score is, in one line."""
    unsupported = _SUPPORT.get(known.mode, _SUPPORT["explicit"])
    if known.weights == "em":
        return (
            f"The score is the estimated share of false claims, inferred from what {unsupported}: 0 is none, 1 is all, "
            "lower is better." + _ORDER_ONLY * (known.unit == "sentence")
        )
    return (
        f"The score is the share of what a model says that {unsupported}: 0 is fully supported, 1 not at all, lower is "
        "better."
    )


def reading(ranking: Ranking) -> tuple[str, ...]:
    """The ranking in plain language, most important first.

    Args:
        ranking: Any; without pairs, nothing is said about differences.
    """
    if not ranking.rows:
        return ("No model was ranked.",)
    known = facts(ranking)
    parts = [_first(ranking.rows, known), *_neighbours(ranking, known), _separable(ranking.pairs, known)]
    parts += [_talk(ranking.rows), _unread(ranking.rows)]
    return tuple(part for part in parts if part)


def _first(rows: Sequence[Row], known: Facts) -> str:
    top = rows[0]
    if len(rows) == 1:
        return f"Only {one_line(top.name)} was scored, so there is nothing to compare it with."
    low, high = (number(end) for end in top.ci)
    return (
        f"{one_line(top.name)} has the lowest score, {number(top.score)} "
        f"({known.percent} interval {low} to {high}, {_count(top.n_items, 'item')})."
    )


def _neighbours(ranking: Ranking, known: Facts) -> list[str]:
    """What can be said about the first rows: who is tied with the best, or how far ahead the best is."""
    rows, pairs = ranking.rows, {(pair.a, pair.b): pair for pair in ranking.pairs}
    tied = [row for row in rows[1:] if row.tie_group == rows[0].tie_group]
    if not tied:
        pair = pairs.get((rows[0].name, rows[1].name)) if len(rows) > 1 else None
        return [_ahead(pair)] if pair else []
    pair = pairs.get((rows[0].name, tied[-1].name))
    return [_together([rows[0], *tied], pair, known)]


def _ahead(pair: Pair) -> str:
    low, high = (number(end) for end in pair.ci)
    return (
        f"It is ahead of {one_line(pair.b)} by {number(pair.difference)} "
        f"({low} to {high}, Holm-corrected p {_equals(pair.p_holm)})."
    )


def _together(rows: Sequence[Row], pair: Pair | None, known: Facts) -> str:
    names = [one_line(row.name) for row in rows]
    listed = (
        " and ".join([", ".join(names[:-1]), names[-1]])
        if len(names) < 5
        else f"The first {len(names)} models"
    )
    said = f"{listed} cannot be told apart with these {_count(known.n_items, 'item')}"
    if pair is None:
        return said + "."
    who = "they" if len(names) == 2 else f"{names[0]} and {names[-1]}"
    return (
        f"{said}: {who} differ by {number(pair.difference)}; a difference of about "
        f"{number(pair.detectable)} would be needed (80 % power)."
    )


def _separable(pairs: Sequence[Pair], known: Facts) -> str:
    if len(pairs) < 2:
        return ""
    apart = sum(pair.p_holm < 1 - known.level for pair in pairs)
    level = f"{100 * (1 - known.level):.3g} %"
    return f"{apart} of the {len(pairs)} pairs differ at the {level} level after Holm's correction."


def _talk(rows: Sequence[Row]) -> str:
    """Says who makes far fewer claims than the others: saying little is the easy way to a good score."""
    if len(rows) < 2:
        return ""
    middle = median(row.claims_per_item for row in rows)
    terse = min(rows, key=lambda row: row.claims_per_item)
    if not terse.claims_per_item < 0.6 * middle:
        return ""
    return (
        f"{one_line(terse.name)} makes {number(terse.claims_per_item, 1)} claims per answer where the median "
        f"model makes {number(middle, 1)}: read its score together with how little it says."
    )


def _unread(rows: Sequence[Row]) -> str:
    worst = max(rows, key=lambda row: row.unparsed)
    if not worst.unparsed > 0.01:
        return ""
    return (
        f"The judge's verdict could not be read for up to {100 * worst.unparsed:.1f} % of a model's votes "
        f"({one_line(worst.name)}); those count as undecided."
    )


def _equals(p: float) -> str:
    return p_value(p) if p < 0.001 else f"= {p_value(p)}"


def _count(n: int, thing: str) -> str:
    return f"{n:,} {thing}" + "s" * (n != 1)
