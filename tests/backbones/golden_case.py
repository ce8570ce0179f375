"""Read one pair of golden files of a vision module, and compare with it."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from places import cases, golden_roots
from safetensors.torch import load_file
from torch import Tensor

FOR_TRAINING = {"drop_rate", "attn_drop_rate", "use_checkpoint", "use_checkpoint_stages"}
"""The authors' arguments that have no say in evaluation."""
NEUTRAL = {
    "qk_scale": None, "representation_size": None, "hybrid_backbone": None, "ape": False, "patch_norm": True,
    "use_cpe": False, "num_stages": 4,
}  # fmt: skip
"""The authors' arguments that we do not have, each with the value at which it changes nothing."""


@dataclass(frozen=True)
class Case:
    name: str
    meta: dict[str, Any]
    state: dict[str, Tensor]
    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]

    @property
    def args(self) -> Any:
        """What the authors' class was made with, without what changes nothing; any other argument is passed on."""
        stated = self.meta.get("args", {})
        if not isinstance(stated, dict):
            return stated
        same = {key for key, value in NEUTRAL.items() if key in stated and stated[key] == value}
        return {key: value for key, value in stated.items() if key not in FOR_TRAINING | same}

    def stated(self, word: str) -> int:
        """The number beside a word, where the arguments are written as text: "dim 16, heads 4" or "8 heads"."""
        found = re.search(rf"\b{word} (\d+)\b", self.args) or re.search(rf"\b(\d+) {word}\b", self.args)
        assert found, f"{self.name}.json does not say {word!r}: {self.args!r}"
        return int(found[1])

    def made(self, kind: Any, **more: Any) -> Any:
        """What `kind` makes of the stated arguments; one that it does not know is an error."""
        if isinstance(self.args, dict):
            return kind(**self.args, **more)
        return kind(*self.args, **more)


def found(folder: str, pattern: str = "*") -> Any:
    """Mark a test to run over every case of a folder."""
    return pytest.mark.parametrize("path", cases(golden_roots(), f"backbones/{folder}/{pattern}.safetensors"))


def read(path: Path) -> Case:
    tensors = load_file(path)
    meta = json.loads(path.with_suffix(".json").read_text())

    def part(prefix: str) -> dict[str, Tensor]:
        return {name[len(prefix) :]: one for name, one in tensors.items() if name.startswith(prefix)}

    return Case(path.stem, meta, part("state."), part("in."), part("out."))


def assert_close(actual: Tensor, expected: Tensor, what: str = "", spread: float | None = None) -> None:
    """Relative 1e-4, absolute 1e-4 of the spread of what is expected."""
    assert actual.shape == expected.shape, f"{what}: {tuple(actual.shape)} for {tuple(expected.shape)}"
    if not expected.is_floating_point():
        assert torch.equal(actual, expected), what
        return
    if spread is None:
        spread = float(expected.std()) if expected.numel() > 1 else float(expected.abs().max())
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4 * spread, msg=lambda m: f"{what}: {m}")


def tokens(maps: Tensor) -> Tensor:
    """(batch, channel, height, width) → (batch, position, channel)."""
    return maps.flatten(2).transpose(1, 2)


def like(maps: Tensor, expected: Tensor) -> Tensor:
    """The map in the layout of what is expected."""
    return tokens(maps) if expected.ndim == 3 else maps
