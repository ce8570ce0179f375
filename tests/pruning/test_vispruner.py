"""VisPruner: attended tokens, then tokens that repeat nothing."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from seen_views import CLIP, TOWERS, Problem, chosen, problems, seeds

from vlmtools.errors import BadInput
from vlmtools.pruning.base import Tower
from vlmtools.pruning.fastervlm import FasterVLM
from vlmtools.pruning.vispruner import VisPruner, attended_and_different, without_duplicates


@given(problems(), st.sampled_from(TOWERS), st.sampled_from([0.0, 0.3, 0.5, 1.0]))
@settings(deadline=None, max_examples=60)
def test_the_budget_is_met_exactly_with_different_tokens_for_odd_counts_too(
    problem: Problem, tower: Tower, important: float
) -> None:
    chosen(VisPruner(important=important), tower, problem)


@given(problems(), st.sampled_from(TOWERS))
@settings(deadline=None, max_examples=20)
def test_with_all_budget_by_attention_it_is_fastervlm(problem: Problem, tower: Tower) -> None:
    """The views differ (one has tower features), so compare the rule on the same attention."""
    grid, seed, n_keep = problem
    attention = torch.rand(grid[0] * grid[1], generator=torch.Generator().manual_seed(seed))
    attended, diverse = attended_and_different(torch.randn(len(attention), 4), attention, n_keep, 1.0)
    assert (
        not len(diverse)
        and attended.tolist() == attention.argsort(descending=True, stable=True)[:n_keep].tolist()
    )
    assert FasterVLM().needs(tower).layers == VisPruner().needs(tower).layers


def test_copies_go_first() -> None:
    features = torch.eye(5)[[0, 0, 1, 2, 3, 4]]
    found = without_duplicates(features, torch.arange(6), 5)
    assert sorted(found.tolist()) == [1, 2, 3, 4, 5]


def test_a_round_puts_surviving_even_places_in_front_of_the_odd_ones() -> None:
    features = torch.eye(4)[[0, 0, 1, 2, 3, 2]]
    assert without_duplicates(features, torch.arange(6), 5, step=1).tolist() == [2, 4, 1, 3, 5]


@given(seeds, st.integers(1, 30), st.integers(1, 9))
@settings(deadline=None, max_examples=40)
def test_any_number_is_reached_from_any_number(seed: int, n: int, step: int) -> None:
    features = torch.randn(n, 3, generator=torch.Generator().manual_seed(seed))
    for n_keep in range(n + 1):
        found = without_duplicates(features, torch.arange(n), n_keep, step).tolist()
        assert len(found) == len(set(found)) == n_keep


@given(seeds)
@settings(deadline=None, max_examples=20)
def test_another_order_of_the_tokens_gives_the_same_tokens(seed: int) -> None:
    chance = torch.Generator().manual_seed(seed)
    features, attention = torch.randn(24, 6, generator=chance), torch.rand(24, generator=chance)
    order = torch.randperm(24, generator=chance)
    moved = torch.cat(attended_and_different(features[order], attention[order], 10))
    assert sorted(order[moved].tolist()) == sorted(
        torch.cat(attended_and_different(features, attention, 10)).tolist()
    )


def test_a_share_beyond_one_is_refused() -> None:
    with pytest.raises(BadInput, match="from 0 to 1"):
        VisPruner(important=1.5).needs(CLIP)
