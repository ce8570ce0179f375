"""Polyhistor's weights, in our reading."""

from pathlib import Path

import pytest
import torch
from golden_tensors import read, same_value
from places import cases, golden_roots

from vlmtools.layers.kronecker_template import bottleneck, grown, template


@pytest.mark.golden
@pytest.mark.parametrize("path", cases(golden_roots(), "adapters/derived-polyhistor/*.json"))
def test_weights_and_outputs_are_the_derived_ones(path: Path) -> None:
    case = read(path)
    rank = case.config["hyper_rank"]
    for name in [name for name in case.tensors if name.startswith("template.")]:
        _, t, b, p, kind = name.split(".")
        task, block, position = int(t[1:]), int(b[1:]), int(p[1:])
        which = ("down", "up").index(kind)
        embedding = torch.cat([case["task_embedding"][task], case["layer_embedding"][block, position, which]])
        found = template(embedding, case["hyper_p.weight"], case["hyper_q.weight"], rank)
        same_value(found, case[name])
        kernel = case[f"scale_kernel.{block}"][task, position, which]
        same_value(grown(found, kernel), case[f"weight.{t}.{b}.{p}.{kind}"])
    for name in [name for name in case.tensors if name.startswith("y.")]:
        _, t, b = name.split(".")
        down, up = (case[f"weight.{t}.{b}.p0.{kind}"] for kind in ("down", "up"))
        same_value(bottleneck(case[f"x.{b}"], down, up), case[name])


def test_a_kernel_of_one_changes_nothing() -> None:
    weight = torch.randn(6, 2)
    assert torch.equal(grown(weight, torch.ones(1, 1)), weight)
