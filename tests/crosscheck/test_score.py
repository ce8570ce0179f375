import gzip
import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from places import cases, data_roots

from vlmtools.crosscheck.arrays import VoteArrays, from_lists, read_published
from vlmtools.crosscheck.score import (
    agreement,
    item_scores,
    rank_ranges,
    resampled_scores,
    scores,
    sensitivity,
)
from vlmtools.crosscheck.sums import vote_sums
from vlmtools.crosscheck.weights import EQUAL, PAPER, SELF, Scheme, judges, self_inconsistency, weights
from vlmtools.errors import BadInput, UnknownName
from vlmtools.stats import item_counts, rank_intervals

SCHEMES = [
    EQUAL,
    PAPER,
    SELF,
    Scheme(weights="softmax", average="macro", include_self="listed"),
    Scheme(weights="loo", beta=0.05),
    Scheme(weights="loo", average="macro", include_self="always", evidence=("m0", "m1", "m2")),
    Scheme(weights="softmax", evidence=("m0", "m2"), include_self="always"),
]


def random_votes(n_items: int = 30, n_models: int = 4, missing: float = 0.0, seed: int = 0) -> VoteArrays:
    rng = np.random.default_rng(seed)
    names = tuple(f"m{index}" for index in range(n_models))
    claims = rng.integers(1, 6, size=(n_items, n_models, 1)) * np.ones((1, 1, n_models))
    count = np.where(rng.random(claims.shape) < missing, 0.0, claims)
    return VoteArrays(names, names, count * rng.random(claims.shape), count)


def claim_by_claim(arrays: VoteArrays, trust: np.ndarray, average: str, items: list[int]) -> list[float]:
    """The definition, slowly: every drawn item, every claim, every evidence model that speaks."""
    result = []
    for t in range(len(arrays.targets)):
        sums = []
        for i in items:
            speaking = [
                e for e in range(len(arrays.evidence)) if arrays.count[i, t, e] > 0 and trust[t, e] > 0
            ]
            if not speaking:
                continue
            total = sum(trust[t, e] for e in speaking)
            mean = sum(trust[t, e] * arrays.total[i, t, e] / arrays.count[i, t, e] for e in speaking) / total
            sums.append((mean, arrays.count[i, t].max() if average == "micro" else 1.0))
        result.append(sum(mean * size for mean, size in sums) / sum(size for _, size in sums))
    return result


def test_a_table_worked_by_hand() -> None:
    votes = from_lists(
        {
            "a": [{"b": [0, 1], "c": [1, 1]}, {"b": [0], "c": [0]}],
            "b": [{"a": [1], "c": [0.5]}, {"a": [0], "c": [1]}],
            "c": [{"a": [1], "b": [1]}, {"a": [1, 0], "b": [1, 1]}],
        }
    )
    assert scores(votes).tolist() == pytest.approx([(0.5 + 1 + 0) / 3, (0.75 + 0.5) / 2, (1 + 1 + 0.5) / 3])
    macro = scores(votes, Scheme(average="macro")).tolist()
    assert macro == pytest.approx([(0.75 + 0) / 2, (0.75 + 0.5) / 2, (1 + 0.75) / 2])
    assert agreement(vote_sums(votes))[0].tolist() == pytest.approx([np.nan, 2 / 3, 1 / 3], nan_ok=True)


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
@pytest.mark.parametrize("missing", [0.0, 0.3])
def test_array_scores_equal_the_claim_by_claim_definition(scheme: Scheme, missing: float) -> None:
    votes = random_votes(missing=missing, seed=3)
    slow = claim_by_claim(votes, weights(votes, scheme)[0], scheme.average, list(range(votes.n_items)))
    np.testing.assert_allclose(scores(votes, scheme), slow, rtol=1e-12)


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
@pytest.mark.parametrize("missing", [0.0, 0.3])
def test_a_resample_scores_like_a_table_in_which_the_items_really_repeat(
    scheme: Scheme, missing: float
) -> None:
    votes = random_votes(missing=missing, seed=4)
    counts = item_counts(votes.n_items, 5, seed=1)
    fast = resampled_scores(votes, counts, scheme)
    for row, count in zip(fast, counts, strict=True):
        drawn = np.repeat(np.arange(votes.n_items), count)
        repeated = VoteArrays(votes.targets, votes.evidence, votes.total[drawn], votes.count[drawn])
        np.testing.assert_allclose(row, scores(repeated, scheme), rtol=1e-10)


def test_by_default_nobody_judges_itself() -> None:
    votes = random_votes()
    changed = votes.total.copy()
    changed[:, range(4), range(4)] = 0.0
    other = VoteArrays(votes.targets, votes.evidence, changed, votes.count)
    assert scores(votes).tolist() == scores(other).tolist()
    assert not judges(vote_sums(votes)).diagonal().any()


def test_the_order_of_the_models_does_not_matter() -> None:
    votes, order = random_votes(missing=0.2), [2, 0, 3, 1]
    names = tuple(votes.targets[index] for index in order)
    turned = VoteArrays(names, names, votes.total[:, order][:, :, order], votes.count[:, order][:, :, order])
    for scheme in SCHEMES:
        np.testing.assert_allclose(scores(turned, scheme), scores(votes, scheme)[order], rtol=1e-12)


def test_weights_of_a_target_sum_to_one_in_every_resample() -> None:
    votes = random_votes(missing=0.3)
    counts = item_counts(votes.n_items, 20).astype(float)
    for scheme in SCHEMES:
        np.testing.assert_allclose(weights(votes, scheme, counts).sum(axis=2), 1.0, rtol=1e-12)


def test_softmax_weights_follow_the_formula_of_the_paper() -> None:
    votes = random_votes()
    own = self_inconsistency(once := vote_sums(votes), once)[0]
    assert own.tolist() == pytest.approx(
        [votes.total[:, m, m].sum() / votes.count[:, m, m].sum() for m in range(4)]
    )
    found = weights(votes, replace(PAPER, evidence=("m0", "m1")))[0]
    raw = np.exp(-own / 0.1)
    assert found[3].tolist() == pytest.approx([raw[0] / raw[[0, 1, 3]].sum(), raw[1] / raw[[0, 1, 3]].sum(), 0.0,
                                               raw[3] / raw[[0, 1, 3]].sum()])  # fmt: skip
    assert found[0, 3] == 0.0


def test_loo_weights_leave_out_the_target_and_the_evidence_model_itself() -> None:
    votes = random_votes()
    mean = votes.total.sum(axis=0) / votes.count.sum(axis=0)
    distrust = {
        1: (mean[1, 2] + mean[1, 3]) / 2,
        2: (mean[2, 1] + mean[2, 3]) / 2,
        3: (mean[3, 1] + mean[3, 2]) / 2,
    }
    raw = {name: np.exp(-value / 0.1) for name, value in distrust.items()}
    expected = [0.0, *(raw[name] / sum(raw.values()) for name in (1, 2, 3))]
    assert weights(votes, Scheme(weights="loo"))[0, 0].tolist() == pytest.approx(expected)


def test_large_beta_approaches_equal_weights() -> None:
    votes = random_votes()
    for kind in ("softmax", "loo"):
        found = scores(votes, Scheme(weights=kind, beta=1e6))
        np.testing.assert_allclose(found, scores(votes), atol=1e-6)


def test_two_models_can_be_ranked_with_any_weights_that_need_no_samples() -> None:
    votes = from_lists({"a": [{"b": [0, 1]}], "b": [{"a": [1, 1]}]})
    for kind in ("uniform", "loo"):
        assert scores(votes, Scheme(weights=kind)).tolist() == pytest.approx([0.5, 1.0])
    assert rank_ranges(votes) is None


def test_an_item_one_evidence_model_is_silent_about_is_judged_by_the_others() -> None:
    votes = from_lists(
        {"a": [{"b": [1], "c": [0]}, {"b": [1]}], "b": [{"a": [1]}] * 2, "c": [{"a": [1]}] * 2}
    )
    assert scores(votes)[0] == pytest.approx((0.5 + 1.0) / 2)
    assert item_scores(votes)[:, 0].tolist() == pytest.approx([0.5, 1.0])


def test_an_item_nobody_speaks_about_is_left_out() -> None:
    votes = from_lists({"a": [{"b": [1]}, {}], "b": [{"a": [0]}, {"a": [1]}]})
    assert scores(votes).tolist() == pytest.approx([1.0, 0.5])
    assert np.isnan(item_scores(votes)[1, 0])
    only_second = resampled_scores(votes, np.array([[0.0, 2.0]]))
    assert np.isnan(only_second[0, 0]) and only_second[0, 1] == 1.0


def test_a_tiny_beta_does_not_lose_items_only_a_distrusted_model_speaks_about() -> None:
    votes = from_lists(
        {
            "a": [{"b": [0.2]}, {"c": [0.6]}],
            "b": [{"a": [0], "b": [0.0]}, {"a": [0], "b": [0.0]}],
            "c": [{"a": [1], "c": [0.9]}, {"a": [1], "c": [0.9]}],
        }
    )
    trusted = Scheme(weights="softmax", beta=1e-4, evidence=("b", "c"), include_self="listed")
    assert scores(votes, trusted)[0] == pytest.approx(0.4)


def test_softmax_without_samples_says_what_to_do() -> None:
    votes = from_lists({"a": [{"b": [0]}], "b": [{"a": [1]}]})
    with pytest.raises(BadInput, match=r"a, b gave none.*--samples K.*--weights loo"):
        scores(votes, Scheme(weights="softmax"))


def test_loo_with_evidence_that_was_not_scored_says_what_to_do() -> None:
    votes = from_lists({"a": [{"b": [0], "human": [1]}], "b": [{"a": [1], "human": [1]}]})
    with pytest.raises(BadInput, match=r"none on human.*--weights uniform"):
        scores(votes, Scheme(weights="loo"))
    assert scores(votes, Scheme(evidence=("human",))).tolist() == [1.0, 1.0]


def test_a_model_alone_is_not_ranked() -> None:
    with pytest.raises(BadInput, match=r"Nobody judges a.*Add another model's answers"):
        scores(from_lists({"a": [{"a": [0]}]}))


@pytest.mark.parametrize(
    ("scheme", "words"),
    [
        (Scheme(evidence=("m9",)), "no evidence model 'm9'.*m0, m1"),
        (Scheme(weights="softmx"), "no weights 'softmx'.*Did you mean 'softmax'"),  # type: ignore[arg-type]
        (Scheme(average="mean"), "no average 'mean'"),  # type: ignore[arg-type]
    ],
)
def test_an_unknown_name_is_answered_with_the_known_ones(scheme: Scheme, words: str) -> None:
    with pytest.raises(UnknownName, match=words):
        scores(random_votes(), scheme)


@pytest.mark.parametrize("beta", [0.0, -1.0, float("nan")])
def test_a_beta_that_is_not_positive_is_refused(beta: float) -> None:
    with pytest.raises(BadInput, match="must be above 0"):
        scores(random_votes(), Scheme(weights="loo", beta=beta))


def test_arrays_that_do_not_fit_the_names_are_refused() -> None:
    with pytest.raises(BadInput, match="do not fit 1 targets and 2 evidence models"):
        VoteArrays(("a",), ("a", "b"), np.zeros((3, 1, 1)), np.zeros((3, 1, 1)))


def test_models_with_different_numbers_of_items_are_refused() -> None:
    with pytest.raises(BadInput, match="same items"):
        from_lists({"a": [{"b": [1]}], "b": []})


def test_rank_ranges_hold_the_rank_itself_and_widen_when_one_judge_decides() -> None:
    honest, unfair = [0.2, 0.2], [1.0, 1.0]
    votes = from_lists(
        {
            "a": [{"b": honest, "c": unfair, "d": honest}],
            "b": [{"a": [0.4], "c": [0.4], "d": [0.4]}],
            "c": [{"a": [0.9], "b": [0.9], "d": [0.9]}],
            "d": [{"a": [0.8], "b": [0.8], "c": [0.8]}],
        }
    )
    ranges = rank_ranges(votes)
    assert ranges == ((1, 2), (1, 2), (4, 4), (3, 3))


def test_sensitivity_shows_only_what_the_votes_can_serve() -> None:
    with_samples = sensitivity(random_votes(), betas=(0.1,))
    assert {"weights=uniform", "weights=softmax, beta=0.1", "weights=loo, beta=0.1"} <= with_samples.keys()
    assert {"average=macro", "without m0", "without m3"} <= with_samples.keys()
    assert sorted(with_samples["weights=uniform"]) == ["m0", "m1", "m2", "m3"]
    pair = sensitivity(from_lists({"a": [{"b": [0]}], "b": [{"a": [1]}]}))
    assert set(pair) == {"weights=uniform", "average=macro"}
    assert pair["weights=uniform"] == {"a": 1, "b": 2}


def test_fixed_weights_are_those_of_the_whole_data() -> None:
    votes = random_votes(n_items=12)
    counts = item_counts(12, 50)
    fixed, free = (
        resampled_scores(votes, counts, PAPER, fixed_weights=True),
        resampled_scores(votes, counts, PAPER),
    )
    trust = weights(votes, PAPER)[0]
    drawn = np.repeat(np.arange(12), counts[0]).tolist()
    np.testing.assert_allclose(fixed[0], claim_by_claim(votes, trust, "micro", drawn), rtol=1e-12)
    assert not np.allclose(fixed, free)


def test_ten_models_are_resampled_two_thousand_times_within_a_second() -> None:
    votes = random_votes(n_items=238, n_models=10)
    taken = []
    for _ in range(3):
        began = time.perf_counter()
        rank_intervals(resampled_scores(votes, item_counts(238, 2000), PAPER))
        taken.append(time.perf_counter() - began)
    assert min(taken) < 1.0


def test_plain_and_compressed_files_are_read_and_sums_over_samples_become_means(tmp_path: Path) -> None:
    a = {"model": "a", "samples_per_evidence_model": 4, "passages": [{"b": [4, 1]}]}
    b = {"model": "b", "samples_per_evidence_model": 4, "passages": [{"a": [2]}]}
    (tmp_path / "a.json").write_text(json.dumps(a))
    (tmp_path / "b.json.gz").write_bytes(gzip.compress(json.dumps(b).encode()))
    votes = read_published(tmp_path)
    assert dict(zip(votes.targets, scores(votes).tolist(), strict=True)) == {"a": 0.625, "b": 0.5}


def test_files_with_different_numbers_of_samples_are_refused(tmp_path: Path) -> None:
    for name, samples in (("a", 10), ("b", 20)):
        content = {"model": name, "samples_per_evidence_model": samples, "passages": [{"c": [1]}]}
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    with pytest.raises(BadInput, match=r"differ in samples_per_evidence_model: \[10.0, 20.0\]"):
        read_published(tmp_path)


def test_a_folder_without_vote_files_and_a_wrong_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="holds no"):
        read_published(tmp_path)
    (tmp_path / "a.json").write_text("[1]")
    with pytest.raises(BadInput, match="needs the fields 'model' and 'passages'"):
        read_published(tmp_path)


@pytest.mark.golden
@pytest.mark.parametrize("board", cases(data_roots(), "crosscheck/text_leaderboard_metrics.json"))
def test_published_votes_score_like_their_definition(
    board: Path,
) -> None:
    votes = read_published(board.parent / "text_explicit")
    known = tuple(vote_sums(votes).own())
    paper = replace(PAPER, evidence=known)
    slow = claim_by_claim(votes, weights(votes, paper)[0], "micro", list(range(votes.n_items)))
    np.testing.assert_allclose(scores(votes, paper), slow, rtol=1e-12)
