"""VAF against a decoder written out in full."""

import pytest
import torch
from straight import IMAGE, continue_greedily, patched, question, tiny_llava
from torch import Tensor

from vlmtools.families._prompt import Prompt
from vlmtools.patches.vaf import VAF, before_image, reweigh


def _by_hand(layer: int, values: Tensor, _raw: Tensor) -> Tensor:
    if layer not in (2, 3):
        return values
    values = values.clone()
    values[:, IMAGE.stop :, IMAGE] *= 1.15
    values[:, IMAGE.stop :, : IMAGE.start] *= 0.95
    return values


@pytest.mark.parametrize("n_kv_heads", [8, 4])
def test_tokens_and_logits_equal_a_decoder_that_computes_everything(n_kv_heads: int) -> None:
    model, batch = tiny_llava(n_kv_heads), question()
    plain = patched(model, batch, 20)
    expected = continue_greedily(model, batch, 20, scores=_by_hand)
    with VAF().attach(model) as on:  # layers 9 to 14 of 32 are 2 and 3 of 8
        found = patched(model, batch, 20)
        assert [name.split(".")[3] for name in on.status().modules] == ["2", "3"]
    assert found[0] == expected[0]
    torch.testing.assert_close(found[1], expected[1], atol=5e-5, rtol=0)
    assert not torch.allclose(found[1][0], plain[1][0], atol=1e-3), "the method changed nothing"


def test_a_negative_image_score_gets_smaller_as_released() -> None:
    scores = torch.tensor([2.0, -2.0, 2.0, 2.0]).view(1, 1, 1, 4)
    image = torch.tensor([False, True, True, False]).view(1, 1, 1, 4)
    before = torch.tensor([True, False, False, False]).view(1, 1, 1, 4)
    found = reweigh(scores, image, before, 1.5, 0.5)
    assert found.flatten().tolist() == [1.0, -3.0, 3.0, 2.0]


def test_nothing_lies_before_the_picture_of_a_prompt_without_one() -> None:
    image = torch.tensor([[False, False, True, False], [False] * 4])
    prompt = Prompt({}, image, torch.ones_like(image))
    assert before_image(prompt).tolist() == [[True, True, False, False], [False] * 4]
