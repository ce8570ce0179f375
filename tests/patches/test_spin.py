"""SPIN against a decoder written out in full."""

import pytest
import torch
from straight import IMAGE, LENGTH, Change, continue_greedily, patched, question, tiny_llava
from torch import Tensor

from vlmtools.errors import BadInput
from vlmtools.patches.spin import SPIN, attentive_heads


def _by_hand(first_row: int, n_kept: int) -> Change:
    def heads(_layer: int, out: Tensor, raw: Tensor) -> Tensor:
        out = out.clone()
        for row in range(first_row, out.shape[1]):
            sums = raw[:, row, IMAGE].sum(-1)
            gates = (sums / sums.std()).softmax(0)  # as released
            for head in gates.argsort(descending=True)[n_kept:]:
                out[head, row] *= 0.08
        return out

    return heads


@pytest.mark.parametrize(("rows", "first"), [("answer", LENGTH - 1), ("after_image", IMAGE.stop)])
def test_tokens_and_logits_equal_a_decoder_that_computes_everything(rows: str, first: int) -> None:
    model, batch = tiny_llava(4), question()
    plain = patched(model, batch, 20)
    expected = continue_greedily(model, batch, 20, heads=_by_hand(first, 5))  # int(.7 × 8) heads stay
    with SPIN(keep=0.7, rows=rows).attach(model):  # type: ignore[arg-type]
        found = patched(model, batch, 20)
    assert found[0] == expected[0]
    torch.testing.assert_close(found[1], expected[1], atol=5e-5, rtol=0)
    assert not torch.allclose(found[1][0], plain[1][0], atol=1e-2), "the method changed nothing"


def test_the_number_of_kept_heads_is_rounded_down() -> None:
    scores = torch.arange(32.0).view(1, 32, 1, 1)
    kept = attentive_heads(scores, torch.ones(1, 1, 1, 1, dtype=torch.bool), 0.95)
    assert kept.flatten().tolist() == [False] * 2 + [True] * 30


def test_keeping_every_head_leaves_the_logits_bit_identical() -> None:
    model, batch = tiny_llava(4), question()
    before = patched(model, batch, 3)[1]
    with SPIN(keep=1.0).attach(model):
        assert torch.equal(patched(model, batch, 3)[1], before)


def test_more_than_every_head_is_an_error() -> None:
    with pytest.raises(BadInput, match="share"):
        SPIN(keep=95).attach(tiny_llava(4))
