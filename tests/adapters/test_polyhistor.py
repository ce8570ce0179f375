"""Polyhistor on towers of one and of several widths."""

from typing import Any

import pytest
import torch

from vlmtools.adapters.polyhistor import Polyhistor
from vlmtools.errors import BadInput, CannotAttach


def _swin() -> tuple[Any, torch.Tensor]:
    from transformers import SwinConfig, SwinModel

    torch.manual_seed(0)
    config = SwinConfig(
        image_size=32, patch_size=4, embed_dim=16, depths=[1, 1], num_heads=[2, 2], window_size=4
    )
    return SwinModel(config).eval(), torch.randn(1, 3, 32, 32)


def _shaken(part: Polyhistor) -> Polyhistor:
    with torch.no_grad():
        for one in part.parameters():
            one.add_(torch.randn_like(one) * 0.1)
    return part


def test_a_swin_gets_one_template_and_kernels_that_grow_with_its_stages() -> None:
    model, pixels = _swin()
    before = model(pixels).last_hidden_state
    with Polyhistor(reduction=4, rank=2, n_embed=5, n_tasks=3).attach(model) as part:
        assert [sizes["scale"] for sizes in part.sizes.values()] == [1, 1, 2, 2]
        assert list(part.layers["hyper"].left) == ["16x4"]
        torch.testing.assert_close(model(pixels).last_hidden_state, before)
        _shaken(part)
        answers = []
        for part.task in range(3):
            answers.append(model(pixels).last_hidden_state)
        assert not torch.allclose(answers[0], answers[1])
        part.task = 0
        assert torch.equal(model(pixels).last_hidden_state, answers[0])


def test_without_lite_every_width_has_hypernetworks_of_its_own() -> None:
    model, _ = _swin()
    with Polyhistor(reduction=4, rank=2, n_embed=5, lite=False).attach(model) as part:
        assert list(part.layers["hyper"].left) == ["16x4", "32x8"]


def test_lite_has_fewer_parameters() -> None:
    model, _ = _swin()
    counts = []
    for lite in (True, False):
        with Polyhistor(reduction=4, lite=lite).attach(model) as part:
            counts.append(sum(p.numel() for p in part.parameters()))
    assert counts[0] < counts[1]


def test_materialised_weights_are_what_the_adapter_computes_with() -> None:
    model, pixels = _swin()
    place = "encoder.layers.1.blocks.0.mlp"
    seen: dict[str, Any] = {}
    module = model.get_submodule(place)
    module.register_forward_hook(lambda _, __, output: seen.update(before=output))
    with Polyhistor(reduction=4, rank=2, n_embed=5).attach(model) as part:
        plain = _shaken(part).materialise(0)
        module.register_forward_hook(lambda _, __, output: seen.update(after=output))
        model(pixels)
    down, up = plain[f"{place}.down"], plain[f"{place}.up"]
    wanted = seen["before"] + torch.nn.functional.gelu(seen["before"] @ down) @ up.T
    torch.testing.assert_close(seen["after"], wanted)
    assert not torch.allclose(seen["after"], seen["before"])


def test_a_task_that_does_not_exist_is_refused() -> None:
    with pytest.raises(BadInput, match="tasks count from 0"):
        Polyhistor(n_tasks=2, task=2)


def test_a_width_that_cannot_be_divided_is_refused() -> None:
    model, _ = _swin()
    with pytest.raises(CannotAttach, match="product divides"):
        Polyhistor(reduction=5).attach(model)
