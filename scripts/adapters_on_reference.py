"""Does training a small part help a model that hallucinates? Every connector and adapter, where the truth is known.

    python scripts/adapters_on_reference.py
    python scripts/adapters_on_reference.py --model reference:weak-vision --only lora moh lora:rank=1 --n 200

Each part is attached to the model and trained on truthful answers about training scenes, the model itself frozen; then
captions and yes-or-no questions of test scenes are answered without and with it. Checked on the way: the training loss
falls, nothing but the part moved, detaching gives back every bit, what is saved loads to the same outputs. The table
shows the loss on lessons that were not trained on, of the bare model, with the part at its start and at its end, always
in evaluation mode. Sizes are about 74,000 trained parameters where a size can be chosen; every part is also compared
with a LoRA that trains as many. The same line goes on where it was stopped, part by part and step by step, and parts
asked for with --only join those that are done. Writes OUT/results.json and prints Markdown tables; a star is a
difference with p < .05 after Holm's correction over all parts and the three metrics. Times are of one core's work, so
that a busy machine lengthens them less.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from adapter_study.answering import change, corrected
from adapter_study.parts import YARDSTICK, Entry, equal_lora
from adapter_study.table import table
from adapter_study.training import Study, answered, taught
from train_adapter import Settings

from vlmtools import registry
from vlmtools.errors import BadInput

Found = dict[str, Any]


def one(label: str, study: Study) -> Found:
    """Train, check and answer with one part, or say why that cannot be; done once.

    Args:
        label: Of the part.
        study: How.
    """
    entry = Entry(label)
    path = study.folder(entry) / "result.json"
    if not path.exists():
        try:
            found = taught(entry, study)
        except BadInput as refusal:
            found = {"label": label, "part": entry.called, "note": entry.note, "refused": str(refusal)}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(found, indent=1), encoding="utf-8")
    found = _read(path)
    if "refused" not in found:
        answered(study, entry)
    return found


def _read(path: Path) -> Found:
    found: Found = json.loads(path.read_text(encoding="utf-8"))
    return found


def known(study: Study) -> dict[str, Found]:
    """Label → result of every part that is done, those of the study's sizes first.

    Args:
        study: How they were trained.
    """
    paths = study.folder(Entry()).parent.glob("*/result.json")
    results = {found["label"]: found for found in map(_read, paths)}
    return {
        label: results[label]
        for label in sorted(results, key=lambda one: (":" in one, results[one].get("n_trained", 0), one))
        if "refused" in results[label] or answers(study, label).exists()
    }


def answers(study: Study, label: str) -> Path:
    """The file that says a part's test scenes are answered.

    Args:
        study: What is asked.
        label: Of the part.
    """
    return study.folder(Entry(label)) / f"scenes-{study.n}" / "evaluation.json"


def compared(results: Mapping[str, Found], study: Study) -> None:
    """Add to each part what it changed, and how it stands to a LoRA of its size where that one is done.

    Args:
        results: Label → result.
        study: What was asked.
    """
    done = {label: found for label, found in results.items() if "refused" not in found}
    for label, found in done.items():
        found["changes"] = change(answered(study), answered(study, Entry(label)))
        other = None if Entry(label).name == YARDSTICK else _yardstick(found, done)
        if other is not None:
            gaps = change(answered(study, Entry(other)), answered(study, Entry(label)))
            found["equal"] = {"label": other, "n_trained": done[other]["n_trained"], "changes": gaps}
    corrected([found["changes"] for found in done.values()])
    corrected([found["equal"]["changes"] for found in done.values() if "equal" in found])


def _yardstick(found: Found, done: Mapping[str, Found]) -> str | None:
    label = wanted(found["n_trained"], done)
    return label if label in done else None


def wanted(n_trained: int, done: Mapping[str, Found]) -> str | None:
    """Label of the LoRA of this size; None before any LoRA is done.

    Args:
        n_trained: Parameters of the part.
        done: Label → result.
    """
    if YARDSTICK not in done:
        return None
    rank = Entry(YARDSTICK).made().rank
    label = equal_lora(n_trained, done[YARDSTICK]["n_trained"] // rank)
    return YARDSTICK if label == f"{YARDSTICK}:rank={rank}" else label


def run(labels: Sequence[str], study: Study) -> dict[str, Found]:
    """Do what is missing, then all that is known, compared.

    Args:
        labels: Parts; none stands for all and the LoRAs of their sizes.
        study: How.
    """
    answered(study)
    for label in labels or [YARDSTICK, *registry.names("vlmtools.adapters")]:
        _say(label, one(label, study))
    if not labels:
        done = {label: found for label, found in known(study).items() if "refused" not in found}
        for label in sorted({wanted(found["n_trained"], done) or YARDSTICK for found in done.values()}):
            _say(label, one(label, study))
    results = known(study)
    compared(results, study)
    return results


def _say(label: str, found: Found) -> None:
    print(label, "refused" if "refused" in found else "done", flush=True)


def main() -> None:
    """Do what is missing, then print the tables."""
    study = Study()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default=study.model, help="Bundled model, hub name or folder.")
    parser.add_argument("--only", nargs="*", default=[], help="Parts, or name:key=value,…; all by default.")
    parser.add_argument("--steps", type=int, default=study.training.steps)
    parser.add_argument("--batch", type=int, default=study.training.batch)
    parser.add_argument("--lr", type=float, default=study.training.lr)
    parser.add_argument("--seed", type=int, default=study.training.seed)
    parser.add_argument("--n", type=int, default=study.n, help="Test scenes.")
    parser.add_argument("--out", type=Path, default=study.out)
    given = parser.parse_args()
    training = Settings(given.steps, given.batch, given.lr, seed=given.seed, log_every=1)
    study = replace(study, model=given.model, out=given.out, n=given.n, training=training)
    results = run(given.only, study)
    (study.home / "results.json").write_text(json.dumps(results, indent=1), encoding="utf-8")
    print(table(results))


if __name__ == "__main__":
    main()
