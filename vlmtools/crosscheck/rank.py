"""Stage three of a crosscheck: from estimates to a `Ranking` that says how sure it is."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from vlmtools import stats
from vlmtools.crosscheck.estimate import Book, Estimate
from vlmtools.crosscheck.ranking import Evidence, Pair, Ranking, Row, WorstClaim
from vlmtools.crosscheck.score import agreement
from vlmtools.types import Json, Sample

MANY_UNPARSED = 0.05
"""Share of unreadable votes above which a ranking carries a warning."""


def ranking(
    book: Book,
    estimate: Estimate,
    samples: Mapping[str, Sample],
    *,
    level: float = 0.95,
    n_worst: int = 20,
    warnings: Sequence[str] = (),
    record: Mapping[str, Json] | None = None,
) -> Ranking:
    """Rank the targets of a run.

    Args:
        book: Claims and votes.
        estimate: Scores of the targets and of every claim.
        samples: The items, for their media and prompts.
        level: Coverage of all intervals, between 0 and 1.
        n_worst: How many of the least supported claims to show.
        warnings: Said before anything else.
        record: What reproduces the run.
    """
    place = stats.ranks(estimate.score)
    order = sorted(range(len(book.targets)), key=lambda t: (int(place[t]), book.targets[t]))
    pairs = stats.paired(estimate.boot, estimate.score, order, level, n_items=len(book.items))
    pairs = tuple(_together(book, pair) for pair in pairs)
    apart = [(pair.a, pair.b) for pair in pairs if pair.p_holm < 1 - level]
    groups = stats.tie_groups(order, apart)
    rows = tuple(
        _row(book, estimate, target, int(place[target]), group, level)
        for target, group in zip(order, groups, strict=True)
    )
    names = book.targets
    return Ranking(
        rows=rows,
        agreement=_agreement(book),
        pairs=tuple(
            Pair(names[p.a], names[p.b], p.difference, p.ci, p.p, p.p_holm, p.detectable) for p in pairs
        ),
        worst=worst_claims(book, estimate, samples, n_worst),
        sensitivity=estimate.sensitivity,
        warnings=(*warnings, *estimate.warnings, *_unparsed_warnings(rows)),
        record=dict(record or {}),
    )


def _together(book: Book, pair: stats.Difference) -> stats.Difference:
    """A pair that shares no item cannot be tested: it has no paired difference, whatever the scores say."""
    a, b = (book.subjects[book.targets[target]].stored.keys() for target in (pair.a, pair.b))
    return pair if any(item in a and item in b for item in book.items) else replace(pair, p=1.0, p_holm=1.0)


def _row(book: Book, estimate: Estimate, target: int, rank: int, group: int, level: float) -> Row:
    name = book.targets[target]
    low, high = stats.percentile(estimate.boot[:, [target]], level, len(book.items))
    best, last = stats.rank_intervals(estimate.boot, level)[target]
    if len(book.items) == 1:
        best, last = 1, len(book.targets)  # one item cannot be resampled
    score = float(estimate.score[target])
    judged = np.flatnonzero(~np.isnan(estimate.per_item[:, target]))
    subject = book.subjects[name]
    answered = [subject.stored[item] for item in book.items if item in subject.stored]
    n_claims = sum(len(subject.claims[book.items[index]]) for index in judged)
    n_said = sum(len(subject.claims[item]) for item in book.items if item in subject.claims)
    unparsed, n_votes = book.votes.unparsed.get(name, (0, 0))
    return Row(
        rank=rank,
        name=name,
        score=score,
        ci=(min(score, float(low[0])), max(score, float(high[0]))),
        rank_ci=(int(best), int(last)),
        rank_loo=None if estimate.rank_loo is None else estimate.rank_loo[target],
        tie_group=group,
        n_items=len(answered),
        n_claims=n_claims,
        claims_per_item=n_said / max(1, len(answered)),
        words_per_item=sum(len(stored.answers.text.split()) for stored in answered) / max(1, len(answered)),
        unparsed=unparsed / max(1, n_votes),
        weight=None if estimate.weight is None else estimate.weight.get(name),
        modality=_modality(stored.answers.modality for stored in answered),
        extra=estimate.extra.get(name, {}),
    )


def _modality(each: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(sorted({kind for kinds in each for kind in kinds}))


def _agreement(book: Book) -> dict[str, dict[str, float | None]]:
    table = agreement(book.arrays())
    return {
        target: {
            evidence: None if np.isnan(table[t, e]) else float(table[t, e])
            for e, evidence in enumerate(book.evidence)
        }
        for t, target in enumerate(book.targets)
    }


def worst_claims(
    book: Book, estimate: Estimate, samples: Mapping[str, Sample], n_worst: int
) -> tuple[WorstClaim, ...]:
    """The least supported claims, taking turns between models so that one model cannot fill the list.

    Of equal claims about the same item by the same model the first stands for all.
    """
    place = {item: index for index, item in enumerate(book.items)}
    queues = []
    for target in book.targets:
        scored = [
            (-score, place[item], c, item)
            for item in book.items
            for c, score in enumerate(estimate.claims.get((item, target), []))
            if not np.isnan(score)
        ]
        queues.append(
            [(target, item, c) for _, _, c, item in _first_of_each(book, target, sorted(scored))][:n_worst]
        )
    rounds = [queue[turn] for turn in range(n_worst) for queue in queues if turn < len(queue)][:n_worst]
    found = [_worst(book, estimate, samples, *where) for where in rounds]
    return tuple(sorted(found, key=lambda claim: -claim.score))


def _first_of_each(
    book: Book, target: str, scored: list[tuple[float, int, int, str]]
) -> list[tuple[float, int, int, str]]:
    seen: set[tuple[str, str]] = set()
    kept = []
    for entry in scored:
        name = entry[3], book.subjects[target].claims[entry[3]][entry[2]].text
        if name not in seen:
            seen.add(name)
            kept.append(entry)
    return kept


def _worst(
    book: Book, estimate: Estimate, samples: Mapping[str, Sample], target: str, item: str, index: int
) -> WorstClaim:
    subject, scores = book.subjects[target], estimate.claims[item, target]
    claims = subject.claims[item]
    sample = samples.get(item, Sample(item))
    known = [(claim, score) for claim, score in zip(claims, scores, strict=True) if not np.isnan(score)]
    return WorstClaim(
        item=item,
        model=target,
        answer=subject.stored[item].answers.text,
        claim=claims[index].text,
        start=claims[index].start,
        end=claims[index].end,
        score=scores[index],
        spans=tuple((claim.start, claim.end, score) for claim, score in known),
        evidence=_evidence(book, sample, target, item, index),
        media=sample.media,
        prompt=sample.prompt,
    )


def _evidence(book: Book, sample: Sample, target: str, item: str, index: int) -> tuple[Evidence, ...]:
    found = []
    for name in book.evidence:
        passages = book.votes.support.get((item, target, name))
        if passages is None:
            continue
        column = [votes[index] for votes in passages]
        found.append(Evidence(name, _passage(book, sample, name, item, column), sum(column) / len(column)))
    return tuple(sorted(found, key=lambda evidence: (evidence.support, evidence.model)))


def _passage(book: Book, sample: Sample, name: str, item: str, column: Sequence[float]) -> str:
    """The passage that supports the claim least."""
    subject = book.subjects.get(name)
    if subject is None:
        return sample.reference or ""
    texts = [text for _, _, text in subject.stored[item].evidence] if item in subject.stored else []
    lowest = min(range(len(column)), key=column.__getitem__)
    return texts[lowest] if lowest < len(texts) else ""


def _unparsed_warnings(rows: Iterable[Row]) -> list[str]:
    many = [f"{row.name} {row.unparsed:.1%}" for row in rows if row.unparsed > MANY_UNPARSED]
    if not many:
        return []
    return [
        f"The judge's replies could not be read for: {', '.join(many)} of the votes. Unread votes count as undecided; "
        "a judge that answers more plainly would sharpen these scores."
    ]
