"""Stage three of a crosscheck: from estimates to a `Ranking` that says how sure it is."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from vlmtools import stats
from vlmtools.crosscheck.book import Book
from vlmtools.crosscheck.estimate import Estimate
from vlmtools.crosscheck.pages import Pages
from vlmtools.crosscheck.ranking import Evidence, Pair, Ranking, Row, WorstClaim
from vlmtools.crosscheck.reading import Reading
from vlmtools.crosscheck.suspects import DIGITS, Review, Suspect, review
from vlmtools.types import Json, Sample

MANY_UNPARSED = 0.05
"""Share of unreadable votes above which a ranking carries a warning."""


def ranking(
    reading: Reading,
    pages: Pages,
    estimate: Estimate,
    *,
    level: float = 0.95,
    n_worst: int = 20,
    warnings: Sequence[str] = (),
    record: Mapping[str, Json] | None = None,
) -> Ranking:
    """Rank the targets of a run.

    Args:
        reading: The compared items with their answers and votes.
        pages: All claims and votes.
        estimate: Scores of the targets and of every claim.
        level: Coverage of all intervals, between 0 and 1.
        n_worst: How many of the least supported claims to show.
        warnings: Said before anything else.
        record: What reproduces the run.
    """
    names, place = pages.targets, stats.ranks(estimate.score)
    order = sorted(range(len(names)), key=lambda t: (int(place[t]), names[t]))
    pairs = stats.paired(estimate.boot, estimate.score, order, level, n_items=pages.n_items)
    pairs = tuple(_together(reading, names, pair) for pair in pairs)
    apart = [(pair.a, pair.b) for pair in pairs if pair.p_holm < 1 - level]
    groups = stats.tie_groups(order, apart)
    found = review(pages, estimate.claim_scores, n_worst)
    rows = tuple(
        _row(pages, estimate, found, target, int(place[target]), group, level)
        for target, group in zip(order, groups, strict=True)
    )
    return Ranking(
        rows=rows,
        agreement=_agreement(pages, estimate),
        pairs=tuple(
            Pair(names[p.a], names[p.b], p.difference, p.ci, p.p, p.p_holm, p.detectable) for p in pairs
        ),
        worst=_worst_claims(reading, found),
        sensitivity=estimate.sensitivity,
        warnings=(*warnings, *estimate.warnings, *_unparsed_warnings(rows)),
        record=dict(record or {}),
    )


def _together(reading: Reading, names: Sequence[str], pair: stats.Difference) -> stats.Difference:
    """A pair that shares no item cannot be tested: it has no paired difference, whatever the scores say."""
    shared = reading.compared.coverage.answered(names[pair.a], names[pair.b])
    return pair if shared else replace(pair, p=1.0, p_holm=1.0)


def _row(
    pages: Pages, estimate: Estimate, found: Review, target: int, rank: int, group: int, level: float
) -> Row:
    name, totals = pages.targets[target], pages.totals[pages.targets[target]]
    low, high = stats.percentile(estimate.boot[:, [target]], level, pages.n_items)
    best, last = stats.rank_intervals(estimate.boot, level)[target]
    if pages.n_items == 1:
        best, last = 1, len(pages.targets)  # one item cannot be resampled
    score = float(estimate.score[target])
    return Row(
        rank=rank,
        name=name,
        score=score,
        ci=(min(score, float(low[0])), max(score, float(high[0]))),
        rank_ci=(int(best), int(last)),
        rank_loo=None if estimate.rank_loo is None else estimate.rank_loo[target],
        tie_group=group,
        n_items=totals.n_items,
        n_claims=found.n_claims[target],
        claims_per_item=totals.n_claims / max(1, totals.n_items),
        words_per_item=totals.n_words / max(1, totals.n_items),
        unparsed=totals.unparsed / max(1, totals.n_votes),
        weight=None if estimate.weight is None else estimate.weight.get(name),
        modality=tuple(sorted(totals.kinds)),
        extra=estimate.extra.get(name, {}),
    )


def _agreement(pages: Pages, estimate: Estimate) -> dict[str, dict[str, float | None]]:
    table = estimate.agreement
    return {
        target: {
            evidence: None if np.isnan(table[t, e]) else float(table[t, e])
            for e, evidence in enumerate(pages.evidence)
        }
        for t, target in enumerate(pages.targets)
    }


def _worst_claims(reading: Reading, found: Review) -> tuple[WorstClaim, ...]:
    """The suspects with their answers and evidence, read once more."""
    places = sorted({suspect.item for suspect in found.suspects})
    items = {place: reading.compared.items[place] for place in places}
    part = reading.compared.part(0, tuple(items.values()))
    book = reading.book(part)
    claims = [_worst(book, part.samples, items[one.item], one) for one in found.suspects]
    return tuple(sorted(claims, key=lambda claim: -round(claim.score, DIGITS)))


def _worst(book: Book, samples: Mapping[str, Sample], item: str, suspect: Suspect) -> WorstClaim:
    target = book.targets[suspect.target]
    subject, sample = book.subjects[target], samples[item]
    claims, index = subject.claims[item], suspect.place
    known = [
        (claim, score) for claim, score in zip(claims, suspect.scores, strict=True) if not np.isnan(score)
    ]
    return WorstClaim(
        item=item,
        model=target,
        answer=subject.stored[item].answers.text,
        claim=claims[index].text,
        start=claims[index].start,
        end=claims[index].end,
        score=suspect.score,
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
