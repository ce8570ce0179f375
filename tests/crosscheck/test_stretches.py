"""Scores, latent truth and resamples of votes and claims in stretches are those of all together."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from vlmtools.crosscheck import latent
from vlmtools.crosscheck._latent_merged import merged
from vlmtools.crosscheck.arrays import VoteArrays
from vlmtools.crosscheck.score import resampled_scores, scores, sensitivity
from vlmtools.crosscheck.table import ClaimTable
from vlmtools.crosscheck.weights import Scheme
from vlmtools.stats import item_counts
from vlmtools.stats.resample import WINDOW, Resamples


class Halves:
    """Votes or claims in two stretches."""

    def __init__(self, parts: list[Any]) -> None:
        self.halves = parts
        first = parts[0]
        self.n_items = sum(part.n_items for part in parts)
        self.models, self.targets = getattr(first, "models", ()), getattr(first, "targets", ())
        self.evidence = getattr(first, "evidence", ())

    def parts(self) -> Iterator[tuple[int, Any]]:
        yield 0, self.halves[0]
        yield self.halves[0].n_items, self.halves[1]


@pytest.mark.parametrize("kind", ["uniform", "softmax", "loo"])
def test_scores_of_votes_in_stretches_are_those_of_all_together(kind: Any) -> None:
    rng, names = np.random.default_rng(0), ("a", "b", "c", "d")
    count = rng.integers(0, 4, (50, 4, 4)).astype(float)
    total = count * rng.random((50, 4, 4))
    whole = VoteArrays(names, names, total, count)
    halves = Halves([VoteArrays(names, names, total[s], count[s]) for s in (slice(0, 30), slice(30, 50))])
    scheme, counts = Scheme(kind, include_self="always"), item_counts(50, 40)
    assert scores(halves, scheme) == pytest.approx(scores(whole, scheme), abs=1e-12)
    parted, together = (resampled_scores(votes, counts, scheme) for votes in (halves, whole))
    assert parted == pytest.approx(together, abs=1e-12)
    assert sensitivity(halves, scheme) == sensitivity(whole, scheme)


def claims(n_items: int, sentences: bool, seed: int = 0) -> ClaimTable:
    """Claims of four models, three about every item."""
    rng = np.random.default_rng(seed)
    n = 3 * n_items
    author = rng.integers(0, 4, n)
    mentions = (np.eye(4)[author] if sentences else rng.random((n, 4)) < 0.5).astype(float)
    mentions[mentions.sum(axis=1) == 0, 0] = 2.0
    graded = np.clip(rng.normal(0.5, 0.3, (n, 4)), 0, 1)
    support = graded if sentences else (mentions > 0).astype(float)
    support[rng.random((n, 4)) < 0.1] = np.nan
    kind = np.full(n, -1) if sentences else rng.integers(0, 5, n)
    item = np.repeat(np.arange(n_items), 3)
    return ClaimTable(("a", "b", "c", "d"), n_items, item, kind, tuple("vwxyz"), mentions, support)


def _half(table: ClaimTable, start: int, stop: int) -> ClaimTable:
    inside = (table.item >= start) & (table.item < stop)
    return ClaimTable(
        table.models,
        stop - start,
        table.item[inside] - start,
        table.kind[inside],
        table.kinds,
        table.mentions[inside],
        table.support[inside],
    )


@pytest.mark.parametrize("sentences", [False, True])
def test_latent_truth_of_claims_in_stretches_is_that_of_all_together(sentences: bool) -> None:
    table = claims(80, sentences)
    halves = Halves([_half(table, 0, 33), _half(table, 33, 80)])
    whole, parted = latent.fit(table), latent.fit_parts(halves)
    assert parted.rate == pytest.approx(whole.rate, abs=1e-9)
    assert parted.copies == pytest.approx(whole.copies, abs=1e-9)
    assert parted.log_likelihood == pytest.approx(whole.log_likelihood)
    each = np.concatenate([parted.true(part) for _, part in halves.parts()])
    assert each == pytest.approx(whole.p_true, abs=1e-9)
    counts = Resamples(80, 50)
    together = latent.bootstrap_rates(table, whole, counts)
    assert latent.bootstrap_rates(halves, parted, counts) == pytest.approx(together, abs=1e-9)
    if not sentences:
        without = latent.rates_without_each(parted)
        others = [1, 2, 3]
        assert without[0][others] == pytest.approx(latent.fit(table.take(others)).rate, abs=1e-9)


def test_support_on_the_very_cut_of_a_scale_finds_its_pattern() -> None:
    # Means of three votes: one lies where the undecided part of its model's scale begins or ends.
    values = np.array([0.0, 0.0, 1.0, 1.0, 1 / 3, 0.0, 2 / 3, 2 / 3])
    mentions, support = np.zeros((8, 3)), np.column_stack([np.ones(8), values, values[::-1]])
    mentions[:, 0] = 1.0
    table = ClaimTable(("a", "b", "c"), 8, np.arange(8), np.full(8, -1), (), mentions, support)
    assert latent.fit_parts(table).true(table) == pytest.approx(latent.fit(table).p_true, abs=1e-9)


def test_merged_claims_are_counted() -> None:
    table = claims(80, sentences=False)
    once, _ = merged(Halves([_half(table, 0, 33), _half(table, 33, 80)]))
    assert len(once.item) < len(table.item) / 2
    assert once.weight.sum() == len(table.item)
    assert once.mentions.sum(axis=0).tolist() == table.mentions.sum(axis=0).tolist()


def test_few_items_are_drawn_as_ever_and_many_window_by_window() -> None:
    few = Resamples(300, 20, seed=4)
    assert (few[:, 40:70] == item_counts(300, 20, seed=4)[:, 40:70]).all()
    n = 2 * WINDOW + 100
    many = Resamples(n, 60, seed=4)
    drawn = np.concatenate([many[:, start : start + 1000] for start in range(0, n, 1000)], axis=1)
    assert drawn.shape == (60, n) and (drawn.sum(axis=1) == n).all()
    assert (many[:, WINDOW - 5 : WINDOW + 5] == drawn[:, WINDOW - 5 : WINDOW + 5]).all()
    # Sums over a window vary as those of a multinomial: with n / windows draws, by its square root.
    in_window = drawn[:, :WINDOW].sum(axis=1)
    expected = np.sqrt(n * (WINDOW / n) * (1 - WINDOW / n))
    assert 0.7 * expected < in_window.std() < 1.4 * expected
    assert abs(drawn.var() - 1.0) < 0.02
