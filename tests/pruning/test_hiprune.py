"""HiPrune: stages, neighbours, budgets, settings."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from seen_views import CLIP, QWEN, SIGLIP, TOWERS, Problem, chosen, grids, problems, seeds, view

from vlmtools.errors import BadInput, CannotAttach
from vlmtools.pruning.base import Seen, Tower
from vlmtools.pruning.hiprune import HiPrune, best, cross, fill_diverse, n_anchors, released_stages, stages


@given(problems(), st.sampled_from(TOWERS), st.sampled_from([0.0, 0.1, 0.5, 1.0, 4.0]))
@settings(deadline=None, max_examples=60)
def test_strict_fills_the_budget_exactly_with_different_tokens(
    problem: Problem, tower: Tower, alpha: float
) -> None:
    chosen(HiPrune(alpha=alpha), tower, problem)
    chosen(HiPrune(alpha=alpha, fill="diverse"), tower, problem)


@pytest.mark.parametrize(
    ("budget", "alpha", "n"),
    [(192, 0.1, 4), (128, 0.1, 3), (64, 0.1, 1), (25, 0.1, 0), (125, 0.1, 2), (192, 1, 38)],
)
def test_anchors_are_a_fifth_of_their_share_with_ties_to_even(budget: int, alpha: float, n: int) -> None:
    assert n_anchors(budget, alpha) == n


@given(grids, st.data())
@settings(deadline=None, max_examples=60)
def test_neighbours_are_those_of_the_grid_and_never_wrap_into_another_row(
    grid: tuple[int, int], data: st.DataObject
) -> None:
    height, width = grid
    anchors = data.draw(st.lists(st.integers(0, height * width - 1), unique=True, min_size=1))
    expected = set()
    for place in anchors:
        row, column = divmod(place, width)
        for down, right in ((0, 1), (0, -1), (1, 0), (-1, 0)):
            if 0 <= row + down < height and 0 <= column + right < width:
                expected.add((row + down) * width + column + right)
    found = cross(torch.tensor(anchors), height * width, width)
    assert found.tolist() == sorted(expected - set(anchors))


def test_the_released_neighbours_wrap_and_border_anchors_keep_a_corner() -> None:
    scores = torch.zeros(16)
    scores[4] = 1  # column 0 of row 1 on a grid of 4
    anchors, buffers, _ = released_stages(scores, scores / 9, 8, 4, alpha=0.7)
    assert anchors.tolist() == [4] and buffers.tolist() == [0, 3, 5, 8]
    assert cross(anchors, 16, 4).tolist() == [0, 5, 8]
    scores = torch.zeros(16)
    scores[13] = 1
    assert released_stages(scores, scores / 9, 8, 4, alpha=0.7)[1].tolist() == [9, 12, 14, 15]


def test_the_released_exclusion_draws_high_scores_again_and_leaves_the_budget_short() -> None:
    scores = torch.ones(16)
    scores[5] = 4  # minus one it is still the highest
    anchors, buffers, rest = released_stages(scores, scores, 8, 4, alpha=0.7)
    assert anchors.tolist() == [5] and 5 in rest.tolist()
    assert len({*anchors.tolist(), *buffers.tolist(), *rest.tolist()}) == 7
    assert sum(map(len, stages(scores, scores, 8, 4, alpha=0.7))) == 8


def test_the_released_program_stops_when_neighbours_exceed_the_budget_and_so_does_compat() -> None:
    scores = torch.zeros(16).index_fill(0, torch.tensor(5), 1)
    with pytest.raises(BadInput, match="5 anchors and neighbours do not fit into 3 tokens"):
        released_stages(scores, scores, 3, 4, alpha=1.0)


def test_neighbours_beyond_the_budget_go_lowest_object_score_first() -> None:
    middle = torch.arange(25.0)
    middle[12] = 100
    anchors, buffers, rest = stages(middle, middle, 3, 5, alpha=1.0)
    assert anchors.tolist() == [12] and sorted(buffers.tolist()) == [13, 17] and not len(rest)


def test_of_equal_scores_the_lower_index_wins() -> None:
    assert best(torch.tensor([1.0, 2.0, 2.0, 1.0]), 3).tolist() == [1, 2, 0]


def test_small_budgets_are_plain_global_attention() -> None:
    deep = torch.rand(49, generator=torch.Generator().manual_seed(3))
    anchors, buffers, rest = stages(deep.flip(0), deep, 20, 7)
    assert not len(anchors) and not len(buffers)
    assert set(rest.tolist()) == set(deep.topk(20).indices.tolist())


@given(grids, seeds, st.floats(0.5, 1e4))
@settings(deadline=None, max_examples=30)
def test_strict_does_not_depend_on_the_scale_of_the_scores(
    grid: tuple[int, int], seed: int, scale: float
) -> None:
    n = grid[0] * grid[1]
    middle, deep = torch.rand(2, n, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    one = stages(middle, deep, n // 2, grid[1], 0.5)
    other = stages(middle * scale, deep * scale, n // 2, grid[1], 0.5)
    assert [part.tolist() for part in one] == [part.tolist() for part in other]


def test_everything_kept_is_everything() -> None:
    middle, deep = torch.rand(2, 30, generator=torch.Generator().manual_seed(0))
    for alpha in (0.0, 0.1, 1.0):
        assert torch.cat(stages(middle, deep, 30, 6, alpha)).sort().values.tolist() == list(range(30))


def test_diverse_fill_passes_over_a_copy_of_what_is_kept() -> None:
    features = torch.eye(4)[[0, 0, 1, 2]]
    scores = torch.tensor([1.0, 0.9, 0.5, 0.4])
    assert fill_diverse(scores, features, torch.tensor([0]), 2).tolist() == [2, 3]
    assert fill_diverse(scores, features, torch.tensor([0]), 2, weight=0.0).tolist() == [1, 2]
    assert fill_diverse(scores, features, torch.tensor([], dtype=torch.long), 1).tolist() == [0]


@given(problems())
@settings(deadline=None, max_examples=30)
def test_diverse_fill_without_weight_is_the_register_fill(problem: Problem) -> None:
    plain = chosen(HiPrune(alpha=0.5), CLIP, problem)
    other = chosen(HiPrune(alpha=0.5, fill="diverse", weight=0.0), CLIP, problem)
    assert plain.kept.tolist() == other.kept.tolist()
    assert set(plain.kinds) == {"anchor", "buffer", "register"} and "diverse" in other.kinds


def test_layers_follow_the_paper_and_move_to_layers_that_see_whole_pictures() -> None:
    assert HiPrune().needs(CLIP).received == (8, 22)
    assert HiPrune().needs(QWEN).received == (15, 31)
    assert HiPrune().needs(SIGLIP).received == (13, 26)
    assert HiPrune(object_layer=-20, deep_layer=-1).needs(CLIP).received == (-20, -1)
    shallow = HiPrune().needs(Tower("clip_vision_model", 3, 0, (0, 1, 2), class_token=True))
    assert shallow.received == (0, 0)


@pytest.mark.parametrize("layers", [(-20, -1), (22, 3), (5, None), (None, 4), (7, 7), (-2, None)])
def test_layers_given_by_the_user_reach_the_right_stage(layers: tuple[int | None, int | None]) -> None:
    pruner = HiPrune(alpha=1.0, object_layer=layers[0], deep_layer=layers[1])
    needs = pruner.needs(CLIP)
    seen = view(needs, (6, 6))
    middle, deep = (seen.received[layer] for layer in needs.received)
    expected = torch.cat(stages(middle, deep, 12, 6, 1.0)).sort().values
    assert pruner.select(seen, 12).kept.tolist() == expected.tolist()


def test_a_layer_that_looks_through_windows_is_refused() -> None:
    with pytest.raises(CannotAttach, match="layers 7, 15, 23, 31 do"):
        HiPrune(object_layer=9).needs(QWEN)


def test_a_tower_without_readable_attention_is_refused_with_alternatives() -> None:
    with pytest.raises(CannotAttach, match="divprune"):
        HiPrune().needs(Tower("odd"))


def test_compat_with_a_fill_of_ours_is_refused() -> None:
    with pytest.raises(BadInput, match="do not go together"):
        HiPrune(compat=True, fill="diverse").needs(CLIP)


def test_bfloat16_features_do_not_disturb_the_diverse_fill() -> None:
    seen = view(HiPrune(fill="diverse").needs(CLIP), (4, 4))
    half = Seen(seen.features.bfloat16(), seen.grid, seen.received)
    assert HiPrune(fill="diverse").select(half, 7).n_tokens == 7
