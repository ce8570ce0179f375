from itertools import combinations, pairwise
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from vlmtools.errors import BadInput, UnknownName
from vlmtools.stats import (
    KINDS,
    bca,
    coefficients,
    correlation,
    detectable,
    holm,
    item_counts,
    jackknife_counts,
    paired,
    percentile,
    permutation_p,
    rank_intervals,
    ranks,
    resampled_correlation,
    tie_groups,
)
from vlmtools.stats.association import Kind

# ---------------------------------------------------------------- resampling


def test_each_resample_draws_as_many_items_as_there_are() -> None:
    counts = item_counts(17, 200, seed=3)
    assert counts.shape == (200, 17)
    assert (counts.sum(axis=1) == 17).all()
    assert counts.mean() == 1.0 and counts.max() > 1 and counts.min() == 0


def test_the_same_seed_gives_the_same_draws_and_another_seed_others() -> None:
    assert (item_counts(9, 50, seed=5) == item_counts(9, 50, seed=5)).all()
    assert (item_counts(9, 50, seed=5) != item_counts(9, 50, seed=6)).any()


def test_draws_are_those_of_the_documented_generator() -> None:
    drawn = np.random.default_rng(7).integers(0, 6, size=(4, 6))
    assert item_counts(6, 4, seed=7).tolist() == [np.bincount(row, minlength=6).tolist() for row in drawn]


def test_items_of_one_cluster_are_drawn_together() -> None:
    counts = item_counts(6, 300, clusters=["x", "y", "x", "z", "z", "x"])
    assert (counts[:, 0] == counts[:, 2]).all() and (counts[:, 0] == counts[:, 5]).all()
    assert (counts[:, 3] == counts[:, 4]).all()
    assert (counts[:, [0, 1, 3]].sum(axis=1) == 3).all()


@pytest.mark.parametrize(("n_items", "n_boot"), [(0, 10), (10, 0)])
def test_nothing_to_draw_is_refused(n_items: int, n_boot: int) -> None:
    with pytest.raises(BadInput, match="must be at least 1"):
        item_counts(n_items, n_boot)


def test_a_wrong_number_of_clusters_is_refused() -> None:
    with pytest.raises(BadInput, match="2 cluster labels for 3 items"):
        item_counts(3, clusters=["a", "b"])


def test_percentile_interval_leaves_out_resamples_without_a_value() -> None:
    samples = np.array([[1.0, 1.0], [2.0, np.nan], [3.0, 3.0]])
    low, high = percentile(samples, 0.5)
    assert low.tolist() == [1.5, 1.5] and high.tolist() == [2.5, 2.5]


def test_an_interval_widened_for_few_items_tends_to_the_plain_one() -> None:
    samples = np.random.default_rng(0).normal(size=20_000)
    widths = [np.diff(percentile(samples, n_items=n))[0] for n in (5, 20, 2000)]
    plain = np.diff(percentile(samples))[0]
    assert widths[0] > widths[1] > widths[2] > plain
    assert widths[2] == pytest.approx(plain, rel=0.01)
    assert widths[0] == pytest.approx(2 * 2.776 * np.sqrt(5 / 4), rel=0.05)


@pytest.mark.parametrize("level", [0.0, 1.0, 95.0])
def test_an_impossible_level_is_refused(level: float) -> None:
    with pytest.raises(BadInput, match="between 0 and 1"):
        percentile(np.zeros(3), level)
    with pytest.raises(BadInput, match="between 0 and 1"):
        rank_intervals(np.zeros((3, 2)), level)


@pytest.mark.parametrize("n_items", [10, 40])
def test_the_interval_of_a_mean_covers_it_nearly_as_often_as_promised(n_items: int) -> None:
    rng, hits = np.random.default_rng(1), 0
    n_worlds = 600
    counts = item_counts(n_items, 500)
    for values in rng.normal(loc=0.3, size=(n_worlds, n_items)):
        low, high = percentile(counts @ values / n_items, n_items=n_items)
        hits += int(low <= 0.3 <= high)
    # 600 worlds: the standard error of the share is 0.9 points.
    assert 0.925 <= hits / n_worlds <= 0.975


def test_bca_agrees_with_scipy_on_a_skewed_statistic() -> None:
    values = np.random.default_rng(2).exponential(size=40)
    boot = item_counts(40, 20_000) @ values / 40
    found = bca(boot, values.mean(), jackknife_counts(40) @ values / 39)
    theirs = scipy_stats.bootstrap((values,), np.mean, n_resamples=20_000, rng=1).confidence_interval
    assert found == pytest.approx((theirs.low, theirs.high), abs=0.015)
    assert found != pytest.approx(tuple(float(end) for end in percentile(boot)), abs=0.005)


# ---------------------------------------------------------------- ranks


def test_equal_scores_share_the_better_rank_and_a_missing_score_comes_last() -> None:
    assert ranks(np.array([0.3, 0.1, 0.3, np.nan, 0.5])).tolist() == [2, 1, 2, 5, 4]
    assert ranks(np.array([0.3, 0.1, 0.3, np.nan, 0.5]), higher_is_better=True).tolist() == [2, 4, 2, 5, 1]


def test_rounding_noise_is_not_a_difference() -> None:
    assert ranks(np.array([0.1 + 0.2, 0.3])).tolist() == [1, 1]


def test_models_that_tie_in_a_resample_hold_every_rank_of_the_tie() -> None:
    resampled = np.tile([0.2, 0.2, 0.5], (100, 1))
    assert rank_intervals(resampled).tolist() == [[1, 2], [1, 2], [3, 3]]


def test_rank_intervals_are_ranks_that_really_occur() -> None:
    resampled = np.array([[0.1, 0.2]] * 60 + [[0.2, 0.1]] * 40)
    assert rank_intervals(resampled).tolist() == [[1, 2], [1, 2]]
    assert rank_intervals(np.array([[0.1, 0.2]] * 99 + [[0.2, 0.1]])).tolist() == [[1, 1], [2, 2]]
    assert rank_intervals(np.array([[0.1, 0.2]] * 99 + [[0.2, 0.1]]), higher_is_better=True).tolist() == [
        [2, 2],
        [1, 1],
    ]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_ranks_are_those_of_scipy(values: list[float]) -> None:
    rounded = np.round(values, 3)
    assert ranks(rounded).tolist() == scipy_stats.rankdata(rounded, method="min").tolist()


def test_tie_groups_by_hand() -> None:
    assert tie_groups([2, 0, 1], []) == (1, 1, 1)
    assert tie_groups([2, 0, 1], [(0, 2), (1, 2), (0, 1)]) == (1, 2, 3)
    assert tie_groups([2, 0, 1], [(2, 1)]) == (1, 1, 2)
    assert tie_groups([], []) == ()


@given(st.integers(1, 7), st.data())
def test_two_models_of_one_tie_group_never_differ_significantly(n: int, data: st.DataObject) -> None:
    pairs = list(combinations(range(n), 2))
    different = data.draw(st.lists(st.sampled_from(pairs), unique=True)) if pairs else []
    groups = tie_groups(range(n), different)
    assert all(groups[a] != groups[b] for a, b in different)
    assert list(groups) == sorted(groups) and groups[0] == 1
    assert all(b - a in (0, 1) for a, b in pairwise(groups))


# ---------------------------------------------------------------- differences


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]).tolist() == [1.0, 1.0]
    assert holm([]).tolist() == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_keeps_the_order_and_lies_between_the_plain_p_and_bonferronis(p: list[float]) -> None:
    found = holm(p)
    assert (found >= np.array(p) - 1e-15).all() and (
        found <= np.minimum(1.0, np.array(p) * len(p)) + 1e-15
    ).all()
    order = np.argsort(p, kind="stable")
    assert (np.diff(found[order]) >= 0).all()


def test_a_p_value_outside_0_to_1_is_refused() -> None:
    with pytest.raises(BadInput, match="between 0 and 1"):
        holm([0.2, 1.3])


def test_detectable_difference_is_2_8_standard_errors() -> None:
    assert detectable(1.0) == pytest.approx(2.8016, abs=1e-4)


def _worlds(gap: float, n_items: int, n_worlds: int) -> list[float]:
    rng, counts = np.random.default_rng(4), item_counts(n_items, 400)
    found = []
    for _ in range(n_worlds):
        shared = rng.normal(size=n_items)
        items = np.stack([shared + rng.normal(size=n_items), shared + gap + rng.normal(size=n_items)], axis=1)
        (pair,) = paired(counts @ items / n_items, items.mean(axis=0), n_items=n_items)
        found.append(pair.p)
    return found


def test_equal_models_are_called_different_about_as_often_as_alpha() -> None:
    share = np.mean(np.array(_worlds(0.0, 60, 500)) < 0.05)
    assert 0.025 <= share <= 0.08


def test_the_detectable_difference_is_found_about_eight_times_in_ten() -> None:
    gap = detectable(np.sqrt(2 / 60))
    assert 0.73 <= np.mean(np.array(_worlds(gap, 60, 400)) < 0.05) <= 0.87


def test_a_paired_difference_by_hand() -> None:
    resampled = np.array([[0.1, 0.3], [0.2, 0.3], [0.3, 0.2], [0.1, 0.4]])
    (pair,) = paired(resampled, np.array([0.2, 0.3]))
    assert (pair.a, pair.b) == (0, 1)
    assert pair.difference == pytest.approx(0.1)
    assert pair.p == pytest.approx(2 * (1 + 1) / (4 + 1))
    assert pair.p_holm == pair.p
    assert pair.detectable == pytest.approx(2.8016 * np.std([0.2, 0.1, -0.1, 0.3], ddof=1), rel=1e-4)


def test_pairs_come_in_the_given_order_with_positive_differences_from_the_best() -> None:
    observed = np.array([0.5, 0.1, 0.3])
    resampled = observed + np.random.default_rng(0).normal(scale=0.01, size=(200, 3))
    found = paired(resampled, observed, order=[1, 2, 0])
    assert [(pair.a, pair.b) for pair in found] == [(1, 2), (1, 0), (2, 0)]
    assert all(pair.difference > 0 for pair in found)


def test_many_models_can_still_be_told_apart_with_two_thousand_resamples() -> None:
    observed = np.arange(20) / 20
    resampled = observed + np.random.default_rng(0).normal(scale=0.003, size=(2000, 20))
    assert max(pair.p_holm for pair in paired(resampled, observed, n_items=200)) < 0.01


def test_few_items_never_give_a_small_p() -> None:
    resampled = np.tile([0.1, 0.9], (100, 1))
    assert paired(resampled, np.array([0.1, 0.9]), n_items=1)[0].p == 1.0
    assert paired(resampled, np.array([0.1, 0.9]), n_items=5)[0].p == pytest.approx(0.0625)


def test_one_model_has_no_pairs() -> None:
    assert paired(np.zeros((5, 1)), np.zeros(1)) == ()


# ---------------------------------------------------------------- correlations

X = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 9.0, 2.0]
Y = [2.0, 1.0, 4.0, 3.0, 7.0, 5.0, 6.0, 9.0, 9.0, 8.0, 2.0]


@pytest.mark.parametrize("kind", KINDS)
def test_coefficients_and_p_are_those_of_scipy(kind: Kind) -> None:
    theirs = {
        "pearson": scipy_stats.pearsonr,
        "spearman": scipy_stats.spearmanr,
        "kendall": scipy_stats.kendalltau,
    }
    found = correlation(X, Y, kind)
    assert found.value == pytest.approx(theirs[kind](X, Y).statistic)
    assert found.p == pytest.approx(theirs[kind](X, Y).pvalue)
    assert found.n == 11 and found.ci[0] < found.value < found.ci[1]


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=3, max_size=15))
def test_tau_b_with_any_ties_is_scipys(rows: list[tuple[int, int]]) -> None:
    x, y = np.array(rows, dtype=float).T
    if len(set(x)) > 1 and len(set(y)) > 1:
        assert coefficients(x, y, "kendall") == pytest.approx(scipy_stats.kendalltau(x, y).statistic)
    else:
        assert np.isnan(coefficients(x, y, "kendall"))


@pytest.mark.parametrize("kind", KINDS)
def test_many_resamples_at_once_equal_one_at_a_time(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vlmtools.stats.association._PAIRS_AT_ONCE", 100)
    many = np.random.default_rng(0).normal(size=(40, 7))
    against = np.arange(7.0)
    one_by_one = [float(coefficients(row, against, kind)) for row in many]
    assert coefficients(many, against, kind).tolist() == pytest.approx(one_by_one)


def test_the_exact_p_of_a_perfect_order_counts_both_directions() -> None:
    order = np.arange(5.0)
    for kind in ("spearman", "kendall"):
        assert permutation_p(order, order, kind) == pytest.approx(2 / 120)
    assert correlation(order, order).p == pytest.approx(2 / 120)
    assert correlation(order, order).test == "exact permutation"


def test_all_orders_of_many_rows_are_refused() -> None:
    with pytest.raises(BadInput, match="too many to try"):
        permutation_p(np.arange(12.0), np.arange(12.0))


def test_formula_intervals_by_hand() -> None:
    pearson = correlation(X[:9], Y[:9], "pearson")
    centre, reach = np.arctanh(pearson.value), 1.959964 / np.sqrt(6)
    assert pearson.ci == pytest.approx((np.tanh(centre - reach), np.tanh(centre + reach)))
    spearman = correlation(X[:9], Y[:9], "spearman")
    reach = 1.959964 * np.sqrt((1 + spearman.value**2 / 2) / 6)
    centre = np.arctanh(spearman.value)
    assert spearman.ci == pytest.approx((np.tanh(centre - reach), np.tanh(centre + reach)))


@pytest.mark.parametrize("kind", ["spearman", "kendall"])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_perfect_rank_agreement_still_has_an_interval(kind: Kind, sign: float) -> None:
    found = correlation(np.arange(9.0), sign * np.arange(9.0), kind)
    assert found.value == pytest.approx(sign)
    inner, outer = sorted(found.ci, key=abs)
    assert outer == pytest.approx(sign) and 0.3 < abs(inner) < 0.95


@pytest.mark.parametrize("kind", KINDS)
def test_three_rows_give_a_value_and_say_why_there_is_no_interval(kind: Kind) -> None:
    found = correlation([1, 2, 3], [1, 3, 2], kind)
    assert np.isfinite(found.value) and np.isnan(found.ci[0])
    assert found.interval.startswith("none: ") and "rows" in found.interval


def test_a_constant_column_and_two_rows_have_no_correlation() -> None:
    for found in (correlation([1, 1, 1, 1], [1, 2, 3, 4]), correlation([1, 2], [2, 1])):
        assert np.isnan(found.value) and np.isnan(found.p) and found.interval == "none"


def test_rows_with_a_gap_are_dropped() -> None:
    nan = float("nan")
    assert correlation([*X, nan, 5.0], [*Y, 3.0, nan]) == correlation(X, Y)


def test_columns_of_different_length_are_refused() -> None:
    with pytest.raises(BadInput, match="same length"):
        correlation([1, 2, 3], [1, 2])


def test_an_unknown_coefficient_is_answered_with_the_known_ones() -> None:
    with pytest.raises(UnknownName, match="Did you mean 'spearman'"):
        coefficients(np.arange(3.0), np.arange(3.0), "spearmann")  # type: ignore[arg-type]
    assert get_args(Kind) == KINDS


def test_many_rows_are_resampled_and_the_seed_decides() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=80)
    y = x + rng.normal(size=80)
    first, again, other = (correlation(x, y, "spearman", seed=seed) for seed in (1, 1, 2))
    assert first.interval == "bootstrap over rows"
    assert first == again and first.ci != other.ci
    assert first.ci == pytest.approx(correlation(x[:], y, "pearson").ci, abs=0.15)
    assert correlation(x, y, "kendall").interval == "Fieller"
    assert correlation(X, Y, "kendall", n_boot=100).interval == "bootstrap over rows"


@pytest.mark.parametrize(
    ("kind", "n", "low"), [("pearson", 12, 0.92), ("spearman", 12, 0.92), ("kendall", 12, 0.90)]
)
def test_intervals_cover_the_true_correlation_nearly_as_often_as_promised(
    kind: Kind, n: int, low: float
) -> None:
    rng, r = np.random.default_rng(6), 0.6
    truth = {"pearson": r, "spearman": 6 / np.pi * np.arcsin(r / 2), "kendall": 2 / np.pi * np.arcsin(r)}[
        kind
    ]
    hits = 0
    for _ in range(400):
        x = rng.normal(size=n)
        found = correlation(x, r * x + np.sqrt(1 - r**2) * rng.normal(size=n), kind)
        hits += int(found.ci[0] <= truth <= found.ci[1])
    assert low <= hits / 400 <= 0.99


def test_the_item_interval_of_a_correlation_shrinks_when_the_scores_are_sure() -> None:
    observed, human = np.array([0.1, 0.2, 0.3, 0.4, 0.5]), np.array([1.0, 3.0, 2.0, 4.0, 5.0])
    noise = np.random.default_rng(0).normal(size=(500, 5))
    unsure = resampled_correlation(observed + 0.2 * noise, observed, human)
    sure = resampled_correlation(observed + 0.001 * noise, observed, human)
    assert sure.ci == pytest.approx((0.9, 0.9)) and sure.value == pytest.approx(0.9)
    assert unsure.ci[0] < 0.5 and unsure.interval == "bootstrap over items"
