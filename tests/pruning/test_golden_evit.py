"""EViT against numbers that its released block gave."""

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from golden_cases import each, tensors
from torch import Tensor
from torch.nn.functional import gelu, layer_norm, linear

from vlmtools.pruning.evit import attentive, complement, n_left, reorganise, schedule

EVERY = each("evit/evit_cases*.json", "evit_block.safetensors")


def those(wanted: Callable[[Any], bool]) -> list[Any]:
    found = [one for one in EVERY if one.values[0] is None or wanted(one.values[0])]
    return found or [pytest.param(None, None, marks=pytest.mark.skip(reason="no such case"), id="none found")]


BLOCKS = those(lambda case: "dim" in case)
SCHEDULES = those(lambda case: "schedule" in case)

pytestmark = pytest.mark.golden


def half_block(x: Tensor, w: dict[str, Tensor], heads: int) -> tuple[Tensor, Tensor]:
    """Tokens behind the attention residual, and the class token's attention to patches."""
    batch, n, dim = x.shape
    qkv = linear(
        layer_norm(x, (dim,), w["norm1.weight"], w["norm1.bias"]), w["attn.qkv.weight"], w["attn.qkv.bias"]
    )
    q, k, v = qkv.reshape(batch, n, 3, heads, dim // heads).permute(2, 0, 3, 1, 4)
    attention = (q @ k.transpose(-2, -1) * math.sqrt(heads / dim)).softmax(-1)
    mixed = (attention @ v).transpose(1, 2).reshape(batch, n, dim)
    return x + linear(mixed, w["attn.proj.weight"], w["attn.proj.bias"]), attention[:, :, 0, 1:].mean(1)


def mlp(x: Tensor, w: dict[str, Tensor]) -> Tensor:
    inner = layer_norm(x, (x.shape[-1],), w["norm2.weight"], w["norm2.bias"])
    inner = gelu(linear(inner, w["mlp.fc1.weight"], w["mlp.fc1.bias"]))
    return x + linear(inner, w["mlp.fc2.weight"], w["mlp.fc2.bias"])


@pytest.mark.parametrize(("case", "path"), BLOCKS)
def test_a_block_with_dropping_gives_the_same_output_and_the_same_order(case: Any, path: Path) -> None:
    data, name = tensors(path), case["id"]
    w = {key.removeprefix(f"{name}.w."): value for key, value in data.items() if key.startswith(f"{name}.w.")}
    x, attention = half_block(data[f"{name}.x"], w, case["heads"])
    n_keep = case["tokens"] or n_left(case["N"] - 1, case["keep_rate"])
    assert n_keep == case["left_tokens"]
    patches = reorganise(x[:, 1:], attention, n_keep, case["fuse"])
    assert patches.shape[1] == case["out_tokens"]
    out = mlp(torch.cat([x[:, :1], patches], 1), w)
    torch.testing.assert_close(out, data[f"{name}.y"], atol=1e-5, rtol=1e-4)
    if case["pruned"]:
        torch.testing.assert_close(attention, data[f"{name}.cls_attn"], atol=1e-6, rtol=1e-5)
        assert attentive(attention, n_keep).tolist() == data[f"{name}.idx"].tolist()


@pytest.mark.parametrize("path", {one.values[1] for one in BLOCKS})
def test_the_complement_is_the_same(path: Path) -> None:
    if path is None:
        pytest.skip("no golden file found")
    data = tensors(path)
    kept, out = data["complement.idx"], data["complement.out"]
    assert complement(kept, kept.shape[1] + out.shape[1]).tolist() == out.tolist()


@pytest.mark.parametrize(("case", "path"), SCHEDULES)
def test_the_number_of_tokens_shrinks_block_by_block_as_released(case: Any, path: Path) -> None:
    _, rate, fuse = case["id"].split("/")
    listed = re.search(r"drop in blocks ([\d,]+)", case["note"])
    blocks = tuple(int(block) for block in listed[1].split(","))
    found = schedule(case["schedule"][0], float(rate), blocks, len(case["schedule"]), fuse == "True")
    assert found == case["schedule"]
