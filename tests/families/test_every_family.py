"""Every family file: its tiny model runs, its parts are found, and it says what probing cannot."""

import re

import pytest
import torch
from matrix import FAMILIES, family, inputs, logits, tiny
from places import ROOT

from vlmtools import registry
from vlmtools.families._counterfactual import blank_image, positions, without_image
from vlmtools.families._probe import anatomy, family_of
from vlmtools.families._prompt import read_prompt

every = pytest.mark.parametrize("name", FAMILIES)
PAIR = ((5, 6, 7), (8, 9))


@every
def test_the_file_is_named_after_the_model_type(name: str) -> None:
    config = family(name).tiny_config()
    assert config.model_type.replace("-", "_") == name == family(name).model_type
    assert type(family_of(config)) is type(family(name))


@every
def test_the_tiny_model_is_tiny_and_sees_its_picture(name: str) -> None:
    model = tiny(name)
    assert sum(one.numel() for one in model.parameters()) < 150_000
    assert not torch.equal(logits(model, inputs(name, seed=0)), logits(model, inputs(name, seed=1)))


@every
def test_decoder_layers_heads_and_projections_are_found(name: str) -> None:
    model = tiny(name)
    parts, text = anatomy(model), model.config.get_text_config(decoder=True)
    assert len(parts.layers) == text.num_hidden_layers
    assert [one.layer for one in parts.attention] == [0, 1, 2]
    for one in parts.attention:
        assert (one.n_heads, one.n_kv_heads) == (text.num_attention_heads, text.num_key_value_heads)
        assert one.o_proj.in_features == one.n_heads * one.head_dim
        assert model.get_submodule(one.name) is one.module
    assert len(parts.vision) >= 2
    assert not {one.name for one in parts.vision} & {one.name for one in parts.attention}
    assert parts.image_token_id == 127


@every
def test_the_head_outputs_are_what_the_projection_receives(name: str) -> None:
    model = tiny(name)
    one = anatomy(model).attention[1]
    seen = []
    hook = one.o_proj.register_forward_pre_hook(lambda _, args: seen.append(args[0].shape))
    logits(model, inputs(name))
    hook.remove()
    assert [tuple(shape) for shape in seen] == [
        (1, inputs(name)["input_ids"].shape[1], one.n_heads * one.head_dim)
    ]


@every
def test_picture_and_padding_are_found_in_the_prompt(name: str) -> None:
    batch, parts = inputs(name, PAIR), anatomy(tiny(name))
    asked = read_prompt(batch, parts)
    assert asked is not None
    in_text = family(name).image_in_text
    n_image = family(name).tiny_image(family(name).tiny_config()).tokens.count(127) if in_text else 0
    assert asked.image.sum(-1).tolist() == [n_image, n_image]
    assert asked.real.sum(-1).tolist() == batch["attention_mask"].sum(-1).tolist()
    assert asked.last.tolist() == [batch["input_ids"].shape[1] - 1] * 2
    assert asked.has_image is in_text


@every
def test_without_picture_the_same_text_is_left(name: str) -> None:
    model, batch = tiny(name), inputs(name, PAIR)
    parts = anatomy(model)
    asked = read_prompt(batch, parts)
    assert asked is not None
    text = without_image(asked, parts)
    assert text["input_ids"].tolist() == [[1, 9, 5, 6, 7], [0, 1, 9, 8, 9]]
    assert text["attention_mask"].tolist() == [[1, 1, 1, 1, 1], [0, 1, 1, 1, 1]]
    assert text["position_ids"].tolist() == [[0, 1, 2, 3, 4], [0, 0, 1, 2, 3]]
    with torch.no_grad():
        both = family(name).text_model(model)(**text, use_cache=False).logits[:, -1]
        alone = {key: value[1:, 1:] for key, value in text.items()}
        one = family(name).text_model(model)(**alone, use_cache=False).logits[:, -1]
    torch.testing.assert_close(both[1:], one, atol=1e-4, rtol=1e-4)


@every
def test_a_blank_picture_hides_which_picture_it_was(name: str) -> None:
    model = tiny(name)
    blank = []
    for seed in (0, 1):
        asked = read_prompt(inputs(name, seed=seed), anatomy(model))
        assert asked is not None
        blank.append(logits(model, blank_image(asked, anatomy(model))))
    assert torch.equal(blank[0], blank[1])


def test_positions_count_tokens_and_skip_padding() -> None:
    real = torch.tensor([[0, 0, 1, 1], [1, 0, 1, 1]]).bool()
    assert positions(real).tolist() == [[0, 0, 0, 1], [0, 0, 1, 2]]


@every
def test_family_files_know_no_benchmark(name: str) -> None:
    text = (ROOT / "vlmtools" / "families" / f"{name}.py").read_text(encoding="utf-8").lower()
    known = {"pope", "chair", "amber", "mme", "hallusion", "mmhal", *registry.names("vlmtools.benchmarks")}
    assert not re.search(rf"\b({'|'.join(sorted(known))})\b", text)
