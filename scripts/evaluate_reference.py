"""Every bundled model on held-out scenes: a Markdown table with intervals.

    python scripts/evaluate_reference.py --n 1000
    python scripts/evaluate_reference.py --n 300 --split novel

Runs `vlmtools eval` for each model on the benchmark `scenes` (which resumes) and prints CHAIR_i beside recall and
length, and the accuracy of yes-or-no questions with random, popular and adversarial absent things.
"""

import argparse
from pathlib import Path

from vlmtools.benchmarks._evaluation import Evaluation, Metric
from vlmtools.bundled import PREFIX, bundled
from vlmtools.compare import load_run
from vlmtools.evaluate.api import evaluate
from vlmtools.evaluate.run import Asking
from vlmtools.responders.hf import HF

SHOWN = (
    "CHAIRi",
    "CHAIRs",
    "Recall",
    "accuracy/random",
    "accuracy/popular",
    "accuracy/adversarial",
    "yes_rate",
)


def cell(metric: Metric) -> str:
    """Value and interval."""
    low, high = metric.ci or (float("nan"), float("nan"))
    return f"{metric.value:.3f} [{low:.3f}, {high:.3f}]"


def table(found: dict[str, Evaluation]) -> str:
    """Markdown, one line per model."""
    lines = ["| model | " + " | ".join(SHOWN) + " | words |", "|---" * (len(SHOWN) + 2) + "|"]
    for name, one in found.items():
        cells = [cell(one.metrics[metric]) for metric in SHOWN]
        lines.append(f"| `{name}` | {' | '.join(cells)} | {one.metrics['Len'].value:.1f} |")
    return "\n".join(lines)


def main() -> None:
    """Ask what was not asked yet, then print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--n", type=int, default=1000, help="Scenes.")
    parser.add_argument("--split", choices=["test", "novel"], default="test")
    parser.add_argument("--models", nargs="*", help="Names; all bundled ones by default.")
    parser.add_argument("--out", type=Path, default=Path("runs/scenes"))
    given = parser.parse_args()
    found: dict[str, Evaluation] = {}
    for name in given.models or [f"{PREFIX}{one}" for one in bundled()]:
        folder = given.out / f"{Path(name.replace(':', '/')).name}-{given.split}-{given.n}"
        if not (folder / "evaluation.json").exists():
            bench = f"scenes:n={given.n},split={given.split}"
            evaluate(HF(name, batch_size=64), bench, out=folder, asking=Asking(n_probes=0))
        found[name] = load_run(folder).found
        print(name, "done", flush=True)
    print(table(found))


if __name__ == "__main__":
    main()
