"""Conditional cross-attention, HiCA-VQA and ITHP in a tiny model."""

from typing import Any

import pytest
import torch
from torch import Tensor

from vlmtools.adapters._tiny import llava
from vlmtools.adapters.conditional_cross_attention import ConditionalCrossAttention, attribute_triplet_loss
from vlmtools.adapters.hica_vqa import HicaVqa
from vlmtools.adapters.ithp import Ithp
from vlmtools.errors import BadInput, CannotAttach


def _host() -> tuple[Any, dict[str, Tensor]]:
    model, inputs = HicaVqa.tiny_host()
    return model.eval(), inputs


def _shaken(part: Any) -> Any:
    with torch.no_grad():
        for one in part.parameters():
            one.add_(torch.randn(one.shape, generator=torch.Generator().manual_seed(2)) * 0.2)
    return part


def test_an_attributes_embedding_has_length_one_and_differs_between_attributes() -> None:
    torch.manual_seed(0)
    reader, features = ConditionalCrossAttention(8, 6, n_conditions=3, n_heads=2), torch.randn(4, 9, 8)
    one, other = (reader.embed(features, condition) for condition in (0, 1))
    torch.testing.assert_close(one.norm(dim=-1), torch.ones(4))
    assert not torch.allclose(one, other)


def test_an_attribute_reads_patches_in_any_order() -> None:
    torch.manual_seed(0)
    reader, features = ConditionalCrossAttention(8, 6, n_conditions=3, n_heads=2), torch.randn(2, 9, 8)
    torch.testing.assert_close(reader(features), reader(features[:, torch.randperm(9)]))


def test_triplets_in_order_cost_nothing() -> None:
    near, far = torch.eye(2)[:1], -torch.eye(2)[:1]
    assert attribute_triplet_loss(near, near, far) == 0 < attribute_triplet_loss(near, far, near)


def test_heads_that_do_not_divide_are_refused() -> None:
    with pytest.raises(BadInput, match="heads divide"):
        ConditionalCrossAttention(9, 6, n_heads=2)


def test_the_level_changes_the_answer() -> None:
    model, inputs = _host()
    with HicaVqa(n_levels=2).attach(model) as part:
        _shaken(part)
        first = model(**inputs).logits
        part.level = 2
        assert not torch.allclose(model(**inputs).logits, first)


def test_the_picture_never_reads_the_answer_in_training() -> None:
    model, inputs = _host()
    labels = inputs["input_ids"].clone()
    labels[:, :-2] = -100
    other = {**inputs, "input_ids": inputs["input_ids"].clone()}
    other["input_ids"][:, -1] += 1
    n_same = inputs["input_ids"].shape[1] - 1
    with HicaVqa().attach(model) as part:
        _shaken(part)
        found = [model(**one, labels=labels).logits[:, :n_same] for one in (inputs, other)]
        assert torch.equal(*found)
        # without labels every word is a question, and the change is seen: the test can fail
        found = [model(**one).logits[:, :n_same] for one in (inputs, other)]
        assert not torch.equal(*found)


def test_closed_answers_have_scores_per_level() -> None:
    model, inputs = _host()
    with HicaVqa(n_answers=5).attach(model) as part:
        model(**inputs)
        assert part.answer_logits().shape == (1, 5)
    with pytest.raises(BadInput, match="n_answers"):
        HicaVqa().answer_logits()


def test_a_level_that_does_not_exist_is_refused() -> None:
    with pytest.raises(BadInput, match="level=4 of 3"):
        HicaVqa(level=4)


def test_codes_are_drawn_in_training_and_repeat_in_evaluation() -> None:
    model, inputs = _host()
    with Ithp(d_first=8, d_second=4, hidden=16).attach(model) as part:
        _shaken(part)
        assert torch.equal(model(**inputs).logits, model(**inputs).logits)
        part.train()
        assert not torch.equal(model(**inputs).logits, model(**inputs).logits)
        assert part.aux_losses()["bottleneck"] > 0


def test_a_prompt_without_picture_has_no_bottleneck_loss() -> None:
    model, inputs = _host()
    text = {"input_ids": inputs["input_ids"][:, -3:], "attention_mask": inputs["attention_mask"][:, -3:]}
    with Ithp(d_first=8, d_second=4, hidden=16).attach(model) as part:
        model(**text)
        assert not part.aux_losses()


def test_a_layer_that_does_not_exist_is_refused() -> None:
    model, _ = _host()
    with pytest.raises(CannotAttach, match="at=9"):
        Ithp(at=9).attach(model)


def test_a_connector_of_another_shape_is_refused_in_plain_words() -> None:
    model, inputs = llava("mllama")
    with HicaVqa().attach(model), pytest.raises(BadInput, match="Use another family"):
        model(**inputs)
