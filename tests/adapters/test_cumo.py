from pathlib import Path

import pytest
import torch
from golden_files import close, golden, read
from golden_tensors import known

from vlmtools.adapters._tiny import llava
from vlmtools.adapters.cumo import Cumo
from vlmtools.adapters.mocha import Mocha
from vlmtools.errors import BadInput, CannotAttach


@pytest.mark.golden
@pytest.mark.parametrize("path", golden("cumo/*.safetensors"))
def test_a_tower_with_experts_gives_the_authors_states_and_losses(path: Path) -> None:
    from transformers import CLIPVisionConfig, CLIPVisionModel

    case = read(path)
    c = case.config
    known(
        c,
        "heads hidden_act hidden_size image_size intermediate_size layers num_experts num_selected patch_size",
    )
    tower = CLIPVisionModel(
        CLIPVisionConfig(
            hidden_size=c["hidden_size"], intermediate_size=c["intermediate_size"], num_hidden_layers=c["layers"],
            num_attention_heads=c["heads"], image_size=c["image_size"], patch_size=c["patch_size"],
            hidden_act=c["hidden_act"],
        )
    ).eval()  # fmt: skip
    plain = {k: v for k, v in case.state.items() if ".experts." not in k and ".gate." not in k}
    ours = {name.removeprefix("vision_model."): name for name in tower.state_dict()}
    assert not tower.load_state_dict({ours[k]: v for k, v in plain.items()}, strict=False).unexpected_keys
    with Cumo(n_experts=c["num_experts"], n_chosen=c["num_selected"]).attach(tower) as cumo:
        for i, layer in enumerate(cumo.layers.values()):
            layer.load_official(case.state, f"encoder.layers.{i}.")
        states = tower(case["pixel_values"], output_hidden_states=True).hidden_states
    close(states[-2], case["hidden"], "hidden")
    losses = cumo.aux_losses()
    close(losses["balance"], case["balance_loss"], "balance")
    close(losses["z"], case["router_z_loss"], "z")


def test_losses_are_averaged_over_layers_and_weighted() -> None:
    model, inputs = llava()
    with Cumo().attach(model.train()) as cumo:
        model(**inputs)
        each = cumo.aux_losses()
        assert len(cumo.losses.values["balance"]) == len(cumo.sizes)
        torch.testing.assert_close(cumo.aux_loss(), 0.1 * each["balance"] + 0.01 * each["z"])


def test_an_upcycled_connector_begins_as_the_hosts_own() -> None:
    model, inputs = llava()
    before = model(**inputs).logits
    with Mocha(upcycle=True).attach(model):
        torch.testing.assert_close(model(**inputs).logits, before, rtol=0, atol=1e-5)
    with Mocha().attach(model):
        assert not torch.allclose(model(**inputs).logits, before, atol=1e-4)


def test_mlps_of_another_form_are_refused() -> None:
    model, _ = llava("qwen2_5_vl")
    with pytest.raises(CannotAttach, match="two projections"):
        Cumo().attach(model)
    with pytest.raises(BadInput, match="n_chosen=3"):
        Cumo(n_experts=2, n_chosen=3)
