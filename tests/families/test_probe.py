"""Models nobody described: found by looking, or refused with a report."""

from typing import Any

import pytest
import torch
from matrix import logits, tiny
from torch import nn

from vlmtools.errors import CannotAttach
from vlmtools.families._probe import anatomy, bare, image_token
from vlmtools.patches.vhr import VHR


def test_a_family_without_a_file_is_found_by_looking() -> None:
    from transformers import AutoModelForImageTextToText, VipLlavaConfig

    from vlmtools.families.base import tiny_text, tiny_vision

    config = VipLlavaConfig(
        vision_config=tiny_vision("clip_vision_model", projection_dim=32, num_hidden_layers=12),
        text_config=tiny_text("llama"), image_token_index=127, image_seq_length=9,
        vision_feature_layers=[-2, -5, -8, -11, 6],
    )  # fmt: skip
    model = AutoModelForImageTextToText.from_config(config).eval()
    parts = anatomy(model)
    assert parts.family is None
    assert [one.layer for one in parts.attention] == [0, 1, 2]
    batch = {"input_ids": torch.tensor([[1, *[127] * 9, 5, 6]]), "pixel_values": torch.randn(1, 3, 12, 12)}
    before = logits(model, batch)
    with VHR().attach(model):
        assert not torch.equal(logits(model, batch), before)
    assert torch.equal(logits(model, batch), before)


def test_a_text_model_has_attention_and_no_picture() -> None:
    from transformers import AutoModelForCausalLM, LlamaConfig

    from vlmtools.families.base import tiny_text

    settings = {key: value for key, value in tiny_text("llama").items() if key != "model_type"}
    parts = anatomy(AutoModelForCausalLM.from_config(LlamaConfig(**settings)))
    assert (len(parts.attention), parts.vision, parts.image_token_id) == (3, (), None)


class _Strange(nn.Module):
    """No decoder, no attention."""

    class Config:
        model_type = "strange-vl"

    def __init__(self) -> None:
        super().__init__()
        self.config = self.Config()
        self.layers = nn.ModuleList([nn.Linear(4, 4)])

    def get_decoder(self) -> Any:
        return self

    def generate(self) -> None: ...


def test_what_cannot_be_probed_is_reported_with_the_file_to_add() -> None:
    with pytest.raises(CannotAttach) as caught:
        anatomy(_Strange())
    said = str(caught.value)
    assert "strange-vl" in said
    assert "layers with attention: 0" in said
    assert "Add vlmtools/families/strange_vl.py" in said
    assert "llava" in said


def test_the_image_token_has_two_names() -> None:
    class Config:
        image_token_index = 5

    assert image_token(Config()) == 5
    assert image_token(object()) is None


def test_wrappers_are_looked_through() -> None:
    class Peft(nn.Module):
        def __init__(self, inner: Any) -> None:
            super().__init__()
            self.inner = inner

        def get_base_model(self) -> Any:
            return self.inner

    assert bare(Peft(tiny("llava"))) is tiny("llava")
