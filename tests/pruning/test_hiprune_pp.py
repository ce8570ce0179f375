"""HiPrune++: a share of the budget by closeness to the text."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from seen_views import CLIP, TOWERS, Problem, chosen, problems, view

from vlmtools.errors import BadInput
from vlmtools.pruning.base import Seen, Tower
from vlmtools.pruning.hiprune import HiPrune
from vlmtools.pruning.hiprune_pp import HiPrunePP, closest_to_text


@given(problems(), st.sampled_from(TOWERS))
@settings(deadline=None, max_examples=40)
def test_the_budget_is_met_exactly_with_different_tokens(problem: Problem, tower: Tower) -> None:
    chosen(HiPrunePP(), tower, problem)
    chosen(HiPrunePP(beta=0.4, alpha=1.0, fill="diverse"), tower, problem)


def test_the_tokens_closest_to_the_text_are_added_but_none_twice() -> None:
    features = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.5, 0.5]])
    text = torch.tensor([[1.0, 0.2], [1.0, -0.2]])
    assert closest_to_text(features, text, torch.tensor([0]), 2).tolist() == [1, 3]


def test_asking_for_budget_plus_share_gives_hiprune_of_the_budget_plus_the_share() -> None:
    seen = view(HiPrunePP(beta=0.1).needs(CLIP), (10, 10))
    found = HiPrunePP(beta=0.1).select(seen, 40)
    basic = HiPrune().select(seen, 30)
    assert len(found.kinds["prompt"]) == 10
    assert set(found.kept.tolist()) == {*basic.kept.tolist(), *found.kinds["prompt"].tolist()}


def test_without_text_or_share_it_is_hiprune() -> None:
    seen = view(HiPrune().needs(CLIP), (6, 6))
    assert HiPrunePP().select(seen, 9).kept.tolist() == HiPrune().select(seen, 9).kept.tolist()
    worded = Seen(seen.features, seen.grid, seen.received, text=torch.ones(2, 12))
    assert HiPrunePP(beta=0.0).select(worded, 9).kept.tolist() == HiPrune().select(seen, 9).kept.tolist()


def test_compat_is_refused_since_no_program_was_released() -> None:
    with pytest.raises(BadInput, match="no program was released"):
        HiPrunePP(compat=True).needs(CLIP)
