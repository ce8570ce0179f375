"""EADP: clear words, a smooth map, and cover."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from seen_views import CLIP, Problem, chosen, problems, seeds, view

from vlmtools.errors import BadInput
from vlmtools.pruning.base import Needs, Tower
from vlmtools.pruning.eadp import EADP, clear_words, facility_location, instruction_relevance, smooth


@given(problems(), st.sampled_from([0.0, 1.0, 3.0]))
@settings(deadline=None, max_examples=40)
def test_the_budget_is_met_exactly_with_different_tokens(problem: Problem, sharpness: float) -> None:
    chosen(EADP(sharpness=sharpness), CLIP, problem)


def test_it_works_with_any_tower_and_asks_for_the_text() -> None:
    assert EADP().needs(Tower()) == Needs(text=True)


def test_a_word_that_points_at_one_token_is_clear_and_one_that_points_everywhere_is_not() -> None:
    likeness = torch.tensor([[0.5, 0.9, 0.1], [0.5, 0.0, 0.2], [0.5, 0.0, 0.1]])
    order, entropy = clear_words(likeness, share=0.7)
    assert order.tolist() == [1, 2] and entropy[0] < entropy[1]
    assert clear_words(likeness, share=0.1)[0].tolist() == [1]
    assert clear_words(likeness, share=1.0)[0].tolist() == [1, 2, 0]


def test_relevance_follows_the_clear_word_and_turns_with_the_sign() -> None:
    features, words = torch.eye(3), torch.tensor([[1.0, 1.0, 1.0], [0.0, 1.0, 0.0]])
    plain = instruction_relevance(features, words, words.mean(0), balance=0.0, share=0.5, contrary=False)
    assert plain.argmax() == 1 and plain.max() == pytest.approx(1, abs=1e-4)
    turned = instruction_relevance(features, words, words.mean(0), balance=1.0, share=0.5)
    assert turned.argmin() == 1


def test_smoothing_keeps_a_flat_map_and_spreads_a_point_evenly() -> None:
    torch.testing.assert_close(smooth(torch.ones(12), (3, 4)), torch.ones(12))
    point = torch.zeros(25)
    point[12] = 1
    spread = smooth(point, (5, 5)).reshape(5, 5)
    assert spread[2, 2] == spread.max() and torch.equal(spread, spread.T) and spread.sum() == pytest.approx(1)
    assert smooth(torch.arange(4.0), (1, 4)).tolist() == [0, 1, 2, 3]


@given(seeds, st.integers(1, 8))
@settings(deadline=None, max_examples=20)
def test_every_choice_adds_the_most_cover(seed: int, n_keep: int) -> None:
    chance = torch.Generator().manual_seed(seed)
    half = torch.rand(9, 9, generator=chance)
    likeness, weight = ((half + half.T) / 2).fill_diagonal_(1), torch.rand(9, generator=chance)
    order = facility_location(likeness, weight, n_keep).tolist()
    assert len(set(order)) == n_keep

    def cover(tokens: list[int]) -> float:
        return float((likeness[tokens].max(0).values * weight).sum())

    for step in range(n_keep):
        best = max(cover([*order[:step], token]) for token in range(9) if token not in order[:step])
        assert cover(order[: step + 1]) >= best - 1e-5


def test_everything_kept_is_everything() -> None:
    assert sorted(facility_location(torch.ones(5, 5), torch.ones(5), 5).tolist()) == [0, 1, 2, 3, 4]
    assert facility_location(torch.ones(5, 5), torch.ones(5), 0).tolist() == []


def test_without_text_the_picture_alone_is_covered() -> None:
    seen = view(Needs(), (4, 4))
    assert EADP().select(seen, 5).n_tokens == 5


@pytest.mark.parametrize("wrong", [{"balance": 2.0}, {"words": 0.0}, {"sharpness": -1.0}])
def test_settings_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(BadInput, match="balance is from"):
        EADP(**wrong).needs(CLIP)
