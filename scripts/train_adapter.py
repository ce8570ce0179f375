"""Train a connector or an adapter of a local vision-language model on questions about pictures, and nothing else of it.

    python scripts/train_adapter.py --model path/to/vlm --adapter moh --data train.jsonl --out runs/moh --steps 500
    python scripts/train_adapter.py --model path/to/vlm --adapter mlp:depth=2 --data train.jsonl --out runs/mlp

`train.jsonl` has one row per question: {"image": "beach.jpg", "question": "How many boats?", "answer": "Two."}.
Pictures are looked for beside the file. `vlmtools list adapters` prints the names; settings follow a colon.

The loop is the Trainer of transformers. The loss counts the answers only. The folder `--out` holds
`adapter_model.safetensors` and `adapter_config.json` (load them with `vlmtools.adapters.base.load`), `curve.jsonl` with
one row per logged step, and checkpoints. The same command again goes on where it was stopped, also where it was killed.
With --bench the model is evaluated before and after: `vlmtools compare OUT/before OUT/after` says what changed.

Expected: one progress bar; the loss in `curve.jsonl` falls; the last line says where the adapter is.
"""

import argparse
import dataclasses
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from adapter_study.rows import Collate, Rows
from transformers import Trainer, TrainerCallback, TrainingArguments

import vlmtools as vt
from vlmtools import registry
from vlmtools.adapters.base import Part, load
from vlmtools.compare import compare, load_run
from vlmtools.errors import BadInput
from vlmtools.vlm import VLM

CURVE = "curve.jsonl"


@dataclass(frozen=True)
class Settings:
    """How to train.

    Args:
        steps: Optimiser steps.
        batch: Rows per step.
        lr: Peak learning rate.
        warmup: Steps until it is reached; it then falls linearly to 0.
        save_every: Steps between checkpoints.
        log_every: Steps between rows of the curve.
        seed: Decides the order of rows and the start of the adapter.
        stop_at: Stop after this step as if the process had been stopped; 0 runs to the end.
    """

    steps: int = 500
    batch: int = 4
    lr: float = 1e-3
    warmup: int = 10
    save_every: int = 100
    log_every: int = 10
    seed: int = 0
    stop_at: int = 0


class AdapterTrainer(Trainer):  # type: ignore[misc]
    """A Trainer whose checkpoints hold the adapter alone.

    Args:
        part: The connector or adapter, attached to the model.
        options: What Trainer takes.
    """

    def __init__(self, part: Part, **options: Any) -> None:
        self.part = part
        super().__init__(**options)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Write the adapter's two files."""
        self.part.save_pretrained(output_dir or self.args.output_dir)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Nothing: the adapter was loaded from the checkpoint before it was attached."""


class Curve(TrainerCallback):  # type: ignore[misc]
    """Writes one row per logged step; a resumed run drops the rows after its checkpoint.

    Args:
        path: The file.
        stop_at: Step to stop after; 0 never.
    """

    def __init__(self, path: Path, stop_at: int = 0) -> None:
        self.path, self.stop_at = path, stop_at

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Keep what the checkpoint knows about; a line that was torn when the process died is newer than that."""
        lines = self.path.read_text(encoding="utf-8").splitlines() if self.path.is_file() else []
        rows = [row for line in lines if (row := _read(line)) and row["step"] <= state.global_step]
        self.path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        """One row."""
        if logs and "loss" in logs:
            row = {"step": state.global_step, "loss": float(logs["loss"]), "lr": float(logs["learning_rate"])}
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Stop early if asked to."""
        if self.stop_at and state.global_step >= self.stop_at:
            control.should_training_stop = True


def _read(text: str) -> dict[str, Any]:
    """An object of JSON; nothing where the text breaks off."""
    try:
        found: dict[str, Any] = json.loads(text)
    except ValueError:
        return {}
    return found


def last_checkpoint(out: Path) -> Path | None:
    """The newest checkpoint that was written to its end; None for a fresh start.

    Args:
        out: The folder of the run.
    """
    # the last file that Trainer writes
    states = out.glob("checkpoint-*/trainer_state.json")
    found = [one.parent for one in states if _read(one.read_text(encoding="utf-8"))]
    return max(found, key=lambda one: int(one.name.rpartition("-")[2]), default=None)


def make(adapter: str) -> Part:
    """A connector or adapter from `name` or `name:key=value,…`.

    Args:
        adapter: What the user typed.
    """
    name, _, settings = adapter.partition(":")
    kind = registry.load("vlmtools.adapters", name, Part)  # type: ignore[type-abstract]
    return kind(**registry.settings(kind, settings))


def train(vlm: VLM, adapter: str | Part, rows: Rows, out: Path, settings: Settings = Settings()) -> Part:
    """Train, or go on training; the part comes back attached.

    Args:
        vlm: The model; everything but the part stays as it is.
        adapter: Name and settings, or a part that was never attached.
        rows: What to learn.
        out: The folder of the run.
        settings: How.
    """
    out.mkdir(parents=True, exist_ok=True)
    begun = last_checkpoint(out)
    fresh = make(adapter) if isinstance(adapter, str) else adapter
    torch.manual_seed(settings.seed)
    part = load(begun, vlm) if begun is not None else fresh.attach(vlm)
    differs = _difference(fresh, part)
    if differs:
        part.detach()
        raise BadInput(f"{out} holds a run with {differs}. Give another --out, or --restart.")
    trainer = AdapterTrainer(
        part,
        model=vlm.model,
        args=_arguments(out, settings),
        train_dataset=rows,
        data_collator=Collate(vlm),
        callbacks=[Curve(out / CURVE, settings.stop_at)],
    )
    trainer.train(resume_from_checkpoint=str(begun) if begun is not None else None)
    trainer.save_model()
    vlm.model.eval()
    return part


def _difference(asked: Part, found: Part) -> str:
    """How a part of a checkpoint differs from the one asked for; widths left out are taken from the model."""
    if asked.name != found.name:
        return f"{found.name!r}, not {asked.name!r}"
    for one in dataclasses.fields(asked):
        want, have = getattr(asked, one.name), getattr(found, one.name)
        if one.init and want != have and not (one.name in ("d_in", "d_out") and want == 0):
            return f"{one.name}={have!r}, not {want!r}"
    return ""


def compared(model: str, part: Part, out: Path, bench: str, dtype: str) -> None:
    """Evaluate before and after, and print what changed; folders that are complete are kept.

    Args:
        model: Folder or name.
        part: Trained; its files are in `out`.
        out: The folder of the run.
        bench: A benchmark, or `name:key=value,…`.
        dtype: Of the model.
    """
    from adapter_study.answering import Trained, evaluated

    before = evaluated(model, bench, out / "before", dtype=dtype)
    after = evaluated(model, bench, out / "after", Trained.of(part.name, out), dtype)
    found = compare([load_run(before), load_run(after)], every_metric=True)
    for test in found.tests:
        low, high = test.ci
        change = (
            f"{test.difference:+.3f} [{low:+.3f}, {high:+.3f}], p {test.p_holm:.3f} after Holm's correction"
        )
        print(f"{test.metric}: {test.value_a:.3f} → {test.value_b:.3f} ({change})")


def _arguments(out: Path, settings: Settings) -> TrainingArguments:
    return TrainingArguments(
        output_dir=str(out),
        max_steps=settings.steps,
        per_device_train_batch_size=settings.batch,
        learning_rate=settings.lr,
        warmup_steps=settings.warmup,
        save_steps=settings.save_every,
        save_total_limit=2,
        logging_steps=settings.log_every,
        seed=settings.seed,
        report_to=[],
        remove_unused_columns=False,  # the rows are no tensors yet
        dataloader_pin_memory=torch.cuda.is_available(),
        use_cpu=not torch.cuda.is_available(),
    )


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", required=True, help="folder or name of the vision-language model")
    parser.add_argument("--adapter", required=True, help="name, or name:key=value,…")
    parser.add_argument("--data", required=True, type=Path, help="JSONL with image, question, answer")
    parser.add_argument("--out", required=True, type=Path, help="folder of the run")
    parser.add_argument("--bench", default="", help="benchmark to evaluate on before and after: scenes:n=100")
    parser.add_argument("--dtype", default="auto", help="of the model: auto, float32, bfloat16")
    parser.add_argument(
        "--restart", action="store_true", help="throw away what --out holds of an earlier run"
    )
    for name, field in Settings.__dataclass_fields__.items():
        kind = type(field.default)
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, default=field.default)
    args = parser.parse_args()
    if args.restart and args.out.is_dir():
        for one in [*args.out.glob("checkpoint-*")]:
            shutil.rmtree(one)
        (args.out / CURVE).unlink(missing_ok=True)
        shutil.rmtree(args.out / "after", ignore_errors=True)
    vlm = vt.load(args.model, dtype=args.dtype)
    settings = Settings(**{name: getattr(args, name) for name in Settings.__dataclass_fields__})
    part = train(vlm, args.adapter, Rows(args.data), args.out, settings)
    n = sum(one.numel() for one in vlm.model.parameters() if one.requires_grad)
    print(f"{part.name}: {n:,} trained parameters, in {args.out}; the curve is {args.out / CURVE}")
    if args.bench:
        part.detach()
        compared(args.model, part, args.out, args.bench, args.dtype)


if __name__ == "__main__":
    main()
