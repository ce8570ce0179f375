"""FasterVLM: top of the class attention."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from seen_views import CLIP, QWEN, SIGLIP, TOWERS, Problem, chosen, problems

from vlmtools.pruning.base import Tower
from vlmtools.pruning.fastervlm import FasterVLM, most_attended


@given(problems(), st.sampled_from(TOWERS))
@settings(deadline=None, max_examples=40)
def test_the_budget_is_met_exactly_with_different_tokens(problem: Problem, tower: Tower) -> None:
    chosen(FasterVLM(), tower, problem)


def test_it_reads_the_class_token_and_else_the_mean_of_all_patches() -> None:
    assert FasterVLM().needs(CLIP).class_attention == (22,) and not FasterVLM().needs(CLIP).received
    assert FasterVLM().needs(SIGLIP).received == (26,) and not FasterVLM().needs(SIGLIP).class_attention
    assert FasterVLM(layer=-9).needs(QWEN).received == (-9,)


def test_equal_attention_goes_to_the_lower_index() -> None:
    attention = torch.tensor([0.1, 0.4, 0.4, 0.1])
    assert most_attended(attention, 3).tolist() == [1, 2, 0]
    assert most_attended(attention, 4).tolist() == [1, 2, 0, 3]
