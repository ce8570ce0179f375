"""PAINT as released, against a full eager decoder and numbers worked out by hand."""

from typing import Any

import pytest
import torch
from plain import llava, prompt, run
from torch import Tensor

from vlmtools.errors import CannotAttach
from vlmtools.patches.paint import (
    PAINT,
    n_outliers,
    patch_scores,
    received,
    row_sums,
    select_tokens,
    visual_heads,
)


def vision_weights(model: Any, pixels: Tensor) -> list[Tensor]:
    """Layer → (image, head, row, key), as an eager tower gives them."""
    model.model.vision_tower.set_attn_implementation("eager")
    with torch.no_grad():
        found = model.model.vision_tower(pixels, output_attentions=True).attentions
    model.model.vision_tower.set_attn_implementation("sdpa")
    return list(found)


def chosen_by_hand(model: Any, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Section 2.1 of the method as the code does it, in plain Python."""
    early, late = (vision_weights(model, pixels)[layer][0, :, 0, 1:].sum(0).tolist() for layer in (0, -2))
    ranked = sorted(late)
    low, high = (_quantile(ranked, share) for share in (0.25, 0.75))
    bottom = {i for i, x in enumerate(late) if x > high + 1.5 * (high - low)}
    top = set(sorted(range(9), key=lambda i: -early[i])[: int(9 * 0.25)]) - bottom
    mask = [torch.tensor([i in chosen for i in range(9)]) for chosen in (top, bottom)]
    return mask[0], mask[1]


def _quantile(ranked: list[float], share: float) -> float:
    place = share * (len(ranked) - 1)
    below = int(place)
    return ranked[below] + (place - below) * (ranked[min(below + 1, len(ranked) - 1)] - ranked[below])


@pytest.mark.parametrize("n_kv_heads", [8, 4], ids=["one-group-per-head", "grouped"])
@pytest.mark.parametrize("seed", [0, 1])
def test_twenty_steps_are_those_of_a_full_eager_decoder(n_kv_heads: int, seed: int) -> None:
    model = llava(6, 8, n_kv_heads, seed)
    inputs = prompt(model, seed=seed)
    ids, first = inputs["input_ids"], inputs["input_ids"].shape[1] - 1
    top, bottom = chosen_by_hand(model, inputs["pixel_values"])

    def raised(layer: int, w: Tensor) -> Tensor:
        if layer < 2:
            return w
        rows = (torch.arange(w.shape[1]) >= first)[:, None]
        for chosen, share in ((top, 0.7), (bottom, 0.3)):
            keys = torch.zeros(w.shape[-1], dtype=torch.bool)
            keys[2:11] = chosen
            w = torch.where(rows & keys, w + share * w.abs(), w)
        return w

    expected = []
    for _ in range(20):
        expected.append(run(model, ids, inputs["pixel_values"], raised)[-1])
        ids = torch.cat([ids, expected[-1].argmax(-1)[None, None]], 1)
    with PAINT().attach(model):
        options = {"do_sample": False, "output_logits": True, "return_dict_in_generate": True}
        out = model.generate(**inputs, max_new_tokens=20, **options)
    assert top.any()
    assert out.sequences.tolist() == ids.tolist()
    torch.testing.assert_close(torch.cat(out.logits), torch.stack(expected), atol=5e-5, rtol=0)


def test_outliers_lie_above_the_third_quartile_by_one_and_a_half_ranges() -> None:
    # quartiles 1 and 3, so that everything above 6 is out
    scores = torch.tensor([0.0, 1.0, 2.0, 3.0, 6.5])
    assert n_outliers(scores) == 1
    assert n_outliers(torch.tensor([0.0, 1.0, 2.0, 3.0, 6.0])) == 0


def test_raised_and_summary_tokens_are_disjoint() -> None:
    local = torch.tensor([[9.0, 8, 7, 6, 5, 4, 3, 2]])
    summary = torch.tensor([[100.0, 1, 1, 2, 2, 2, 1, 1]])
    top, bottom = select_tokens(local, summary, None, 0.25, 0.0)
    assert bottom.nonzero()[:, 1].tolist() == [0]
    assert top.nonzero()[:, 1].tolist() == [1]
    spatial = torch.tensor([[0.0, 0, 0, 0, 0, 0, 1, 2]])
    top, _ = select_tokens(local, summary, spatial, 0.25, 0.25)
    assert top.nonzero()[:, 1].tolist() == [1, 6, 7]


def test_released_spatial_scores_are_all_one_and_received_ones_are_not() -> None:
    model = llava(2)
    early = vision_weights(model, prompt(model)["pixel_values"])[0]
    assert (row_sums(early) - 1).abs().max() < 1e-6
    assert received(early, class_token=True).std() > 1e-3
    assert torch.equal(patch_scores(early, class_token=True), early[:, :, 0, 1:].sum(1))


def test_visual_heads_are_those_above_the_median_in_image_mass() -> None:
    scores = torch.zeros(1, 4, 1, 4)
    scores[0, :, 0, 0] = torch.tensor([3.0, 1.0, -1.0, 2.0])
    image = torch.tensor([True, False, False, False])[None, None, None]
    allowed = torch.ones(1, 1, 1, 4, dtype=torch.bool)
    assert visual_heads(scores, image, allowed)[0, :, 0].tolist() == [True, False, False, True]


def test_two_pictures_in_a_batch_keep_their_own_tokens() -> None:
    model = llava(4)
    one, two = prompt(model, (5, 6, 7), seed=0), prompt(model, (5, 6, 8), seed=1)
    both = {key: torch.cat([one[key], two[key]]) for key in one}
    with PAINT().attach(model), torch.no_grad():
        together = model(**both).logits
        torch.testing.assert_close(together[:1], model(**one).logits, atol=5e-5, rtol=0)
        torch.testing.assert_close(together[1:], model(**two).logits, atol=5e-5, rtol=0)


def test_models_that_merge_patches_are_refused() -> None:
    from transformers import AutoModelForImageTextToText

    from vlmtools.families.internvl import InternVl

    model = AutoModelForImageTextToText.from_config(InternVl().tiny_config())
    with pytest.raises(CannotAttach, match="one image token per patch"):
        PAINT().attach(model)


def test_the_default_lies_where_published_answers_are_known_to_run_in_circles() -> None:
    assert (PAINT().strength, PAINT().summary_strength, PAINT().local_ratio) == (0.7, 0.3, 0.25)
