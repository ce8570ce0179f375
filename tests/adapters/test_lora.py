from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from vlmtools.adapters._tiny import llava
from vlmtools.adapters.lora import Lora
from vlmtools.errors import BadInput, CannotAttach


def _train(part: Lora) -> None:
    torch.manual_seed(0)
    for one in part.parameters():
        torch.nn.init.normal_(one, std=0.2)


def test_the_update_is_b_a_x_times_alpha_over_rank() -> None:
    model, inputs = llava()
    with Lora(rank=2, alpha=6.0).attach(model) as part:
        _train(part)
        wanted = model(**inputs).logits
        merged = {
            path: layer.b.detach() @ layer.a.detach() * 3
            for path, layer in zip(part.sizes, part.layers.values(), strict=True)
        }
    with torch.no_grad():
        for path, update in merged.items():
            model.get_submodule(path).weight.add_(update)
    torch.testing.assert_close(model(**inputs).logits, wanted, rtol=0, atol=1e-5)


def test_alpha_zero_changes_nothing() -> None:
    model, inputs = llava()
    before = model(**inputs).logits
    with Lora(alpha=0.0).attach(model) as part:
        _train(part)
        assert torch.equal(model(**inputs).logits, before)


def test_files_for_peft_carry_its_names(tmp_path: Path) -> None:
    model, _ = llava()
    with pytest.raises(BadInput, match="no layers yet"):
        Lora().save_peft(tmp_path)
    with Lora(rank=2).attach(model) as part:
        part.save_peft(tmp_path)
        names = set(load_file(tmp_path / "adapter_model.safetensors"))
        path = next(iter(part.sizes))
    assert {f"base_model.model.{path}.lora_{one}.weight" for one in "AB"} <= names
    assert len(names) == 2 * len(part.sizes)


@pytest.mark.filterwarnings(
    "ignore:.*is_gradient_checkpointing:FutureWarning"
)  # PEFT asks under the old name
def test_peft_gives_the_same_outputs_from_these_files(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    model, inputs = llava()
    with Lora(rank=2).attach(model) as part:
        _train(part)
        wanted = model(**inputs).logits
        part.save_peft(tmp_path)
    other = peft.PeftModel.from_pretrained(model, str(tmp_path))
    torch.testing.assert_close(other(**inputs).logits, wanted, rtol=0, atol=1e-5)


def test_two_adapters_come_off_in_any_order() -> None:
    from vlmtools.adapters.moh import MoH

    model, inputs = llava()
    before = model(**inputs).logits
    first, second = Lora(rank=2).attach(model), MoH(always_on=0.25).attach(model)
    _train(first)
    trained = {name for name, one in model.named_parameters() if one.requires_grad}
    assert {name.split(".")[0] for name in trained} == {"vlmtools_lora", "vlmtools_moh"}
    first.detach()
    assert {name.split(".")[0] for name, p in model.named_parameters() if p.requires_grad} == {"vlmtools_moh"}
    second.detach()
    assert torch.equal(model(**inputs).logits, before)
    assert all(one.requires_grad for one in model.parameters())


def test_targets_that_do_not_exist_are_refused_with_those_that_do() -> None:
    model, _ = llava()
    with pytest.raises(CannotAttach, match="q_proj"):
        Lora(targets=("qkv",)).attach(model)
