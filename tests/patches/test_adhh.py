"""AD-HH against a decoder written out in full."""

import math

import pytest
import torch
from straight import IMAGE, LENGTH, Change, continue_greedily, patched, question, tiny_llava
from torch import Tensor

from vlmtools.errors import BadInput, CannotAttach
from vlmtools.patches.adhh import ADHH, ignore_text

HEADS = {2: (1, 5), 6: (0, 3, 7)}


def _by_hand(threshold: float, count: list[int]) -> Change:
    def weights(layer: int, values: Tensor, _raw: Tensor) -> Tensor:
        values = values.clone()
        for head in HEADS.get(layer, ()):
            for row in range(LENGTH - 1, values.shape[1]):
                if values[head, row, IMAGE.stop :].sum() >= threshold:
                    values[head, row, IMAGE.stop :] = 0
                    count[0] += 1
        return values

    return weights


@pytest.mark.parametrize("n_kv_heads", [8, 4])
def test_tokens_and_logits_equal_a_decoder_that_computes_everything(n_kv_heads: int) -> None:
    model, batch, count = tiny_llava(n_kv_heads), question(), [0]
    expected = continue_greedily(model, batch, 20, weights=_by_hand(0.4, count))
    with ADHH(threshold=0.4, heads=HEADS).attach(model):
        found = patched(model, batch, 20)
    assert count[0] > 0, "no head gave the text that much"
    assert found[0] == expected[0]
    torch.testing.assert_close(found[1], expected[1], atol=5e-5, rtol=0)


def test_heads_silenced_always_equal_a_projection_without_their_columns() -> None:
    model, batch = tiny_llava(4), question()
    before = {
        layer: model.model.language_model.layers[layer].self_attn.o_proj.weight.clone() for layer in HEADS
    }
    with ADHH(heads=HEADS, how="always").attach(model):
        found = patched(model, batch, 6)
    with torch.no_grad():
        for layer, heads in HEADS.items():
            weight = model.model.language_model.layers[layer].self_attn.o_proj.weight
            for head in heads:
                weight[:, head * 8 : head * 8 + 8] = 0
        expected = patched(model, batch, 6)
        for layer, weight in before.items():
            model.model.language_model.layers[layer].self_attn.o_proj.weight.copy_(weight)
    assert found[0] == expected[0]
    torch.testing.assert_close(found[1], expected[1], atol=1e-5, rtol=0)


def test_a_listed_head_just_at_the_threshold_stops_reading_text_and_is_not_scaled_up() -> None:
    weights = torch.tensor([[0.5, 0.25, 0.25], [0.5, 0.25, 0.25], [0.75, 0.0, 0.25]])[None, :, None]
    text = torch.tensor([False, True, True]).view(1, 1, 1, 3)
    found = ignore_text(weights, text, torch.tensor([True, False, True]), 0.5)
    assert found[0, :, 0].tolist() == [[0.5, 0.0, 0.0], [0.5, 0.25, 0.25], [0.75, 0.0, 0.25]]


def test_another_sample_of_the_batch_does_not_count() -> None:
    weights = torch.tensor([[0.7, 0.3], [0.7, 0.3]]).view(2, 1, 1, 2)
    text = torch.tensor([False, True]).view(1, 1, 1, 2)
    assert torch.equal(ignore_text(weights, text, torch.tensor([True]), 0.4), weights)


def test_an_infinite_threshold_leaves_the_logits_bit_identical() -> None:
    model, batch = tiny_llava(4), question()
    before = patched(model, batch, 3)[1]
    with ADHH(threshold=math.inf, heads=HEADS).attach(model):
        assert torch.equal(patched(model, batch, 3)[1], before)


def test_a_model_without_known_heads_is_refused_by_name_of_those_that_have_them() -> None:
    with pytest.raises(CannotAttach, match="llava 32×32"):
        ADHH().attach(tiny_llava(4))


@pytest.mark.parametrize("heads", [{8: (0,)}, {0: (8,)}])
def test_a_head_that_does_not_exist_is_an_error(heads: dict[int, tuple[int, ...]]) -> None:
    with pytest.raises(BadInput, match="0"):
        ADHH(heads=heads).attach(tiny_llava(4))
