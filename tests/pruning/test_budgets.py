"""Budgets: a share or a number, for every view or for a whole picture."""

import pytest
import torch
from matrix import answer, inputs, tiny
from pruning_cases import PRUNABLE, First, padded, prompts

from vlmtools.errors import BadInput
from vlmtools.families.base import noise
from vlmtools.pruning._spec import parse_pruner


@pytest.mark.parametrize(
    ("keep", "views", "expected"),
    [
        (10, [9, 4, 4], [5, 3, 2]),
        (0.5, [9, 4, 4], [4, 2, 2]),
        (640, [576] * 5, [128] * 5),
        (640, [576] * 3, [213, 214, 213]),
        (100, [9, 4], [9, 4]),
        (1, [4, 4], [1, 1]),
    ],
)
def test_a_pictures_budget_is_shared_out_in_proportion(
    keep: float, views: list[int], expected: list[int]
) -> None:
    assert First(keep=keep, per="picture").budgets(views) == expected
    assert First(keep=keep).budgets(views) == [First(keep=keep).budget(n) for n in views]


@pytest.mark.parametrize("n_views", [1, 2, 3, 7])
@pytest.mark.parametrize("total", [7, 20, 41])
def test_the_parts_are_never_more_than_their_views_and_add_up(n_views: int, total: int) -> None:
    views = [3 + 2 * i for i in range(n_views)]
    found = First(keep=total, per="picture").budgets(views)
    assert sum(found) == min(total, sum(views))
    assert all(1 <= one <= n for one, n in zip(found, views, strict=True))


@pytest.mark.parametrize("kind", PRUNABLE)
def test_a_whole_picture_keeps_as_many_tokens_as_asked_for(kind: str) -> None:
    model, batch = tiny(kind), prompts(kind, (1,))
    with First(keep=2, per="picture").attach(model) as on:
        answer(model, batch)
        views = on.report().views
    assert sum(one.selection.n_tokens for one in views) == max(2, len(views))


def test_the_overview_and_the_mosaic_of_a_picture_share_its_budget() -> None:
    model, batch = tiny("llava_next"), inputs("llava_next")
    with First(keep=5, per="picture").attach(model) as on:
        answer(model, batch)
        views = on.report().views
    assert len(views) == 2 and sum(one.selection.n_tokens for one in views) == 5


def test_tiles_that_stand_together_in_the_prompt_are_one_picture() -> None:
    model, one = tiny("internvl"), inputs("internvl")
    image = (one["input_ids"][0] == 127).sum()
    row = [1, 9, 125, *[127] * (2 * int(image)), 124, 8, 125, *[127] * int(image), 124, 5]
    pixels = noise((3, *one["pixel_values"].shape[1:]), 1)
    batch = padded("internvl", [row], {"pixel_values": pixels})
    with First(keep=2, per="picture").attach(model) as on:
        answer(model, batch)
        assert [view.selection.n_tokens for view in on.report().views] == [1, 1, 2]
    with First(keep=2).attach(model) as on:
        answer(model, batch)
        assert [view.selection.n_tokens for view in on.report().views] == [2, 2, 2]


@pytest.mark.parametrize("kind", ["qwen2_vl", "qwen2_5_vl"])
def test_the_frames_of_a_video_share_its_budget(kind: str) -> None:
    row = [1, 9, 125, *[126] * 8, 124, 5]
    media = {"pixel_values_videos": noise((32, 96), 3), "video_grid_thw": torch.tensor([[2, 4, 4]])}
    batch = padded(kind, [row], media)
    batch["mm_token_type_ids"] = (batch["input_ids"] == 126).long() * 2
    with First(keep=3, per="picture").attach(tiny(kind)) as on:
        answer(tiny(kind), batch)
        assert sorted(view.selection.n_tokens for view in on.report().views) == [1, 2]


def test_text_says_what_a_budget_is_for_and_nonsense_is_refused() -> None:
    found = parse_pruner("hiprune:keep=640,per=picture")
    assert found.budgets([576] * 5) == [128] * 5
    with pytest.raises(BadInput, match="neither view"):
        First(keep=3, per="tile").attach(tiny("llava"))  # type: ignore[arg-type]
