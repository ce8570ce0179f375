"""VisionZip: dominant tokens stay, contextual ones gather the rest."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from seen_views import CLIP, TOWERS, Problem, chosen, problems, view

from vlmtools.errors import BadInput
from vlmtools.pruning.base import Tower
from vlmtools.pruning.visionzip import VisionZip, dominant, gather_context, spread_targets


@given(problems(), st.sampled_from(TOWERS), st.sampled_from([0.0, 10 / 64, 0.5, 1.0]), st.booleans())
@settings(deadline=None, max_examples=60)
def test_kept_and_gathered_tokens_fill_the_budget_exactly(
    problem: Problem, tower: Tower, contextual: float, average: bool
) -> None:
    chosen(VisionZip(contextual=contextual, average=average), tower, problem)


@pytest.mark.parametrize(("budget", "gathered"), [(64, 10), (128, 20), (192, 30)])
def test_the_share_of_gathered_tokens_is_that_of_the_paper(budget: int, gathered: int) -> None:
    selection = VisionZip().select(view(VisionZip().needs(CLIP), (24, 24)), budget)
    assert len(selection.merged) == gathered and len(selection.kept) == budget - gathered


def test_targets_lie_at_equal_steps_rounded_down() -> None:
    assert spread_targets(20, 3).tolist() == [0, 6, 12]
    assert spread_targets(5, 5).tolist() == [0, 1, 2, 3, 4]
    assert spread_targets(5, 0).tolist() == []


def test_a_target_is_itself_plus_the_mean_of_those_whose_key_is_closest() -> None:
    tokens = torch.tensor([[1.0], [10.0], [20.0], [5.0], [7.0]])
    keys = torch.eye(2)[[0, 0, 0, 1, 1]]
    found = gather_context(tokens, keys, torch.tensor([0, 3]))
    assert found.tolist() == [[1 + 15.0], [5 + 7.0]]
    mean = gather_context(tokens, keys, torch.tensor([0, 3]), average=True)
    torch.testing.assert_close(mean, torch.tensor([[31 / 3], [6.0]]))


def test_a_target_that_nobody_joins_stays_itself_and_targets_never_join_each_other() -> None:
    tokens, keys = torch.tensor([[1.0], [2.0], [3.0]]), torch.eye(2)[[0, 0, 1]]
    assert gather_context(tokens, keys, torch.tensor([0, 1, 2])).tolist() == [[1.0], [2.0], [3.0]]
    assert gather_context(tokens, keys, torch.tensor([0, 2])).tolist() == [[3.0], [3.0]]


def test_everything_dominant_is_everything() -> None:
    attention = torch.rand(9, generator=torch.Generator().manual_seed(1))
    assert sorted(dominant(attention, 9).tolist()) == list(range(9))


def test_a_share_beyond_one_is_refused() -> None:
    with pytest.raises(BadInput, match="from 0 to 1"):
        VisionZip(contextual=-0.1).needs(CLIP)
