"""Answer the test scenes without and with a trained part, and say what it changed."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from vlmtools.adapters.base import Part, load
from vlmtools.compare import compare, load_run
from vlmtools.evaluate.api import evaluate
from vlmtools.evaluate.run import Asking
from vlmtools.responders.hf import HF
from vlmtools.stats.paired import holm

METRICS = ("CHAIRi", "Recall", "accuracy")
"""Tested and corrected together, over all parts."""
SHOWN = (*METRICS, "Len")
KEPT = ("value_a", "value_b", "difference", "ci", "p", "detectable")
BATCH = 30


class Removable(Protocol):
    """Something that is on."""

    def remove(self) -> object:
        """Take it off."""


@dataclass(frozen=True)
class Trained:
    """A saved part in the place of a patch, so that a responder attaches it and its answers are stored under it.

    Args:
        name: Of the part.
        digest: Of its weights.
        folder: Where it was saved.
    """

    name: str = ""
    digest: str = ""
    folder: str = ""

    @classmethod
    def of(cls, name: str, folder: Path) -> "Trained":
        """The part saved in a folder."""
        weights = (folder / "adapter_model.safetensors").read_bytes()
        return cls(name, hashlib.sha256(weights).hexdigest()[:16], str(folder))

    def attach(self, target: Any) -> Removable:
        """Load it and switch it on."""
        return _On(load(self.folder, target))


@dataclass(frozen=True)
class _On:
    part: Part

    def remove(self) -> None:
        self.part.detach()


def evaluated(
    model: str, bench: str, folder: Path, part: Trained | None = None, dtype: str = "float32"
) -> Path:
    """The folder of an evaluation, with a part or with none; asked once.

    Args:
        model: Folder or name.
        bench: A benchmark, or `name:key=value,…`.
        folder: Of the evaluation.
        part: None for the model alone.
        dtype: Of the model.
    """
    if not (folder / "evaluation.json").exists():
        responder = HF(model, dtype=dtype, patches=[part] if part else [], batch_size=BATCH)
        evaluate(responder, bench, out=folder, asking=Asking(n_probes=0))
        responder.close()
    return folder


def change(before: Path, after: Path) -> dict[str, dict[str, Any]]:
    """Metric → what changed, with its paired interval and uncorrected p-value.

    Args:
        before: Folder of one evaluation.
        after: Folder of another, of the same scenes.
    """
    tests = compare([load_run(before), load_run(after)], every_metric=True).tests
    return {test.metric: {key: getattr(test, key) for key in KEPT} for test in tests if test.metric in SHOWN}


def corrected(changes: Sequence[dict[str, dict[str, Any]]]) -> None:
    """Add `p_holm` to every test of a family, corrected for all of them together.

    Args:
        changes: What `change` gave, one for each part.
    """
    tests = [found[metric] for found in changes for metric in METRICS]
    for test, p in zip(tests, holm([test["p"] for test in tests]), strict=True):
        test["p_holm"] = float(p)
