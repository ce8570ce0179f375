"""The object layer of a tower, found from where the attended patches lie."""

from typing import Any

import pytest
import torch
from matrix import family, hooks, inputs, kernels, logits, tiny
from transformers import AutoModelForImageTextToText

from vlmtools.errors import BadInput
from vlmtools.pruning._calibrate import calibrate, dispersion, phases
from vlmtools.pruning.hiprune import HiPrune


def test_the_distance_is_the_mean_over_all_pairs_of_the_most_attended() -> None:
    features = torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 8.0], [90.0, 9.0]])
    received = torch.tensor([[9.0, 8.0, 7.0, 1.0], [1.0, 9.0, 8.0, 2.0]])
    found = dispersion(received, features, share=0.75)
    first = (5.0 + 8.0 + 5.0) / 3  # 0-1, 0-2, 1-2
    second = float(torch.nn.functional.pdist(features[[1, 2, 3]]).mean())
    assert found.tolist() == pytest.approx([first, second], abs=1e-5)


def test_a_share_below_two_patches_takes_two() -> None:
    assert dispersion(torch.tensor([[1.0, 3.0, 2.0]]), torch.eye(3), 0.01).item() == pytest.approx(2**0.5)


@pytest.mark.parametrize(
    ("curve", "expected"),
    [
        ([5, 5, 5, 2, 2, 9, 9], (0, 3, 5)),
        ([1.0, 1.1, 4.0, 4.2, 3.9, 4.0, 8.0], (0, 2, 6)),
        ([3, 2, 1], (0, 1, 2)),
    ],
)
def test_phases_begin_where_the_curve_jumps(curve: list[float], expected: tuple[int, ...]) -> None:
    assert phases(curve) == expected


def deep(kind: str) -> Any:
    """With a tower of six layers."""
    config = family(kind).tiny_config()
    config.vision_config.num_hidden_layers = 6
    torch.manual_seed(0)
    return AutoModelForImageTextToText.from_config(config).eval()


@pytest.mark.parametrize("kind", ["llava", "gemma3", "internvl", "llava_next"])
def test_the_layer_that_is_found_can_be_used_and_nothing_stays_behind(kind: str) -> None:
    model = deep(kind)
    logits(model, inputs(kind))  # transformers hangs its own recorders on the tower at the first call
    before = hooks(model), kernels(model)
    found = calibrate(model, [inputs(kind, seed=seed) for seed in range(3)])
    assert (hooks(model), kernels(model)) == before
    assert found.n_pictures == 3 and 1 <= found.object_layer < max(found.curve)
    assert all(distance > 0 for distance in found.curve.values())
    pruner = HiPrune.calibrated(model, [inputs(kind, seed=seed) for seed in range(3)], keep=0.5)
    assert pruner == HiPrune(keep=0.5, object_layer=found.object_layer)
    with pruner.attach(model) as on, torch.no_grad():
        model(**inputs(kind))
        assert on.report().n_after < on.report().n_before


def test_a_tower_with_too_few_whole_layers_and_no_pictures_are_refused() -> None:
    with pytest.raises(BadInput, match="three phases"):
        calibrate(tiny("qwen2_5_vl"), [inputs("qwen2_5_vl")])
    with pytest.raises(BadInput, match="no pictures"):
        calibrate(deep("llava"), [])
