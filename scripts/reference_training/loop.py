"""The training loop: accelerate, a curve as JSONL, a checkpoint every few minutes, resumable."""

import json
import math
import time
from pathlib import Path
from random import Random
from typing import Any

import torch
from accelerate import Accelerator

from reference_training.models import Learner, opened, saved
from reference_training.stages import Stage

SAVE_EVERY_S = 240.0


def train(stage: Stage, out: Path, steps: int | None = None, threads: int = 2) -> Path:
    """Train one stage, or go on with it.

    Args:
        stage: What to train.
        out: Folder of all stages.
        steps: Instead of the stage's own number.
        threads: CPU threads.
    """
    torch.set_num_threads(threads)
    folder, n_steps = out / stage.name, steps or stage.steps
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / "done.json").exists():
        print(f"{stage.name}: done already")
        return folder
    torch.manual_seed(stage.first_scene)
    accelerator = Accelerator()
    learner = opened(stage, out)
    optimizer = torch.optim.AdamW(learner.parameters(), lr=stage.rate, betas=(0.9, 0.98), weight_decay=0.02)
    learner, optimizer = accelerator.prepare(learner, optimizer)
    first = _resumed(accelerator, folder)
    kept = began = time.monotonic()
    with (folder / "curve.jsonl").open("a", encoding="utf-8") as curve:
        for step in range(first, n_steps):
            for group in optimizer.param_groups:
                group["lr"] = stage.rate * _share(step, n_steps)
            losses = _step(stage, step, learner, optimizer, accelerator)
            if step % 10 == 0 or step == n_steps - 1:
                left = (time.monotonic() - began) / (step - first + 1) * (n_steps - step - 1)
                curve.write(json.dumps({"step": step, **losses, "eta_s": round(left)}) + "\n")
                curve.flush()
                print(f"{stage.name} {step}/{n_steps}", losses, f"ETA {left / 60:.1f} min", flush=True)
            if time.monotonic() - kept > SAVE_EVERY_S:
                _keep(accelerator, folder, step + 1)
                kept = time.monotonic()
    saved(accelerator.unwrap_model(learner), folder)
    (folder / "done.json").write_text(json.dumps({"steps": n_steps, "scenes": n_steps * stage.n_scenes}))
    return folder


def _step(stage: Stage, step: int, learner: Learner, optimizer: Any, accelerator: Any) -> dict[str, float]:
    draw = Random(f"{stage.name}-{step}")
    start = stage.first_scene + step * stage.n_scenes
    batch = (
        learner_of(learner)
        .batch(list(stage.world.scenes(stage.n_scenes, start)), draw)
        .to(accelerator.device)
    )
    losses = learner(batch)
    total = sum(losses.values())
    optimizer.zero_grad()
    accelerator.backward(total)
    accelerator.clip_grad_norm_(learner.parameters(), 1.0)
    optimizer.step()
    return {name: round(float(loss.detach()), 4) for name, loss in losses.items()}


def learner_of(prepared: Any) -> Learner:
    """The learner below accelerate's wrapper, if there is one."""
    found: Learner = getattr(prepared, "module", prepared)
    return found


def _share(step: int, n_steps: int) -> float:
    warm = min(60, n_steps // 8)
    if step < warm:
        return (step + 1) / warm
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, n_steps - warm)))


def _keep(accelerator: Any, folder: Path, step: int) -> None:
    # two places in turn, so that a stop while writing leaves the other whole
    number = int((folder / "latest").read_text().split()[0]) if (folder / "latest").exists() else 0
    place = 1 - number
    accelerator.save_state(folder / f"state-{place}", safe_serialization=False)
    (folder / "latest.new").write_text(f"{place} {step}")
    (folder / "latest.new").replace(folder / "latest")


def _resumed(accelerator: Any, folder: Path) -> int:
    if not (folder / "latest").exists():
        return 0
    place, step = (folder / "latest").read_text().split()
    accelerator.load_state(folder / f"state-{place}")
    return int(step)
