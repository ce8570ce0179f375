"""Any number of claims in little memory: claims that the latent-truth model cannot tell apart become one row."""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float, Int

from vlmtools.crosscheck._latent_patterns import Patterns, sentence_votes
from vlmtools.crosscheck._latent_votes import Scale, decided, scales_of
from vlmtools.crosscheck.table import ClaimParts, ClaimTable
from vlmtools.stats.resample import Counts, drawn

Columns = Callable[[ClaimTable, Int[np.ndarray, "claim"]], Float[np.ndarray, "item column"]]
"""From a part and the pattern of each of its claims to numbers that are summed over its items."""


def merged(claims: ClaimParts) -> tuple[ClaimTable, list[Scale]]:
    """One row for all claims that the same models make and support alike, about whatever item.

    Sentences are judged as votes by then, on the scales that all claims together show.

    Args:
        claims: All claims, a stretch of items at a time.

    Returns:
        A table whose rows stand for several claims and whose items are all the same, and the scales.
    """
    scales = scales_of(sentence_votes(part) for _, part in claims.parts())
    number: dict[bytes, int] = {}
    rows, times, mentions = list[np.ndarray](), list[float](), list[np.ndarray]()
    for _, part in claims.parts():
        distinct, place = np.unique(_keys(part, scales), axis=0, return_inverse=True)
        place = place.reshape(-1)
        n = np.bincount(place, weights=part.weight, minlength=len(distinct))
        made = [np.bincount(place, weights=one, minlength=len(distinct)) for one in part.mentions.T]
        for r, row in enumerate(distinct):
            at = number.setdefault(row.tobytes(), len(rows))
            if at == len(rows):
                rows.append(row)
                times.append(0.0)
                mentions.append(np.zeros(len(claims.models)))
            times[at] += n[r]
            mentions[at] += [column[r] for column in made]
    return _as_table(claims.models, rows, times, mentions), scales


def _keys(table: ClaimTable, scales: Sequence[Scale]) -> Float[np.ndarray, "claim column"]:
    sentence, support = table.kind < 0, np.clip(table.support, 0.0, 1.0)
    _, asked = sentence_votes(table)
    support[sentence] = decided(support[sentence], asked, scales)
    support = np.round(support, 6)  # not before: a third is on the other side of the cut than 0.333333
    return np.column_stack([sentence, table.mentions > 0, np.where(np.isnan(support), -1.0, support)])


def _as_table(
    models: tuple[str, ...],
    rows: Sequence[Float[np.ndarray, "column"]],
    times: Sequence[float],
    mentions: Sequence[Float[np.ndarray, "model"]],
) -> ClaimTable:
    size = len(models)
    keys = np.array(rows).reshape(len(rows), 1 + 2 * size)
    support = keys[:, 1 + size :]
    return ClaimTable(
        models=models,
        n_items=1,
        item=np.zeros(len(rows), dtype=np.int64),
        kind=np.where(keys[:, 0] > 0, -1, 0),
        kinds=(),
        mentions=np.array(mentions).reshape(len(rows), size),
        support=np.where(support < 0, np.nan, support),
        times=np.array(times),
    )


def summed(
    claims: ClaimParts, found: Patterns, counts: Counts, columns: Columns
) -> Float[np.ndarray, "boot column"]:
    """Sums over the items in every resample, going through the claims once.

    Args:
        claims: All claims.
        found: Their patterns.
        counts: How often each item was drawn in each resample.
        columns: What is summed.
    """
    total: Float[np.ndarray, "boot column"] | None = None
    for first, part in claims.parts():
        more = drawn(counts, first, first + part.n_items) @ columns(part, found.places(part))
        total = more if total is None else total + more
    return np.zeros((counts.shape[0], 0)) if total is None else np.asarray(total)


def per_item(
    table: ClaimTable, values: Float[np.ndarray, "claim column"]
) -> Float[np.ndarray, "item column"]:
    """Sums of the claims' values by item."""
    columns = [np.bincount(table.item, weights=column, minlength=table.n_items) for column in values.T]
    return np.stack(columns, axis=1)


def per_item_and_pattern(
    table: ClaimTable, place: Int[np.ndarray, "claim"], n_patterns: int, values: Float[np.ndarray, "claim"]
) -> Float[np.ndarray, "item pattern"]:
    """Sums of one value of each claim by item and pattern."""
    cells = np.bincount(table.item * n_patterns + place, weights=values, minlength=table.n_items * n_patterns)
    return cells.reshape(table.n_items, n_patterns)
