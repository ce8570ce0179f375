"""Golden cases of the pruners: one parameter per case of every file found, with the tensors that lie beside it."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from places import find_all, golden_roots
from safetensors.torch import load_file


def each(pattern: str, inputs: str, **wanted: Any) -> list[Any]:
    """`pytest.param(case, tensors file)` for every case whose fields equal `wanted`, or one skip."""
    found = []
    for path in find_all(golden_roots(), pattern):
        for case in json.loads(path.read_text(encoding="utf-8"))["cases"]:
            if all(case.get(name) == value for name, value in wanted.items()):
                found.append(pytest.param(case, path.with_name(inputs), id=case["id"]))
    reason = f"no case in {pattern} under $VLMTOOLS_GOLDEN, ../shared/golden or tests/golden"
    return found or [pytest.param(None, None, marks=pytest.mark.skip(reason=reason), id="none found")]


@cache
def _loaded(path: Path) -> dict[str, torch.Tensor]:
    return load_file(path)


def tensors(path: Path) -> dict[str, torch.Tensor]:
    """The inputs; what is stored as float16 is meant to be used as float32."""
    return {name: t.float() if t.is_floating_point() else t for name, t in _loaded(path).items()}
