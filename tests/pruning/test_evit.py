"""EViT: class attention and a fused token."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from seen_views import CLIP, SIGLIP, TOWERS, Problem, chosen, problems, view

from vlmtools.pruning.base import Tower
from vlmtools.pruning.evit import EViT, attentive, complement, n_left, reorganise, schedule


@given(problems(), st.sampled_from(TOWERS), st.booleans(), st.booleans())
@settings(deadline=None, max_examples=60)
def test_kept_and_fused_tokens_fill_the_budget_exactly(
    problem: Problem, tower: Tower, fuse: bool, renormalise: bool
) -> None:
    selection = chosen(EViT(fuse=fuse, renormalise=renormalise), tower, problem)
    assert (selection.merged is not None) == (fuse and problem[2] > 1)


def test_the_fused_token_is_the_attention_weighted_sum_of_all_others_at_the_best_of_them() -> None:
    seen = view(EViT().needs(CLIP), (3, 3))
    attention = next(iter(seen.class_attention.values()))
    order = attention.argsort(descending=True)
    rest = order[3:]
    summed = (seen.features[rest] * attention[rest, None]).sum(0)
    found = EViT().select(seen, 4)
    assert found.merged_at.tolist() == [order[3]]
    torch.testing.assert_close(found.merged[0], summed)
    mean = EViT(renormalise=True).select(seen, 4).merged[0]
    torch.testing.assert_close(mean, summed / attention[rest].sum())


def test_it_reads_the_class_token_and_else_the_mean_of_all_patches() -> None:
    assert EViT().needs(CLIP).class_attention == (22,)
    assert EViT().needs(SIGLIP).received == (26,)


def test_nothing_is_dropped_when_all_are_kept() -> None:
    tokens = torch.randn(2, 5, 3)
    assert reorganise(tokens, torch.rand(2, 5), 5) is tokens


@given(st.integers(2, 12), st.data())
@settings(deadline=None, max_examples=30)
def test_kept_and_complement_are_everything(n: int, data: st.DataObject) -> None:
    n_keep = data.draw(st.integers(1, n))
    attention = torch.rand(3, n, generator=torch.Generator().manual_seed(n))
    kept = attentive(attention, n_keep)
    rest = complement(kept, n)
    both = torch.cat([kept, rest], 1).sort(1).values
    assert both.tolist() == [list(range(n))] * 3
    assert rest.tolist() == rest.sort(1).values.tolist()


@pytest.mark.parametrize(("n", "rate", "left"), [(196, 0.7, 138), (16, 0.99, 16), (10, 0.5, 5), (7, 0.5, 4)])
def test_the_number_kept_is_rounded_up(n: int, rate: float, left: int) -> None:
    assert n_left(n, rate) == left


def test_a_tower_that_keeps_all_never_shrinks() -> None:
    assert schedule(196, 1.0) == [196] * 12
