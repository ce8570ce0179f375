"""Train one part on truthful answers, check what must hold, and answer the test scenes with it."""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from train_adapter import CURVE, Settings, last_checkpoint, train

import vlmtools as vt
from adapter_study.answering import Trained, evaluated
from adapter_study.parts import Entry
from adapter_study.rows import IGNORED, Collate, Rows
from vlmtools.adapters.base import Adapter, Part, load
from vlmtools.reference.language import Annotator, Turn, lesson
from vlmtools.reference.pictures import drawn
from vlmtools.reference.world import World
from vlmtools.vlm import VLM

FIRST_SCENE, FIRST_UNSEEN = 80_000_000, 85_000_000
"""No model was trained on scenes from the first on, no part on scenes from the second on."""
PER_SCENE = 4
"""Rows of one scene: its caption and others drawn at random."""
N_UNSEEN = 96
"""Rows whose loss is measured before and after."""
ENDS = 20
"""Steps at either end whose training losses are averaged."""


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

    @property
    def home(self) -> Path:
        """Folder of the model."""
        return self.out / Path(self.model.replace(":", "/")).name

    def folder(self, entry: Entry) -> Path:
        """Of one part, trained this way.

        Args:
            entry: The part.
        """
        one = self.training
        return self.home / f"{one.steps}x{one.batch}-lr{one.lr:g}-seed{one.seed}" / entry.folder


def answered(study: Study, entry: Entry | None = None) -> Path:
    """The folder of the evaluation, with one part or with none; answered once.

    Args:
        study: What is asked.
        entry: The trained part; None for the model alone.
    """
    home = study.folder(entry) if entry else study.home / "baseline"
    part = Trained.of(entry.name, home) if entry else None
    return evaluated(study.model, study.bench, home / f"scenes-{study.n}", part)


def lessons(folder: Path, n_rows: int, first: int = FIRST_SCENE) -> Path:
    """Truthful answers about training scenes, as `train_adapter.py` reads them; made once.

    Args:
        folder: For the file and its pictures.
        n_rows: At least this many.
        first: Number of the first scene.
    """
    path, number = folder / f"lessons-{first}-{n_rows}.jsonl", first
    rows: list[dict[str, str]] = []
    if path.exists():
        return path
    while len(rows) < n_rows:
        scene = World("train").scene(number)
        image = str(drawn(scene, folder / "pictures").resolve())
        draw = Random(f"lesson-{number}")
        turns = _some(lesson(scene, Annotator(), draw), draw)
        rows += [{"image": image, "question": turn.question, "answer": turn.answer} for turn in turns]
        number += 1
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path


def _some(turns: Sequence[Turn], draw: Random) -> list[Turn]:
    return [turns[0], *draw.sample(turns[1:], PER_SCENE - 1)]


def taught(entry: Entry, study: Study) -> dict[str, Any]:
    """Train one part and check it; the numbers and what the checks found.

    Args:
        entry: The part.
        study: How.

    Raises:
        BadInput: It cannot be attached to this model.
    """
    folder = study.folder(entry)
    unseen = Rows(lessons(study.home, N_UNSEEN, FIRST_UNSEEN))
    vlm = vt.load(study.model, dtype="float32")
    bare = Bare.of(vlm, unseen)
    loss = {"bare": losses(vlm, unseen), "start": _start(entry, vlm, unseen, study.training.seed)}
    part, seconds = _timed(entry, vlm, study)
    n_trained = sum(one.numel() for one in vlm.model.parameters() if one.requires_grad)
    loss["end"] = losses(vlm, unseen)
    checks = {"the training loss falls": falls(folder / CURVE), **bare.checks(vlm, part, entry, study)}
    return {
        "label": entry.label, "part": entry.called, "note": entry.note, "n_trained": n_trained,
        "seconds": seconds, "loss": loss, "checks": checks,
    }  # fmt: skip


def _timed(entry: Entry, vlm: VLM, study: Study) -> tuple[Part, float | None]:
    """The part, trained and attached, and the seconds of a step; None where nothing was left to train."""
    folder, one = study.folder(entry), study.training
    rows = Rows(lessons(study.home, one.steps * one.batch))
    begun, clock = last_checkpoint(folder), time.process_time()
    part = train(vlm, entry.made(), rows, folder, one)
    left = one.steps - (int(begun.name.rpartition("-")[2]) if begun else 0)
    return part, (time.process_time() - clock) / left if left else None


@dataclass(frozen=True)
class Bare:
    """The model before anything was attached.

    Args:
        weights: All its tensors.
        batch: A few prompts.
        logits: Its answer to them.
    """

    weights: Mapping[str, Tensor]
    batch: Mapping[str, Tensor]
    logits: Tensor

    @classmethod
    def of(cls, vlm: VLM, rows: Rows) -> "Bare":
        """Remember a model.

        Args:
            vlm: With no part attached.
            rows: The first four are the prompts.
        """
        batch = Collate(vlm)([rows[i] for i in range(4)])
        return cls(_bits(vlm), batch, _logits(vlm, batch))

    def checks(self, vlm: VLM, part: Part, entry: Entry, study: Study) -> dict[str, bool]:
        """What must hold of a trained part; it is detached on the way.

        Args:
            vlm: The model.
            part: Attached.
            entry: How a fresh one is made.
            study: Where it was saved.
        """
        own = set(part.trained_in_host(vlm.model)) if isinstance(part, Adapter) else set()
        moved, after = self.moved(vlm), _logits(vlm, self.batch)
        values = {key: one.clone() for key, one in part.tensors().items()}
        part.detach()
        as_before = not self.moved(vlm) and torch.equal(_logits(vlm, self.batch), self.logits)
        with load(study.folder(entry), vlm):
            loaded = torch.equal(_logits(vlm, self.batch), after)
        return {
            "only its parameters moved": moved <= own and _differs(values, entry, vlm, study.training.seed),
            "detached, the model is what it was": as_before,
            "loaded is what was saved": loaded,
        }

    def moved(self, vlm: VLM) -> set[str]:
        """Names of the model's own tensors that differ by any bit.

        Args:
            vlm: The model.
        """
        now = vlm.model.state_dict().items()
        return {n for n, one in now if n in self.weights and not torch.equal(self.weights[n], one)}


def falls(curve: Path) -> bool:
    """Whether the last steps lost less than the first ones, in the mode that was trained.

    Args:
        curve: What training wrote, one row per step.
    """
    rows = [float(json.loads(line)["loss"]) for line in curve.read_text(encoding="utf-8").splitlines()]
    n = min(ENDS, len(rows) // 2)
    return sum(rows[-n:]) < sum(rows[:n])


def _start(entry: Entry, vlm: VLM, rows: Rows, seed: int) -> list[float]:
    """Losses with the part as it begins."""
    torch.manual_seed(seed)
    with entry.made().attach(vlm):
        return losses(vlm, rows)


@torch.no_grad()
def losses(vlm: VLM, rows: Rows, batch: int = 16) -> list[float]:
    """The loss of each row's answer, in nats per token.

    Args:
        vlm: The model, with or without a part; in evaluation mode.
        rows: Questions and answers.
        batch: Rows at a time.
    """
    return [one for some in _batches(rows, batch) for one in _row_losses(vlm, Collate(vlm)(some)).tolist()]


def _batches(rows: Rows, size: int) -> Iterator[list[dict[str, str]]]:
    for first in range(0, len(rows), size):
        yield [rows[i] for i in range(first, min(first + size, len(rows)))]


def _row_losses(vlm: VLM, batch: Mapping[str, Tensor]) -> Tensor:
    logits, labels = _logits(vlm, batch)[:, :-1], batch["labels"][:, 1:]
    each = F.cross_entropy(logits.mT, labels, reduction="none", ignore_index=IGNORED)
    return each.sum(1) / (labels != IGNORED).sum(1)


def _bits(vlm: VLM) -> dict[str, Tensor]:
    """The model's own weights; a connector's part of them is the part's, not the model's."""
    return {name: one.detach().clone() for name, one in vlm.model.state_dict().items()}


def _differs(values: Mapping[str, Tensor], entry: Entry, vlm: VLM, seed: int) -> bool:
    """Whether training left the start."""
    torch.manual_seed(seed)
    with entry.made().attach(vlm) as fresh:
        start = fresh.tensors()
        return any(not torch.equal(start[key], one) for key, one in values.items())


@torch.no_grad()
def _logits(vlm: VLM, batch: Mapping[str, Tensor]) -> Tensor:
    found: Tensor = vlm.model(**batch).logits
    return found
