"""HiPrune against numbers that its released program gave (LLaVA and Qwen2.5-VL variants)."""

from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from golden_cases import each, tensors
from places import find_all, golden_roots
from torch import Tensor

from vlmtools.pruning._layout import cell_means
from vlmtools.pruning._scores import column_means
from vlmtools.pruning.base import Seen, Tower
from vlmtools.pruning.hiprune import HiPrune, n_anchors, released_stages, stages

LLAVA = each("hiprune/llava_cases*.json", "llava_inputs.safetensors")
QWEN = each("hiprune/qwen_cases*.json", "qwen_inputs.safetensors", level="scores")

pytestmark = pytest.mark.golden


def llava_scores(case: Any, path: Path) -> tuple[Tensor, Tensor]:
    """(object, deep), images × tokens."""
    data, end = tensors(path), ".received" if case["level"] == "qk" else ""
    return data[f"{case['tensors']}.object{end}"], data[f"{case['tensors']}.deep{end}"]


def ascending(*parts: Tensor) -> list[int]:
    return sorted(set(chain.from_iterable(part.tolist() for part in parts)))


@pytest.mark.parametrize(("case", "path"), LLAVA)
def test_compat_keeps_the_tokens_of_the_released_llava_program(case: Any, path: Path) -> None:
    middle, deep = llava_scores(case, path)
    budget = int(case["total_budget"] / case["images"])
    assert budget == case["per_image_budget"]
    assert n_anchors(budget, case["alpha"]) == case["num_anchors"]
    for image, kept in enumerate(case["kept"]):
        found = released_stages(middle[image], deep[image], budget, case["grid"][1], case["alpha"])
        assert ascending(*found) == kept
        assert len(kept) == budget
    if "anchor_buffer" in case:
        assert ascending(*found[:2]) == case["anchor_buffer"]
        assert ascending(found[2]) == case["register"]


@pytest.mark.parametrize(("case", "path"), LLAVA)
def test_the_compat_pruner_finds_the_llava_program_by_the_class_token(case: Any, path: Path) -> None:
    middle, deep = llava_scores(case, path)
    pruner = HiPrune(compat=True, alpha=case["alpha"])
    tower = Tower("clip_vision_model", 24, 22, tuple(range(24)), class_token=True)
    needs = pruner.needs(tower)
    assert needs.received == (8, 22)
    for image, kept in enumerate(case["kept"]):
        seen = Seen(
            torch.zeros(len(deep[image]), 1),
            tuple(case["grid"]),
            {8: middle[image], 22: deep[image]},
            tower=tower,
        )
        assert pruner.select(seen, case["per_image_budget"]).kept.tolist() == kept


@pytest.mark.parametrize(("case", "path"), LLAVA)
def test_strict_differs_from_the_released_llava_program_only_through_border_anchors(
    case: Any, path: Path
) -> None:
    middle, deep = llava_scores(case, path)
    height, width = case["grid"]
    for image, kept in enumerate(case["kept"]):
        found = stages(middle[image], deep[image], case["per_image_budget"], width, case["alpha"])
        assert len(ascending(*found)) == case["per_image_budget"] == sum(map(len, found))
        row, column = found[0] // width, found[0] % width
        inner = (row > 0) & (row < height - 1) & (column > 0) & (column < width - 1)
        if inner.all():
            assert ascending(*found) == kept


@pytest.mark.parametrize(
    ("case", "path"), each("hiprune/llava_cases*.json", "llava_inputs.safetensors", level="qk")
)
@pytest.mark.parametrize("block", [4096, 2**22])
def test_scores_from_queries_and_keys_are_those_of_the_released_llava_program(
    case: Any, path: Path, block: int
) -> None:
    data, scores = tensors(path), []
    for which in ("object", "deep"):
        name = f"{case['tensors']}.{which}"
        found = column_means(data[f"{name}.q"], data[f"{name}.k"], block=block)[:, 1:]
        torch.testing.assert_close(found, data[f"{name}.received"], atol=1e-6, rtol=0)
        scores.append(found[0])
    budget, width = case["per_image_budget"], case["grid"][1]
    assert ascending(*released_stages(*scores, budget, width, case["alpha"])) == case["kept"][0]


def reductions() -> list[Any]:
    """(file, name of the case) for every stored reduction of a map to tokens."""
    found = [
        pytest.param(path, name.removesuffix(".score"), id=name)
        for path in find_all(golden_roots(), "hiprune/qwen_inputs*.safetensors")
        for name in sorted(tensors(path))
        if name.startswith("reduce") and name.endswith(".score")
    ]
    gone = pytest.param(None, None, marks=pytest.mark.skip(reason="no reduction stored"), id="none found")
    return found or [gone]


@pytest.mark.parametrize(("path", "name"), reductions())
def test_scores_per_merged_token_are_those_of_the_released_qwen_program(path: Path, name: str) -> None:
    data = tensors(path)
    query, key, order = (data[f"{name}.{part}"] for part in ("q", "k", "window_index"))
    n_patches = query.shape[1]
    received = column_means(query[None], key[None])[0] * n_patches
    found = cell_means(received[:, None], n_patches // len(order), order)[:, 0]
    torch.testing.assert_close(found, data[f"{name}.score"], atol=1e-5, rtol=0)


def qwen_scores(case: Any, path: Path) -> tuple[Tensor, Tensor]:
    data = tensors(path)
    return data[f"{case['tensors']}.object"], data[f"{case['tensors']}.deep"]


@pytest.mark.parametrize(("case", "path"), QWEN)
def test_compat_keeps_the_tokens_of_the_released_qwen_program_and_falls_short_as_it_does(
    case: Any, path: Path
) -> None:
    middle, deep = qwen_scores(case, path)
    budget = HiPrune(keep=case["retention"]).budget(len(deep))
    assert budget == case["budget"]
    assert n_anchors(budget, case["alpha"]) == case["num_anchors"]
    found = released_stages(middle, deep, budget, case["grid_thw"][2] // case["merge"], case["alpha"])
    assert ascending(*found[:2]) == case["anchor_buffer"]
    assert ascending(found[2]) == case["register_drawn"]
    assert ascending(*found) == case["kept"]
    assert budget - len(case["kept"]) == case["short_by"]


@pytest.mark.parametrize(("case", "path"), QWEN)
def test_the_compat_pruner_scales_means_to_the_sums_of_the_qwen_program(case: Any, path: Path) -> None:
    middle, deep = qwen_scores(case, path)
    height, width = (side // case["merge"] for side in case["grid_thw"][1:])
    pruner = HiPrune(keep=case["retention"], compat=True, alpha=case["alpha"])
    needs = pruner.needs(Tower("qwen2_5_vl", 32, 31, (7, 15, 23, 31)))
    assert needs.received == (15, 31) and not needs.class_attention
    n_queries = len(deep) * case["merge"] ** 2
    seen = Seen(torch.zeros(len(deep), 1), (height, width), {15: middle / n_queries, 31: deep / n_queries})
    assert pruner.select(seen, pruner.budget(len(deep))).kept.tolist() == case["kept"]


@pytest.mark.parametrize(("case", "path"), QWEN)
def test_an_exact_fill_behind_the_same_neighbours_contains_what_the_released_program_keeps(
    case: Any, path: Path
) -> None:
    middle, deep = qwen_scores(case, path)
    width = case["grid_thw"][2] // case["merge"]
    anchors, buffers, _ = released_stages(middle, deep, case["budget"], width, case["alpha"])
    chosen = torch.cat([anchors, buffers])
    free = deep.index_fill(0, chosen, -torch.inf).argsort(descending=True, stable=True)
    exact = {*chosen.tolist(), *free[: case["budget"] - len(chosen)].tolist()}
    assert len(exact) == case["budget"] and exact >= set(case["kept"])
    assert len(ascending(*stages(middle, deep, case["budget"], width, case["alpha"]))) == case["budget"]
