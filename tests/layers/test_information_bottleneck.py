"""ITHP's two bottlenecks."""

from pathlib import Path

import pytest
import torch
from golden_tensors import known, read, same_grad, same_value
from places import cases, golden_roots

from vlmtools.adapters._official_names import translated
from vlmtools.layers.information_bottleneck import OFFICIAL_NAMES, HierarchicalBottleneck, kl_to_normal


@pytest.mark.golden
@pytest.mark.parametrize("path", cases(golden_roots(), "adapters/ithp/*.json"))
def test_the_bottlenecks_give_the_authors_numbers_and_gradients(path: Path) -> None:
    case = read(path)
    config = case.config
    known(
        config,
        "B0_dim B1_dim X0_dim X1_dim X2_dim drop_prob inter_dim max_sen_len p_beta p_gamma p_lambda",
    )
    module = HierarchicalBottleneck(
        config["X0_dim"], config["X1_dim"], config["X2_dim"], (config["B0_dim"], config["B1_dim"]),
        config["inter_dim"], config["drop_prob"],
    ).eval()  # fmt: skip
    module.load_state_dict(translated(case.state, OFFICIAL_NAMES))
    x0 = case["x0"].requires_grad_()
    found = module(x0, case["acoustic_x1"], case["visual_x2"], (case["eps0"], case["eps1"]))
    total = found.loss(config["p_beta"], config["p_gamma"], config["p_lambda"])
    for ours, name in zip((*found.kl, *found.error), ("kl0", "kl1", "mse0", "mse1"), strict=True):
        same_value(ours, case[name])
    same_value(found.code, case["b1"])
    same_value(total, case["IB_total"])
    (found.code.square().mean() + 2 / (config["p_beta"] + config["p_gamma"]) * total).backward()
    same_grad(x0.grad, case["grad.x0"])
    theirs = translated({k: v for k, v in case.grads.items() if k != "x0"}, OFFICIAL_NAMES)
    for name, parameter in module.named_parameters():
        same_grad(parameter.grad, theirs[name])


def test_without_sampling_the_code_is_the_mean_and_repeats() -> None:
    torch.manual_seed(0)
    module = HierarchicalBottleneck(6, 4, 3, (4, 2), 8).eval()
    prime, first, second = torch.randn(2, 5, 6), torch.rand(2, 5, 4), torch.rand(2, 5, 3)
    once, again = (module(prime, first, second, sample=False).code for _ in range(2))
    assert torch.equal(once, again)
    assert not torch.equal(once, module(prime, first, second).code)


def test_a_standard_normal_code_costs_nothing() -> None:
    assert kl_to_normal(torch.zeros(3, 4), torch.zeros(3, 4)) == 0
