"""VCD: the second stream is exact on every family, and the contrast equals one computed without any cache."""

import math
from typing import Any

import pytest
import torch
from matrix import FAMILIES, PAIR, answer, inputs, tiny
from straight import patched, question, tiny_llava
from torch import Tensor

from vlmtools.errors import BadInput
from vlmtools.patches._contrast import PictureStream
from vlmtools.patches._stream import Contrast
from vlmtools.patches.vcd import VCD, add_noise, noisy_inputs, share_of_picture, visual_contrast


class _Watching(VCD):
    """The stream reads the clear picture; scores of both streams are written down."""

    def hooks(self, live: Any) -> Any:
        def note(z: Tensor, other: Tensor) -> Tensor:
            seen.append((z.log_softmax(-1), other.log_softmax(-1)))
            return z

        seen: list[tuple[Tensor, Tensor]] = []
        object.__setattr__(self, "seen", seen)
        yield live.session.add_processor(
            lambda prompt: Contrast(PictureStream(live, prompt, lambda same: same), note)
        )


@pytest.mark.parametrize("options", [{}, {"num_beams": 3}], ids=["greedy", "beams"])
@pytest.mark.parametrize("kind", FAMILIES)
def test_a_second_stream_with_the_same_picture_predicts_the_same(kind: str, options: dict[str, int]) -> None:
    model, watching = tiny(kind), _Watching()
    with watching.attach(model):
        answer(model, inputs(kind, PAIR), max_new_tokens=5, **options)
    seen: list[tuple[Tensor, Tensor]] = watching.seen  # type: ignore[attr-defined]
    assert len(seen) == 5
    for ours, other in seen:
        torch.testing.assert_close(ours, other, atol=2e-3, rtol=1e-3)


def test_tokens_equal_a_contrast_computed_without_caches() -> None:
    model, batch, tokens = tiny_llava(4), question(), []
    noisy = {**batch, "pixel_values": add_noise(batch["pixel_values"], 500, 0)}
    ids = batch["input_ids"]
    with torch.no_grad():
        for _ in range(12):
            given = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
            clear, other = (
                model(**given, pixel_values=one["pixel_values"]).logits[0, -1] for one in (batch, noisy)
            )
            allowed = clear.softmax(-1) >= 0.1 * clear.softmax(-1).max()
            tokens.append(int((2 * clear - other).masked_fill(~allowed, float("-inf")).argmax()))
            ids = torch.cat([ids, torch.tensor([[tokens[-1]]])], 1)
    with VCD().attach(model):
        found = patched(model, batch, 12)[0]
    assert found == tokens
    assert found != patched(model, batch, 12)[0], "the contrast changed nothing"


def test_the_contrast_keeps_likely_tokens_and_gives_probabilities() -> None:
    scores, noisy = torch.tensor([[2.0, 1.5, -5.0]]), torch.tensor([[3.0, 0.0, -9.0]])
    found = visual_contrast(scores, noisy, 1.0, 0.1)
    expected = torch.tensor([2 * 2.0 - 3.0, 2 * 1.5]).log_softmax(-1)
    torch.testing.assert_close(found[0, :2], expected)
    assert found[0, 2] == float("-inf")


def test_the_noise_schedule_runs_from_almost_nothing_to_almost_everything() -> None:
    assert share_of_picture(0) == pytest.approx(1.0, abs=1e-4)
    # the sum of the schedule is a difference of softplus: ln 2 of 12 up to the middle, 6 of 12 to the end
    for step, area in ((500, math.log(2)), (999, 6.0)):
        lost = 0.00499 * 1000 * area / 12 + 1e-5 * step
        assert share_of_picture(step) == pytest.approx(math.exp(-lost / 2), rel=4e-3)


def test_the_noise_has_the_variance_of_its_step_and_repeats() -> None:
    pixels = torch.zeros(3, 64, 64)
    noisy = add_noise(pixels, 500, 1)
    assert float(noisy.var()) == pytest.approx(1 - share_of_picture(500) ** 2, rel=0.05)
    assert torch.equal(noisy, add_noise(pixels, 500, 1))
    assert not torch.equal(noisy, add_noise(pixels, 500, 2))


def test_a_picture_gets_the_same_noise_in_a_batch_as_alone_also_where_patches_lie_end_to_end() -> None:
    first, second = inputs("qwen2_5_vl"), inputs("qwen2_5_vl", seed=1)
    both = {
        "pixel_values": torch.cat([first["pixel_values"], second["pixel_values"]]),
        "image_grid_thw": torch.cat([first["image_grid_thw"], second["image_grid_thw"]]),
    }
    together = noisy_inputs(both, VCD())["pixel_values"]
    alone = torch.cat([noisy_inputs(one, VCD())["pixel_values"] for one in (first, second)])
    assert torch.equal(together, alone)
    patches = noisy_inputs({**first, "pixel_values": torch.zeros_like(first["pixel_values"])}, VCD())
    assert not torch.equal(patches["pixel_values"][0], patches["pixel_values"][1]), (
        "patches share their noise"
    )


def test_a_prompt_without_picture_is_answered_as_without_the_method() -> None:
    model = tiny("llava")
    batch = {"input_ids": torch.tensor([[1, 5, 6, 7]]), "attention_mask": torch.ones(1, 4, dtype=torch.long)}
    before = answer(model, batch)
    with VCD().attach(model):
        assert answer(model, batch) == before


@pytest.mark.parametrize("wrong", [{"noise_step": 1000}, {"cutoff": 0.0}])
def test_settings_out_of_range_are_errors(wrong: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        VCD(**wrong).attach(tiny("llava"))
