"""Dual cross-attention."""

from pathlib import Path
from typing import Any

import pytest
import torch
from golden_tensors import known, read, same_value
from places import cases, golden_roots
from torch import Tensor

from vlmtools.adapters import dcal
from vlmtools.adapters.dcal import Dcal


@pytest.mark.golden
@pytest.mark.parametrize("path", cases(golden_roots(), "adapters/derived-dcal/*.json"))
def test_the_formulas_give_the_derived_numbers(path: Path) -> None:
    case = read(path)
    known(case.config, "batch dim layers patches ratio top_R")
    rolled = None
    for index in range(case.config["layers"]):
        rolled = dcal.rollout(rolled, case[f"attn{index}"])
    assert rolled is not None
    same_value(rolled, case["rollout"])
    response = rolled[:, 0, 1:]
    same_value(response, case["cls_response"])
    chosen = dcal.local_queries(response, case.config["top_R"])
    assert torch.equal(chosen.sort(dim=1).values, case["top_idx"].sort(dim=1).values)
    same_value(dcal.global_local_attention(case["q_local"], case["k"], case["v"]), case["glca"])
    own, partner = (case["k"], case["v"]), (case["k2"], case["v2"])
    same_value(dcal.pairwise_attention(case["q"], own, partner), case["pwca"])
    same_value(dcal.weighted_loss(case["losses"], case["log_var"]), case["total_loss"])


def _two_pictures() -> tuple[Any, dict[str, Tensor]]:
    model, inputs = Dcal.tiny_host()
    twice = {name: torch.cat([one, one]) for name, one in inputs.items()}
    twice["pixel_values"] = torch.randn(
        twice["pixel_values"].shape, generator=torch.Generator().manual_seed(1)
    )
    return model.eval(), twice


def _other_partner(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    pixels = inputs["pixel_values"].clone()
    pixels[1] = pixels[1].flip(-1) + 1
    return {**inputs, "pixel_values": pixels}


def test_in_evaluation_the_partner_does_not_matter() -> None:
    model, inputs = _two_pictures()
    with Dcal(share=0.3, pairs=1.0).attach(model):
        first = model(**inputs).logits[0]
        assert torch.equal(first, model(**_other_partner(inputs)).logits[0])


def test_in_training_the_partner_disturbs() -> None:
    model, inputs = _two_pictures()
    with Dcal(share=0.3, pairs=1.0).attach(model.train()):
        first = model(**inputs).logits[0]
        assert (first - model(**_other_partner(inputs)).logits[0]).abs().max() > 1e-5


def test_without_pairs_training_passes_are_plain() -> None:
    model, inputs = _two_pictures()
    with Dcal(share=0.3, pairs=0.0).attach(model) as part:
        plain = model(**inputs).logits
        part.train()
        assert torch.equal(model(**inputs).logits, plain)


def test_only_the_chosen_patches_change() -> None:
    model, inputs = _two_pictures()
    seen: list[Tensor] = []
    with Dcal(share=0.3).attach(model) as part:
        torch.nn.init.ones_(next(iter(part.layers.values())).out.weight)
        connector = model.model.multi_modal_projector
        connector.register_forward_pre_hook(lambda _, args: seen.append(args[0].detach()))
        model(**inputs)
        with torch.no_grad():
            next(iter(part.layers.values())).out.weight.zero_()
        model(**inputs)
    moved = (seen[0] != seen[1]).any(dim=-1).sum(dim=-1)
    assert moved.tolist() == [2, 2]
