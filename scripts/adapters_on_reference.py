"""Does training a small part help a model that hallucinates? Every connector and adapter, where the truth is known.

    python scripts/adapters_on_reference.py
    python scripts/adapters_on_reference.py --model reference:weak-vision --only lora moh --steps 400 --n 200

Each part is attached to the model and trained on truthful answers about training scenes, the model itself frozen; then
captions and yes-or-no questions of test scenes are answered without and with it. Checked on the way: the loss falls,
nothing but the part moved, detaching gives back every bit, what is saved loads to the same outputs. Where a size can be
chosen, it is chosen so that about 74,000 parameters train. The same line goes on where it was stopped, part by part and
step by step. Writes OUT/results.json and prints a Markdown table; times are of one core's work, so that a busy machine
does not lengthen them.
"""

import argparse
import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Protocol

import torch
from adapter_study.parts import called, made
from adapter_study.table import METRICS, table
from torch import Tensor
from train_adapter import CURVE, Collate, Rows, Settings, last_checkpoint, train

import vlmtools as vt
from vlmtools import registry
from vlmtools.adapters.base import Adapter, Part, load
from vlmtools.compare import compare, load_run
from vlmtools.errors import BadInput
from vlmtools.evaluate.api import evaluate
from vlmtools.evaluate.run import Asking
from vlmtools.reference.language import Annotator, lesson
from vlmtools.reference.pictures import drawn
from vlmtools.reference.world import World
from vlmtools.responders.hf import HF
from vlmtools.vlm import VLM

FIRST_SCENE = 80_000_000
"""No model was trained on scenes from here on."""
ENDS = 20
"""Steps at either end whose losses are averaged."""


@dataclass(frozen=True)
class Study:
    """What is trained, and how it is measured.

    Args:
        model: The model; it stays as it is.
        out: Folder of everything.
        n: Test scenes.
        training: Steps, batch, rate.
    """

    model: str = "reference:habits-many"
    out: Path = Path("runs/adapters")
    n: int = 60
    training: Settings = field(default_factory=lambda: Settings(steps=200, log_every=1))

    @property
    def bench(self) -> str:
        """The benchmark: one caption and six questions per scene."""
        return f"scenes:n={self.n},pairs=1"


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


def lessons(folder: Path, n_rows: int) -> Path:
    """Truthful answers about training scenes, as `train_adapter.py` reads them; made once.

    Args:
        folder: For the file and its pictures.
        n_rows: At least this many.
    """
    path, number = folder / f"lessons-{n_rows}.jsonl", FIRST_SCENE
    rows: list[dict[str, str]] = []
    if path.exists():
        return path
    while len(rows) < n_rows:
        scene = World("train").scene(number)
        image = str(drawn(scene, folder / "pictures").resolve())
        turns = lesson(scene, Annotator(), Random(f"lesson-{number}"))
        rows += [{"image": image, "question": turn.question, "answer": turn.answer} for turn in turns]
        number += 1
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path


def taught(name: str, study: Study) -> dict[str, Any]:
    """Train one part and check it; the numbers and what the checks found.

    Args:
        name: Of the part.
        study: How.

    Raises:
        BadInput: It cannot be attached to this model.
    """
    folder = study.out / name
    rows = Rows(lessons(study.out, study.training.steps * study.training.batch))
    vlm = vt.load(study.model, dtype="float32")
    probe = Collate(vlm)([rows[i] for i in range(4)])
    weights, before = _bits(vlm), _logits(vlm, probe)
    begun, clock = last_checkpoint(folder), time.process_time()
    part = train(vlm, made(name), rows, folder, study.training)
    left = study.training.steps - (int(begun.name.rpartition("-")[2]) if begun else 0)
    seconds = (time.process_time() - clock) / left if left else None
    n_trained = sum(one.numel() for one in vlm.model.parameters() if one.requires_grad)
    own = set(part.trained_in_host(vlm.model)) if isinstance(part, Adapter) else set()
    moved = _moved(weights, _bits(vlm))
    after, values = _logits(vlm, probe), {key: one.clone() for key, one in part.tensors().items()}
    part.detach()
    checks = {
        "only its parameters moved": moved <= own and _differs(values, name, vlm, study.training.seed),
        "detached, the model is what it was": not _moved(weights, _bits(vlm))
        and torch.equal(_logits(vlm, probe), before),
    }
    with load(folder, vlm):
        checks["loaded is what was saved"] = torch.equal(_logits(vlm, probe), after)
    losses = [json.loads(line)["loss"] for line in (folder / CURVE).read_text().splitlines()]
    first, last = _mean(losses[:ENDS]), _mean(losses[-ENDS:])
    return {
        **called(name), "n_trained": n_trained, "seconds": seconds,
        "loss": [first, last], "checks": {"the loss falls": last < first, **checks},
    }  # fmt: skip


def _bits(vlm: VLM) -> dict[str, Tensor]:
    """The model's own weights; a connector's part of them is the part's, not the model's."""
    return {name: one.detach().clone() for name, one in vlm.model.state_dict().items()}


def _moved(before: Mapping[str, Tensor], now: Mapping[str, Tensor]) -> set[str]:
    return {name for name, one in now.items() if name in before and not torch.equal(before[name], one)}


def _differs(values: Mapping[str, Tensor], name: str, vlm: VLM, seed: int) -> bool:
    """Whether training left the start."""
    torch.manual_seed(seed)
    with made(name).attach(vlm) as fresh:
        start = fresh.tensors()
        return any(not torch.equal(start[key], one) for key, one in values.items())


@torch.no_grad()
def _logits(vlm: VLM, batch: Mapping[str, Tensor]) -> Tensor:
    found: Tensor = vlm.model(**batch).logits
    return found


def _mean(numbers: Sequence[float]) -> float:
    return sum(numbers) / max(len(numbers), 1)


def answered(study: Study, name: str = "") -> Path:
    """The folder of the evaluation, with one part or with none.

    Args:
        study: What is asked.
        name: Of the trained part; empty for the model alone.
    """
    folder = study.out / (name or "baseline") / f"scenes-{study.n}"
    if not (folder / "evaluation.json").exists():
        patches = [Trained.of(name, study.out / name)] if name else []
        responder = HF(study.model, dtype="float32", patches=patches, batch_size=30)
        evaluate(responder, study.bench, out=folder, asking=Asking(n_probes=0))
        responder.close()
    return folder


def changes(study: Study, name: str) -> dict[str, Any]:
    """What the part changed, with paired intervals.

    Args:
        study: What was asked.
        name: Of the part.
    """
    runs = [load_run(answered(study)), load_run(answered(study, name))]
    kept = ("value_a", "value_b", "difference", "ci", "p_holm")
    found = {test.metric: asdict(test) for test in compare(runs, every_metric=True).tests}
    return {metric: {one: found[metric][one] for one in kept} for metric in METRICS}


def one(name: str, study: Study) -> dict[str, Any]:
    """Everything about one part, or why there is nothing; done once.

    Args:
        name: Of the part.
        study: How.
    """
    path = study.out / name / "result.json"
    found: dict[str, Any]
    if path.exists():
        found = json.loads(path.read_text(encoding="utf-8"))
        return found
    try:
        found = taught(name, study)
    except BadInput as refusal:
        return {**called(name), "refused": str(refusal)}
    found["changes"] = changes(study, name)
    path.write_text(json.dumps(found, indent=1), encoding="utf-8")
    return found


def main() -> None:
    """Do what is missing, then print the table."""
    study = Study()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default=study.model, help="Bundled model, hub name or folder.")
    parser.add_argument("--only", nargs="*", default=[], help="Parts; all by default.")
    parser.add_argument("--steps", type=int, default=study.training.steps)
    parser.add_argument("--batch", type=int, default=study.training.batch)
    parser.add_argument("--lr", type=float, default=study.training.lr)
    parser.add_argument("--n", type=int, default=study.n, help="Test scenes.")
    parser.add_argument("--out", type=Path, default=study.out)
    given = parser.parse_args()
    training = Settings(given.steps, given.batch, given.lr, save_every=study.training.save_every, log_every=1)
    study = Study(given.model, given.out / Path(given.model.replace(":", "/")).name, given.n, training)
    results: dict[str, dict[str, Any]] = {}
    for name in given.only or registry.names("vlmtools.adapters"):
        results[name] = one(name, study)
        print(name, "refused" if "refused" in results[name] else "done", flush=True)
    (study.out / "results.json").write_text(json.dumps(results, indent=1), encoding="utf-8")
    print(table(results))


if __name__ == "__main__":
    main()
