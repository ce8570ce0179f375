"""Every connector and adapter beside another one, after errors, and under the compiler."""

from typing import Any

import pytest
import torch
from parts import answer, bits, every, hooks, host, kind, made, shake, trained
from torch import Tensor, nn

from vlmtools.adapters.base import Part
from vlmtools.errors import CannotAttach

# torch warns about parts of its own that its compiler imports
torch_warns = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")


def beside(name: str, model: nn.Module) -> Part:
    """Another adapter that fits the host, attached: LoRA, or beside LoRA the mixture of heads."""
    try:
        return kind("moh" if name == "lora" else "lora").tiny().attach(model)
    except CannotAttach as refusal:
        pytest.skip(str(refusal))


@every
@pytest.mark.parametrize("first_off", ["the part", "the other"])
def test_two_parts_on_one_host_come_off_in_any_order(name: str, first_off: str) -> None:
    model, inputs = host(name)
    before, weights, n_hooks, flags = answer(model, inputs), bits(model), hooks(model), trained(model)
    part = made(name).attach(model)
    shake(part, model)
    alone = answer(model, inputs)
    other = beside(name, model)
    shake(other, model)
    part_now, both = {k: v.clone() for k, v in part.tensors().items()}, answer(model, inputs)
    assert not torch.equal(both, alone)
    training = trained(model)
    off, on = (part, other) if first_off == "the part" else (other, part)
    off.detach()
    left = answer(model, inputs)
    assert on.host is model and not torch.equal(left, both)
    assert trained(model) and trained(model) < training
    on.detach()
    assert torch.equal(answer(model, inputs), before)
    assert hooks(model) == n_hooks and trained(model) == flags
    now = bits(model)
    assert now.keys() == weights.keys() and all(torch.equal(now[key], weights[key]) for key in now)
    assert all(torch.equal(one, part_now[key]) for key, one in part.tensors().items())
    on.attach(model)
    assert torch.equal(answer(model, inputs), left)
    on.detach()


@every
def test_an_error_inside_the_block_takes_it_off(name: str) -> None:
    model, inputs = host(name)
    before, n_hooks, flags = answer(model, inputs), hooks(model), trained(model)
    part = made(name)
    with pytest.raises(ZeroDivisionError), part.attach(model):
        shake(part, model)
        _ = 1 / 0
    assert part.host is None and hooks(model) == n_hooks and trained(model) == flags
    assert torch.equal(answer(model, inputs), before)


class _Stop(Exception):
    pass


@every
def test_a_pass_that_breaks_off_leaves_nothing_for_the_next_one(name: str) -> None:
    model, inputs = host(name)
    before = answer(model, inputs)
    with made(name).attach(model) as part:
        shake(part, model)
        wanted, losses = answer(model, inputs), part.aux_loss().detach()
        for one in _called(model, inputs)[:: max(1, len(list(model.modules())) // 8)]:
            handle = one.register_forward_hook(_stop)
            with pytest.raises(_Stop):
                answer(model, inputs)
            handle.remove()
            assert torch.equal(answer(model, inputs), wanted)
            assert torch.equal(part.aux_loss().detach(), losses)
    assert torch.equal(answer(model, inputs), before)


def _stop(*_: object) -> None:
    raise _Stop


def _called(model: nn.Module, inputs: dict[str, Tensor]) -> list[nn.Module]:
    """The leaves of a model in the order in which a pass calls them."""
    seen: list[nn.Module] = []

    def note(one: nn.Module, *_: object) -> None:
        seen.append(one)

    leaves = [one for one in model.modules() if not list(one.children())]
    handles = [one.register_forward_hook(note) for one in leaves]
    answer(model, inputs)
    for handle in handles:
        handle.remove()
    return list(dict.fromkeys(seen))


@torch_warns
@every
def test_a_host_that_was_compiled_is_refused(name: str) -> None:
    model, _ = host(name)
    compiled: Any = torch.compile(model, backend="eager")
    with pytest.raises(CannotAttach, match="compiled already"):
        made(name).attach(compiled)
    model.compile(backend="eager")
    with pytest.raises(CannotAttach, match="compiled already"):
        made(name).attach(model)


@pytest.mark.slow
@torch_warns
@every
def test_a_host_compiled_after_attaching_follows_the_part(name: str) -> None:
    torch.compiler.reset()
    model, inputs = host(name)
    before = answer(model, inputs)
    with made(name).attach(model) as part:
        shake(part, model)
        wanted = answer(model, inputs)
        compiled: Any = torch.compile(model, backend="eager")
        torch.testing.assert_close(answer(compiled, inputs), wanted, rtol=1e-4, atol=1e-4)
        shake(part, model, 0.05)
        torch.testing.assert_close(answer(compiled, inputs), answer(model, inputs), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(answer(compiled, inputs), before, rtol=1e-4, atol=1e-4)
    torch.compiler.reset()


@every
def test_generate_computes_what_forward_passes_compute_also_after_another_batch(name: str) -> None:
    model, inputs = host(name)
    if not hasattr(model, "generate") or "input_ids" not in inputs:
        pytest.skip("the host does not generate")
    options: Any = {"do_sample": False, "return_dict_in_generate": True, "output_logits": True}
    with made(name).attach(model) as part:
        shake(part, model)
        for n in (3, 1):
            batch = {key: torch.cat([one] * n) for key, one in inputs.items()}
            made_up = model.generate(**batch, max_new_tokens=3, min_new_tokens=3, **options)
            ids, n_prompt = made_up.sequences[:, :-1], batch["input_ids"].shape[1]
            labels = ids.clone()
            labels[:, :n_prompt] = -100  # tells those that ask which words are the question
            whole = model(
                **{**batch, "input_ids": ids, "attention_mask": torch.ones_like(ids)}, labels=labels
            )
            steps = torch.stack(made_up.logits, 1)
            torch.testing.assert_close(steps, whole.logits[:, -3:], rtol=1e-3, atol=1e-4)
