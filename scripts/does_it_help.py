"""Does a training-free method lower hallucination? Every patch and pruner, on models whose truth is known exactly.

    python scripts/does_it_help.py reference:habits-few reference:habits-many --n 200 --out runs/help
    python scripts/does_it_help.py reference:weak-vision --only vhr pai vcd

For each model and method: captions and yes-or-no questions of the same scenes, with and without it; the difference in
CHAIR_i, recall, length and accuracy with its paired interval; and the baseline's captions cut to the same recall, since
a method that only makes captions shorter lowers CHAIR as well. The same line goes on where it was stopped. Writes
runs/help/results.json and prints a Markdown table.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vlmtools.benchmarks.base import load_benchmark
from vlmtools.compare import compare, load_run
from vlmtools.errors import VlmToolsError
from vlmtools.evaluate.api import evaluate
from vlmtools.evaluate.run import Asking
from vlmtools.patches._files import parse_patch
from vlmtools.registry import names
from vlmtools.responders.hf import HF

METRICS = ("CHAIRi", "Recall", "Len", "accuracy/random", "accuracy/adversarial")
SETTINGS: dict[str, tuple[str, ...]] = {
    "vhr": ("vhr:strength=1.5", "vhr:strength=2"),
    "pai": ("pai:strength=0.2", "pai:strength=0.5"),
    "paint": ("paint",),
}
"""Further settings of some methods; all others are tried as they come."""


def candidates(only: Sequence[str]) -> list[str]:
    """What is tried: every patch of the project, some with several settings.

    Args:
        only: Limit to these; empty for all.
    """
    wanted = [name for name in names("vlmtools.patches") if not only or name in only]
    return [setting for name in wanted for setting in SETTINGS.get(name, (name,))]


def run(model: str, method: str | None, bench: str, out: Path) -> Path | str:
    """The evaluation's folder, or why there is none.

    Args:
        model: Name or folder.
        method: Patch as `--patch` takes it; None for the baseline.
        bench: Benchmark with its settings.
        out: Folder of all runs.
    """
    folder = (
        out / Path(model.replace(":", "/")).name / (method or "baseline").replace(":", "-").replace("=", "")
    )
    if (folder / "evaluation.json").exists():
        return folder
    try:
        responder = HF(model, patches=[parse_patch(method)] if method else [], batch_size=32)
        evaluate(responder, bench, out=folder, asking=Asking(n_probes=0))
    except VlmToolsError as refusal:
        return str(refusal)
    return folder


def row(base: Path, folder: Path) -> dict[str, Any]:
    """What the method changed, and what cutting the baseline to the same recall would have done.

    Args:
        base: The baseline's folder.
        folder: The method's.
    """
    before, after = load_run(base), load_run(folder)
    found = compare([before, after], every_metric=True)
    tests = {test.metric: test for test in found.tests if test.metric in METRICS}
    benchmark = load_benchmark(
        after.found.bench, protocol=after.found.protocol, **after.found.record["benchmark"]["settings"]
    )
    samples = {sample.id: sample for sample in benchmark.samples(None)}
    cut = benchmark.controls(samples, after.found.rows, before.found.rows)
    return {
        **{name: _test(test) for name, test in tests.items()},
        "cut": {unit: dict(cut[unit]) for unit in ("cut_by_words", "cut_by_sentences") if unit in cut},
    }


def _test(test: Any) -> dict[str, Any]:
    kept = ("value_a", "value_b", "difference", "ci", "p", "p_holm", "detectable")
    return {name: getattr(test, name) for name in kept}


def table(results: dict[str, dict[str, Any]]) -> str:
    """Markdown: one line per model and method.

    Args:
        results: Model → method → what `row` gives, or a refusal.
    """
    lines = [
        "| model | method | CHAIR_i | change [95 %] | at the baseline's cut | recall | words | random | adversarial |"
    ]
    lines.append("|---|---|---|---|---|---|---|---|---|")
    for model, methods in results.items():
        for method, found in methods.items():
            lines.append(f"| {model} | {method} | {_cells(found)} |")
    return "\n".join(lines)


def _cells(found: Any) -> str:
    if isinstance(found, str):
        return f"refused: {found.splitlines()[0]} | | | | | |"
    chair = found["CHAIRi"]
    low, high = chair["ci"]
    cut = found["cut"].get("cut_by_words", {}).get("CHAIRi")
    changes = [_changed(found[name]) for name in METRICS[1:]]
    where = "" if cut is None else f"{cut:.3f}"
    change = f"{chair['difference']:+.3f} [{low:+.3f}, {high:+.3f}]{_star(chair)}"
    return " | ".join([f"{chair['value_b']:.3f}", change, where, *changes])


def _changed(test: dict[str, Any]) -> str:
    return f"{test['value_b']:.3f} ({test['difference']:+.3f}){_star(test)}"


def _star(test: dict[str, Any]) -> str:
    return "*" if test["p_holm"] < 0.05 else ""


def main() -> None:
    """Run what is missing, then print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="+")
    parser.add_argument("--n", type=int, default=200, help="Scenes.")
    parser.add_argument("--only", nargs="*", default=[], help="Patches; all by default.")
    parser.add_argument("--out", type=Path, default=Path("runs/help"))
    given = parser.parse_args()
    bench = f"scenes:n={given.n}"
    results: dict[str, dict[str, Any]] = {}
    for model in given.models:
        base = run(model, None, bench, given.out)
        if isinstance(base, str):
            raise SystemExit(base)
        results[model] = {}
        for method in candidates(given.only):
            folder = run(model, method, bench, given.out)
            results[model][method] = folder if isinstance(folder, str) else row(base, folder)
            print(model, method, "done", flush=True)
    (given.out / "results.json").write_text(json.dumps(results, indent=1, default=str), encoding="utf-8")
    print(table(results))


if __name__ == "__main__":
    main()
