"""Golden numbers of connectors and adapters: tensors and settings of one case, and how close is close."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from places import cases, golden_roots
from safetensors.torch import load_file
from torch import Tensor


@dataclass(frozen=True)
class Case:
    """One golden case.

    Args:
        config: Sizes and settings.
        tensors: Everything stored.
    """

    config: Mapping[str, Any]
    tensors: Mapping[str, Tensor]

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[name]

    def part(self, prefix: str) -> dict[str, Tensor]:
        """Tensors whose name begins with `prefix`, without it."""
        return {k.removeprefix(prefix): v for k, v in self.tensors.items() if k.startswith(prefix)}

    @property
    def state(self) -> dict[str, Tensor]:
        return self.part("state.")

    @property
    def grads(self) -> dict[str, Tensor]:
        return self.part("grad.")


def golden(pattern: str) -> list[Any]:
    """Parameters: every case that matches, such as `mocha-moec/*.safetensors`."""
    return cases(golden_roots(), f"adapters/{pattern}")


def read(path: Path) -> Case:
    facts = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    return Case(facts["config"], load_file(path))


def close(mine: Tensor, theirs: Tensor, what: str = "") -> None:
    """Values: rtol 1e-4, atol 1e-5."""
    torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5, msg=lambda text: f"{what}: {text}")


def close_grad(mine: Tensor | None, theirs: Tensor, what: str = "") -> None:
    """Gradients: rtol 1e-4, atol 1e-6."""
    assert mine is not None, f"{what} got no gradient"
    torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6, msg=lambda text: f"{what}: {text}")
