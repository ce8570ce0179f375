"""Every connector and adapter × its tiny host: what each must do, whatever it computes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from parts import PARTS, answer, bits, checkpoint, every, hooks, host, kind, made, shake, trained
from torch import Tensor, nn

from vlmtools.adapters.base import Adapter, Connector, Part, load
from vlmtools.errors import BadInput


@every
def test_detach_restores_outputs_weights_modules_hooks_and_flags(name: str) -> None:
    model, inputs = host(name)
    next(model.parameters()).requires_grad_(False)
    modules, flags = dict(model.named_modules()), trained(model)
    before, weights, n_hooks = answer(model, inputs), bits(model), hooks(model)
    with made(name).attach(model) as part:
        shake(part, model)
        answer(model, inputs)
    assert torch.equal(answer(model, inputs), before)
    assert dict(model.named_modules()) == modules and trained(model) == flags and hooks(model) == n_hooks
    now = bits(model)
    assert now.keys() == weights.keys() and all(torch.equal(now[k], weights[k]) for k in now)
    assert part.host is None


@every
def test_it_changes_the_output_once_it_is_trained(name: str) -> None:
    model, inputs = host(name)
    before = answer(model, inputs)
    with made(name).attach(model) as part:
        shake(part, model)
        after = answer(model, inputs)
    assert after.shape == before.shape and not torch.allclose(after, before, rtol=0, atol=1e-6)
    assert torch.isfinite(after).all()


@every
def test_it_starts_without_effect_where_it_says_so(name: str) -> None:
    if not kind(name).starts_neutral:
        pytest.skip(f"{name} does not start without effect")
    model, inputs = host(name)
    before = answer(model, inputs)
    with made(name).attach(model):
        torch.testing.assert_close(answer(model, inputs), before, rtol=0, atol=1e-5)


@every
def test_gradients_reach_every_named_parameter_and_nothing_else(name: str) -> None:
    model, inputs = host(name)
    with made(name).attach(model.train()) as part:
        shake(part, model)
        assert trained(model) == {id(one) for one in model.parameters() if one.requires_grad}
        named = {id(one) for one in part.parameters() if one.requires_grad}
        if isinstance(part, Adapter):
            named |= {id(model.get_parameter(one)) for one in part.trained_in_host(model)}
        assert trained(model) == named and named
        torch.manual_seed(1)
        (answer(model, inputs).float().square().mean() + part.aux_loss()).backward()
        names = {id(one): path for path, one in model.named_parameters()}
        silent = [names[one] for one in named if not _moves(names[one], model)]
        assert not silent, f"no gradient at {silent}"
        assert not [
            path for path, one in model.named_parameters() if one.grad is not None and id(one) not in named
        ]


def _moves(path: str, model: nn.Module) -> bool:
    grad = model.get_parameter(path).grad
    return grad is not None and bool(torch.isfinite(grad).all()) and bool(grad.any())


@every
def test_what_is_saved_loads_to_the_same_bits(name: str, tmp_path: Path) -> None:
    model, inputs = host(name)
    part = made(name).attach(model)
    shake(part, model)
    torch.manual_seed(2)
    wanted = answer(model, inputs)
    part.save_pretrained(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"adapter_model.safetensors", "adapter_config.json"}
    part.detach()
    for again in (kind(name).from_pretrained(tmp_path, model), load(tmp_path).attach):
        on = again if isinstance(again, Part) else again(model)
        torch.manual_seed(2)
        assert torch.equal(answer(model, inputs), wanted)
        on.detach()
    part.attach(model)
    torch.manual_seed(2)
    assert torch.equal(answer(model, inputs), wanted)


@every
def test_dtype_follows_the_host_and_bfloat16_stays_finite(name: str) -> None:
    model, inputs = host(name)
    model = model.bfloat16()
    halved = {k: v.bfloat16() if v.is_floating_point() else v for k, v in inputs.items()}
    with made(name).attach(model) as part:
        shake(part, model)
        assert {one.dtype for one in part.parameters() if one.is_floating_point()} <= {torch.bfloat16}
        output = answer(model, halved)
        output.float().square().mean().backward()
        assert output.dtype == torch.bfloat16 and torch.isfinite(output).all()
        assert all(torch.isfinite(p.grad).all() for p in part.parameters() if p.grad is not None)


@every
def test_gradient_checkpointing_changes_neither_gradients_nor_auxiliary_losses(name: str) -> None:
    model, inputs = host(name)
    if not getattr(model, "supports_gradient_checkpointing", False):
        pytest.skip(f"{type(model).__name__} cannot checkpoint gradients")
    found = []
    with made(name).attach(model.train()) as part:
        shake(part, model)
        for on in (False, True):
            if on:
                checkpoint(model, use_reentrant=False)
            found.append(_step(part, model, inputs))
    torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-7)


def _step(part: Part, model: nn.Module, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    model.zero_grad()
    torch.manual_seed(3)
    output = answer(model, inputs)
    losses = {f"loss {k}": v.detach() for k, v in part.aux_losses().items()}
    (output.float().square().mean() + part.aux_loss()).backward()
    again = {f"loss {k}": v.detach() for k, v in part.aux_losses().items()}
    assert losses.keys() == again.keys() and all(torch.equal(losses[k], again[k]) for k in losses)
    grads = {k: p.grad.clone() for k, p in part.named_parameters() if p.grad is not None}
    return {**losses, **grads}


@every
def test_auxiliary_losses_are_those_of_the_latest_step(name: str) -> None:
    model, inputs = host(name)
    with made(name).attach(model.train()) as part:
        found = []
        for _ in range(2):
            torch.manual_seed(4)
            answer(model, inputs)
            found.append(part.aux_loss().detach())
        assert torch.equal(*found)


@every
def test_the_hosts_loss_contains_the_auxiliary_losses_in_training_only(name: str) -> None:
    model, inputs = host(name)
    if "input_ids" not in inputs:
        pytest.skip("the host takes no labels")
    with made(name).attach(model) as part:
        plain = model(**inputs, labels=inputs["input_ids"]).loss
        part.train()
        torch.manual_seed(0)
        loss = model(**inputs, labels=inputs["input_ids"]).loss
        torch.testing.assert_close(loss, plain + part.aux_loss().to(plain), rtol=1e-5, atol=1e-5)


@every
def test_it_cannot_be_attached_twice(name: str) -> None:
    model, _ = host(name)
    with made(name).attach(model) as part:
        with pytest.raises(BadInput, match="attached to"):
            part.attach(model)
        with pytest.raises(BadInput, match="already"):
            made(name).attach(model)


@every
def test_an_attach_that_fails_half_way_leaves_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, inputs = host(name)
    before, n_hooks, flags = answer(model, inputs), hooks(model), trained(model)
    part = made(name)

    def fail(*_: object) -> None:
        raise RuntimeError("on purpose")

    monkeypatch.setattr(part, "_finish", fail)
    with pytest.raises(RuntimeError, match="on purpose"):
        part.attach(model)
    assert hooks(model) == n_hooks and trained(model) == flags and part.host is None
    assert torch.equal(answer(model, inputs), before)


@every
def test_a_four_bit_host_works(name: str) -> None:
    bitsandbytes = pytest.importorskip("bitsandbytes")
    model, inputs = host(name)
    for path, one in list(model.named_modules()):
        if type(one) is nn.Linear and "lm_head" not in path:
            parent, _, last = path.rpartition(".")
            new = bitsandbytes.nn.Linear4bit(
                one.in_features, one.out_features, bias=one.bias is not None, compute_dtype=torch.float32
            )
            new.load_state_dict(one.state_dict())
            setattr(model.get_submodule(parent), last, new.to("cpu"))
            assert new.weight.dtype == torch.uint8
    before = answer(model, inputs)
    with made(name).attach(model) as part:
        shake(part, model, 0.05)
        after = answer(model, inputs)
        assert torch.isfinite(after).all() and not torch.equal(after, before)
        after.square().mean().backward()
    assert torch.equal(answer(model, inputs), before)


@every
def test_a_damaged_or_foreign_folder_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="Give the folder"):
        kind(name).from_pretrained(tmp_path)
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    (tmp_path / "adapter_model.safetensors").write_bytes(b"torn")
    with pytest.raises(BadInput):
        load(tmp_path)


CONNECTORS = [name for name in PARTS if issubclass(kind(name), Connector)]


@pytest.mark.parametrize("name", CONNECTORS)
def test_a_connector_works_by_itself_and_gives_as_many_tokens_as_it_says(name: str) -> None:
    connector: Any = kind(name).tiny()
    connector = type(connector)(**{**_settings(connector), "d_in": 12, "d_out": 20})
    tokens = connector(torch.randn(2, 16, 12))
    assert tokens.shape == (2, connector.n_tokens(16), 20)


@pytest.mark.parametrize("name", CONNECTORS)
def test_a_connector_of_other_widths_is_refused(name: str) -> None:
    model, _ = host(name)
    connector: Any = kind(name).tiny()
    wrong = type(connector)(**{**_settings(connector), "d_in": 12, "d_out": 20})
    with pytest.raises(BadInput, match="12 → 20"):
        wrong.attach(model)


def _settings(part: Part) -> dict[str, Any]:
    import dataclasses

    return {one.name: getattr(part, one.name) for one in dataclasses.fields(part) if one.init}
