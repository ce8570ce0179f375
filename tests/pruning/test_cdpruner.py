"""CDPruner: a determinantal point process conditioned on the prompt."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from seen_views import CLIP, Problem, chosen, problems, seeds, view

from vlmtools.pruning.base import Needs, Tower
from vlmtools.pruning.cdpruner import CDPruner, conditional_kernel, most_likely, relevance


@given(problems(), st.booleans(), st.booleans())
@settings(deadline=None, max_examples=60)
def test_the_budget_is_met_exactly_also_beyond_the_rank_of_the_kernel(
    problem: Problem, contrary: bool, instruction: bool
) -> None:
    chosen(CDPruner(contrary=contrary, instruction=instruction), CLIP, problem)


def test_it_works_with_any_tower_and_asks_for_the_text() -> None:
    assert CDPruner().needs(Tower()) == Needs(text=True)
    assert CDPruner(instruction=False).needs(Tower()) == Needs()


@given(seeds)
@settings(deadline=None, max_examples=20)
def test_every_choice_makes_the_determinant_as_large_as_it_can(seed: int) -> None:
    features = torch.randn(9, 12, generator=torch.Generator().manual_seed(seed))
    kernel = conditional_kernel(features, torch.rand(9, generator=torch.Generator().manual_seed(seed)) + 0.1)
    order = most_likely(kernel, 5).tolist()
    exact = kernel.double()
    for step in range(5):
        free = [token for token in range(9) if token not in order[:step]]
        value = {token: exact[[*order[:step], token]][:, [*order[:step], token]].det() for token in free}
        assert value[order[step]] >= max(value.values()) * (1 - 1e-4)


def test_beyond_the_rank_the_rest_comes_by_relevance_and_nothing_is_infinite() -> None:
    kernel = conditional_kernel(torch.eye(2)[[0, 0, 0, 1]], torch.tensor([0.5, 1.0, 0.7, 0.9]))
    assert most_likely(kernel, 4).tolist() == [1, 3, 2, 0]
    assert most_likely(torch.zeros(3, 3), 2).tolist() == [0, 1]
    assert most_likely(kernel, 0).tolist() == []


def test_relevance_is_the_stretched_cosine_with_either_sign() -> None:
    image, text = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]), torch.tensor([[2.0, 0.0]])
    assert relevance(image, text, contrary=False).argsort().tolist() == [1, 2, 0]
    assert relevance(image, text).argsort().tolist() == [0, 2, 1]
    assert relevance(image[:1], text).tolist() == [1.0]


@given(seeds)
@settings(deadline=None, max_examples=20)
def test_another_order_of_the_tokens_gives_the_same_tokens(seed: int) -> None:
    chance = torch.Generator().manual_seed(seed)
    features, order = torch.randn(14, 20, generator=chance), torch.randperm(14, generator=chance)
    weight = torch.rand(14, generator=chance) + 0.2
    moved = most_likely(conditional_kernel(features[order], weight[order]), 6)
    assert order[moved].tolist() == most_likely(conditional_kernel(features, weight), 6).tolist()


def test_without_text_it_is_diversity_alone() -> None:
    seen = view(Needs(), (4, 4))
    plain = CDPruner(instruction=False).select(seen, 5)
    assert CDPruner().select(seen, 5).kept.tolist() == plain.kept.tolist()
