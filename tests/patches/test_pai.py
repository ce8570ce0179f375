"""PAI against a full eager decoder written out by hand."""

import pytest
import torch
from plain import llava, prompt, run
from torch import Tensor

from vlmtools.errors import CannotAttach
from vlmtools.families._call import Call
from vlmtools.families._rows import score_rows
from vlmtools.patches._stream import contrast
from vlmtools.patches.pai import PAI, boost


def test_a_boost_raises_positive_and_negative_scores() -> None:
    scores = torch.tensor([2.0, -2.0, 2.0])[None, None, None]
    image = torch.tensor([True, True, False])[None, None, None]
    torch.testing.assert_close(boost(scores, image, 0.7), torch.tensor([3.4, -0.6, 2.0])[None, None, None])


@pytest.mark.parametrize("n_kv_heads", [8, 4], ids=["one-group-per-head", "grouped"])
@pytest.mark.parametrize("boost_first", [True, False])
def test_twenty_steps_are_those_of_a_full_eager_decoder(n_kv_heads: int, boost_first: bool) -> None:
    model = llava(6, 8, n_kv_heads)
    inputs = prompt(model)
    ids, first = inputs["input_ids"], inputs["input_ids"].shape[1] - int(boost_first)
    image = ids[0] == model.config.image_token_id

    def raised(layer: int, w: Tensor) -> Tensor:
        if layer < 2:
            return w
        keys = torch.nn.functional.pad(image, (0, w.shape[-1] - len(image)))
        rows = torch.arange(w.shape[1]) >= first
        return torch.where(rows[:, None] & keys, w + 0.5 * w.abs(), w)

    expected = []
    for _ in range(20):
        expected.append(run(model, ids, inputs["pixel_values"], raised)[-1])
        ids = torch.cat([ids, expected[-1].argmax(-1)[None, None]], 1)
    with PAI(strength=0.5, boost_first=boost_first).attach(model):
        options = {"do_sample": False, "output_logits": True, "return_dict_in_generate": True}
        out = model.generate(**inputs, max_new_tokens=20, **options)
    assert out.sequences.tolist() == ids.tolist()
    torch.testing.assert_close(torch.cat(out.logits), torch.stack(expected), atol=5e-5, rtol=0)


def test_the_contrast_is_that_of_two_streams_without_cache() -> None:
    model = llava(4)
    inputs = prompt(model)
    ids = inputs["input_ids"]
    for _ in range(10):
        text = ids[ids != model.config.image_token_id][None]
        with_image = run(model, ids, inputs["pixel_values"])[-1].log_softmax(-1)
        without = run(model, text, None)[-1].log_softmax(-1)
        moved = 1.5 * (with_image - without) + without
        moved[with_image < with_image.max() + torch.tensor(0.1).log()] = -torch.inf
        ids = torch.cat([ids, moved.argmax(-1)[None, None]], 1)
    with PAI(strength=0.0, contrast=1.5).attach(model):
        assert model.generate(**inputs, max_new_tokens=10, do_sample=False).tolist() == ids.tolist()


def test_a_contrast_of_one_keeps_the_order_of_likely_tokens_and_drops_the_rest() -> None:
    scores, other = torch.randn(2, 50).mul(3), torch.randn(2, 50)
    found = contrast(scores, other, 1.0, 0.1)
    likely = scores.softmax(-1) >= 0.1 * scores.softmax(-1).amax(-1, keepdim=True)
    assert torch.equal(found.isfinite(), likely)
    torch.testing.assert_close(found[likely], scores.log_softmax(-1)[likely])


def test_mllama_is_refused_with_the_reason() -> None:
    from transformers import AutoModelForImageTextToText

    from vlmtools.families.mllama import Mllama

    model = AutoModelForImageTextToText.from_config(Mllama().tiny_config())
    with pytest.raises(CannotAttach, match="cross-attention layers of its own"):
        PAI().attach(model)


def test_zero_strength_recomputes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model = llava(3)
    calls: list[Call] = []

    def counted(call: Call, start: int, stop: int) -> Tensor:
        calls.append(call)
        return score_rows(call, start, stop)

    monkeypatch.setattr("vlmtools.families._rows.score_rows", counted)
    with PAI(strength=0.0).attach(model), torch.no_grad():
        model(**prompt(model))
    assert not calls
    with PAI(strength=0.1).attach(model), torch.no_grad():
        model(**prompt(model))
    assert len(calls) == 1
