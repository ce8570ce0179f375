"""Parts as tuners of PEFT; skipped where PEFT is not installed."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from vlmtools import adapters, registry
from vlmtools.adapters.base import Adapter, Part, as_peft, register_peft
from vlmtools.errors import BadInput, CannotAttach

peft = pytest.importorskip("peft")
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
every = pytest.mark.parametrize("name", registry.names(adapters))


def _made(name: str) -> tuple[Any, dict[str, torch.Tensor], Part]:
    kind = registry.load(adapters, name, Part)  # type: ignore[type-abstract]
    model, inputs = kind.tiny_host()
    return model.eval(), inputs, kind.tiny()


def _shaken(model: nn.Module) -> None:
    torch.manual_seed(3)
    with torch.no_grad():
        for one in (p for p in model.parameters() if p.requires_grad):
            one.add_(torch.randn_like(one) * 0.1)


def _answer(model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    torch.manual_seed(0)
    found: torch.Tensor = next(
        one for one in model(**inputs).values() if isinstance(one, torch.Tensor) and one.is_floating_point()
    )
    return found


@every
def test_what_peft_saves_loads_to_the_same_bits_and_comes_off_exactly(name: str, tmp_path: Path) -> None:
    model, inputs, part = _made(name)
    before, weights = _answer(model, inputs), {k: v.clone() for k, v in model.state_dict().items()}
    tuned = as_peft(part, model)
    own = sum(one.numel() for one in model.parameters() if one.requires_grad)
    assert tuned.get_nb_trainable_parameters()[0] == own > 0
    _shaken(model)
    wanted = _answer(tuned, inputs)
    assert not torch.equal(wanted, before)
    with tuned.disable_adapter():
        assert torch.equal(_answer(tuned, inputs), before)
    assert torch.equal(_answer(tuned, inputs), wanted)
    tuned.save_pretrained(str(tmp_path))
    assert {"adapter_model.safetensors", "adapter_config.json"} <= {one.name for one in tmp_path.iterdir()}
    assert tuned.unload() is model and torch.equal(_answer(model, inputs), before)
    del model.peft_config
    again = peft.PeftModel.from_pretrained(model, str(tmp_path), is_trainable=True)
    assert torch.equal(_answer(again, inputs), wanted)
    again.unload()
    now = model.state_dict()
    assert now.keys() == weights.keys() and all(torch.equal(now[k], one) for k, one in weights.items())


def test_a_loaded_part_trains_on_only_if_asked_to(tmp_path: Path) -> None:
    model, inputs, part = _made("moh")
    tuned = as_peft(part, model)
    tuned.save_pretrained(str(tmp_path))
    tuned.unload()
    del model.peft_config
    frozen = peft.PeftModel.from_pretrained(model, str(tmp_path))
    assert not any(one.requires_grad for one in model.parameters())
    frozen.unload()
    del model.peft_config
    again = peft.PeftModel.from_pretrained(model, str(tmp_path), is_trainable=True)
    again(**inputs).logits.square().mean().backward()
    grads = {name.split(".")[0] for name, one in model.named_parameters() if one.grad is not None}
    assert grads == {"vlmtools_moh"}


def test_a_second_part_and_merging_are_refused() -> None:
    model, _, part = _made("moh")
    assert isinstance(part, Adapter)
    tuned = as_peft(part, model)
    with pytest.raises(BadInput, match="one part to a PeftModel"):
        tuned.add_adapter("second", tuned.peft_config["default"])
    with pytest.raises(BadInput, match="unload"):
        tuned.merge_and_unload()


def test_a_model_without_a_place_for_it_is_refused() -> None:
    with pytest.raises(CannotAttach):
        as_peft(_made("moh")[2], nn.Linear(2, 2))


def test_registering_twice_changes_nothing() -> None:
    register_peft()
    register_peft()
    assert [one for one in peft.PeftType if one == "VLMTOOLS"] == [peft.PeftType("VLMTOOLS")]
