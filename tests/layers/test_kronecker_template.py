"""Polyhistor's weights, in our reading."""

from pathlib import Path

import pytest
import torch
from golden_tensors import known, read, same_value
from places import cases, golden_roots

from vlmtools.layers.kronecker_template import bottleneck, grown, template


@pytest.mark.golden
@pytest.mark.parametrize("path", cases(golden_roots(), "adapters/derived-polyhistor/*.json"))
def test_weights_and_outputs_are_the_derived_ones(path: Path) -> None:
    case = read(path)
    config, rank = case.config, case.config["hyper_rank"]
    known(config, "base_channels embed_dim hyper_rank nonlinearity num_tasks order reduction scales")
    kernel_first = {"kron(scale_kernel, template)": True, "kron(template, scale_kernel)": False}[
        config["order"]
    ]
    for name in [name for name in case.tensors if name.startswith("template.")]:
        _, t, b, p, kind = name.split(".")
        task, block, position = int(t[1:]), int(b[1:]), int(p[1:])
        which = ("down", "up").index(kind)
        embedding = torch.cat([case["task_embedding"][task], case["layer_embedding"][block, position, which]])
        found = template(embedding, case["hyper_p.weight"], case["hyper_q.weight"], rank)
        same_value(found, case[name])
        kernel = case[f"scale_kernel.{block}"][task, position, which]
        same_value(grown(found, kernel, kernel_first), case[f"weight.{t}.{b}.{p}.{kind}"])
    for name in [name for name in case.tensors if name.startswith("y.")]:
        _, t, b = name.split(".")
        down, up = (case[f"weight.{t}.{b}.p0.{kind}"] for kind in ("down", "up"))
        same_value(bottleneck(case[f"x.{b}"], down, up, config["nonlinearity"]), case[name])


def test_a_kernel_of_one_changes_nothing() -> None:
    weight = torch.randn(6, 2)
    assert torch.equal(grown(weight, torch.ones(1, 1)), weight)


def test_the_order_of_the_product_decides_which_entries_stand_together() -> None:
    kernel, small = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[1.0, 10.0]])
    assert grown(small, kernel).tolist() == [[1, 10, 2, 20], [3, 30, 4, 40]]
    assert grown(small, kernel, kernel_first=False).tolist() == [[1, 2, 10, 20], [3, 4, 30, 40]]


def test_the_activation_is_the_one_asked_for() -> None:
    x, down, up = torch.tensor([[-1.0]]), torch.ones(1, 1), torch.ones(1, 1)
    assert bottleneck(x, down, up, "relu").item() == -1 and bottleneck(x, down, up).item() < -1
