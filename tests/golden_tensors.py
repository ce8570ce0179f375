"""One golden case: a json with the settings and a safetensors with every number."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor


@dataclass(frozen=True)
class Case:
    """What a pair of golden files holds."""

    path: Path
    about: dict[str, Any]
    tensors: dict[str, Tensor]

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[name]

    @property
    def config(self) -> dict[str, Any]:
        found: dict[str, Any] = self.about["config"]
        return found

    def under(self, prefix: str) -> dict[str, Tensor]:
        """The tensors whose name begins with `prefix`, without it."""
        cut = len(prefix)
        return {name[cut:]: tensor for name, tensor in self.tensors.items() if name.startswith(prefix)}

    @property
    def state(self) -> dict[str, Tensor]:
        return self.under("state.")

    @property
    def grads(self) -> dict[str, Tensor]:
        return self.under("grad.")


def read(path: Path) -> Case:
    """The case beside the json file `path`."""
    tensors = path.with_suffix(".safetensors")
    found = load_file(tensors) if tensors.is_file() else {}
    return Case(path, json.loads(path.read_text(encoding="utf-8")), found)


def known(config: Mapping[str, Any], keys: str) -> None:
    """Fail where a case has a setting that its test knows nothing about, which might mean another computation.

    Args:
        config: Settings of the case.
        keys: The settings the test uses, or knows to be plain from the shapes, with spaces between.
    """
    strange = sorted(set(config) - set(keys.split()))
    assert not strange, f"this test knows nothing of {', '.join(strange)}; it knows: {keys}"


def same_value(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours.detach(), theirs, rtol=1e-4, atol=1e-5, check_dtype=False)


def same_grad(ours: Tensor | None, theirs: Tensor) -> None:
    assert ours is not None, "no gradient arrived"
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6, check_dtype=False)
