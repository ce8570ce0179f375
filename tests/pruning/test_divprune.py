"""DivPrune: farthest first."""

import torch
from hypothesis import assume, given, settings
from seen_views import CLIP, Problem, chosen, problems, seeds

from vlmtools.pruning.base import Needs, Tower
from vlmtools.pruning.divprune import DivPrune, farthest_first


@given(problems())
@settings(deadline=None, max_examples=40)
def test_the_budget_is_met_exactly_with_different_tokens(problem: Problem) -> None:
    chosen(DivPrune(), CLIP, problem)


def test_it_needs_nothing_of_the_tower() -> None:
    assert DivPrune().needs(Tower()) == Needs()


@given(seeds)
@settings(deadline=None, max_examples=20)
def test_every_choice_is_the_token_farthest_from_those_before(seed: int) -> None:
    features = torch.randn(15, 4, dtype=torch.float32, generator=torch.Generator().manual_seed(seed))
    apart = 1 - torch.cosine_similarity(features[:, None], features[None], dim=-1)
    order = farthest_first(features, 15).tolist()
    assert sorted(order) == list(range(15))
    for step in range(1, 14):
        reach = apart[order[:step]].min(0).values
        free = [token for token in range(15) if token not in order[:step]]
        assert reach[order[step]] >= reach[free].max() - 1e-5


@given(seeds)
@settings(deadline=None, max_examples=20)
def test_another_order_of_the_tokens_gives_the_same_tokens(seed: int) -> None:
    chance = torch.Generator().manual_seed(seed)
    features, order = torch.randn(20, 6, generator=chance), torch.randperm(20, generator=chance)
    nearest = (
        (1 - torch.cosine_similarity(features[:, None], features[None], dim=-1)).fill_diagonal_(9).min(0)
    )
    first, second = nearest.values.topk(2).values
    assume(
        first - second > 1e-5
    )  # two that are each other's nearest, and far from the rest, are equally good to begin with
    assert order[farthest_first(features[order], 8)].tolist() == farthest_first(features, 8).tolist()


def test_a_copy_is_not_taken_while_something_new_is_left_and_never_twice() -> None:
    features = torch.eye(3)[[0, 0, 0, 1, 2]]
    assert {0, 3, 4} >= set(farthest_first(features, 3).tolist())
    assert sorted(farthest_first(features, 5).tolist()) == [0, 1, 2, 3, 4]


def test_nothing_asked_is_nothing() -> None:
    assert farthest_first(torch.eye(3), 0).tolist() == []
