"""HGAI against a decoder written out in full."""

import pytest
import torch
from straight import IMAGE, LENGTH, Change, continue_greedily, patched, question, tiny_llava
from torch import Tensor

from vlmtools.errors import BadInput
from vlmtools.patches.hgai import HGAI, guide, looking_heads


def _by_hand(beta: float, layers: range) -> dict[str, Change]:
    def scores(layer: int, values: Tensor, _raw: Tensor) -> Tensor:
        if layer not in layers:
            return values
        values = values.clone()
        for row in range(LENGTH - 1, values.shape[1]):
            sizes = values[:, row, IMAGE].abs().mean(0)
            values[:, row, IMAGE] = values[:, row, IMAGE] + beta * sizes
        return values

    return {"scores": scores}


@pytest.mark.parametrize("n_kv_heads", [8, 4])
def test_tokens_and_logits_equal_a_decoder_that_computes_everything(n_kv_heads: int) -> None:
    model, batch = tiny_llava(n_kv_heads), question()
    plain = patched(model, batch, 20)
    expected = continue_greedily(model, batch, 20, **_by_hand(0.5, range(1, 5)))
    with HGAI(layers=(1, 2, 3, 4)).attach(model):
        found = patched(model, batch, 20)
    assert found[0] == expected[0]
    torch.testing.assert_close(found[1], expected[1], atol=5e-5, rtol=0)
    assert not torch.allclose(found[1][0], plain[1][0], atol=1e-2), "the method changed nothing"


def test_the_default_layers_of_a_decoder_of_32_are_the_released_ones() -> None:
    model = tiny_llava(4, n_layers=32)
    with HGAI().attach(model) as on:
        modules, notes = on.status().modules, on.status().notes
    assert [int(name.split(".")[3]) for name in modules] == list(range(5, 18))
    assert not notes


def test_layers_scaled_to_another_depth_are_said_to_be_unmeasured() -> None:
    with HGAI().attach(tiny_llava(4)) as on:
        assert "no measurement" in on.status().notes[0]


def test_a_positive_and_a_negative_score_of_two_heads_both_rise_by_the_mean_size() -> None:
    scores = torch.tensor([2.0, -4.0]).view(1, 2, 1, 1).expand(1, 2, 1, 2).clone()
    image = torch.tensor([True, False]).view(1, 1, 1, 2)
    every = torch.ones(1, 2, 1, 1, dtype=torch.bool)
    raised = guide(scores, image, every, 0.5)
    assert raised[0, :, 0, 0].tolist() == [2.0 + 1.5, -4.0 + 1.5]
    assert raised[0, :, 0, 1].tolist() == [2.0, -4.0]


def test_only_the_chosen_heads_guide() -> None:
    scores = torch.tensor([2.0, -4.0]).view(1, 2, 1, 1)
    image, first = torch.ones(1, 1, 1, 1, dtype=torch.bool), torch.tensor([True, False]).view(1, 2, 1, 1)
    assert guide(scores, image, first, 0.5).flatten().tolist() == [3.0, -3.0]


def test_heads_that_see_the_picture_most_are_found_behind_the_mask() -> None:
    scores = torch.tensor([[[3.0, 0.0, 9.0]], [[0.0, 3.0, 9.0]], [[1.0, 1.0, 9.0]]])[None]
    image = torch.tensor([True, False, False]).view(1, 1, 1, 3)
    allowed = torch.tensor([True, True, False]).view(1, 1, 1, 3)
    assert looking_heads(scores, image, allowed, 1).flatten().tolist() == [True, False, False]


def test_more_guiding_heads_than_there_are_is_an_error() -> None:
    with pytest.raises(BadInput, match="8 heads"):
        HGAI(n_heads=9).attach(tiny_llava(4))
