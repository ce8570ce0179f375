"""CHAIR of caption files beside what makes a low value cheap, as a Markdown table.

    python scripts/caption_controls.py ../shared/data/chair/captions/*.jsonl.gz \
        --truth ../shared/data/chair/coco_gt_objects.json.gz --baseline greedy

Files called MODEL_METHOD are grouped by model. The file of the baseline method is cut, word by word, until it recalls
no more than each other method: only what lies below CHAIR of the cut baseline is more than saying less. `p` is of the
difference in CHAIRs to the uncut baseline on the same pictures (exact McNemar), corrected by Holm's method for the
headline metrics of that pair.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path

from vlmtools.benchmarks._evaluation import Evaluation
from vlmtools.benchmarks.base import load_benchmark
from vlmtools.compare import Loaded, compare
from vlmtools.evaluate.scoring import Scoring, score_file

HEAD = "| captions | CHAIRs | CHAIRi | Recall | F1 | words | degenerate | baseline cut: CHAIRs, CHAIRi | p |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--truth", required=True, type=Path)
    parser.add_argument("--baseline", default="greedy")
    asked = parser.parse_args()
    paths = {path.name.partition(".jsonl")[0]: path for path in sorted(asked.files)}
    found: dict[str, Evaluation] = {}
    for name, path in paths.items():
        base = paths.get(f"{name.rpartition('_')[0]}_{asked.baseline}")
        compared = None if base == path else base
        found[name] = score_file(
            path, load_benchmark("chair"), asked.truth, baseline=compared, setting=Scoring()
        )
    print(f"{HEAD}\n|{'---|' * 9}")
    for name in found:
        print(row(name, found, asked.baseline))


def row(name: str, found: Mapping[str, Evaluation], baseline: str) -> str:
    """One line of the table; rates in %, with the half width of the interval."""
    metrics, controls = found[name].metrics, found[name].record["controls"]
    cells = [f"{100 * metrics[key].value:.1f} ± {50 * (metrics[key].ci[1] - metrics[key].ci[0]):.1f}"
             for key in ("CHAIRs", "CHAIRi", "Recall", "F1")]  # fmt: skip
    cut = controls.get("cut_by_words")
    base = f"{name.rpartition('_')[0]}_{baseline}"
    pair = [Loaded(one, Path(one), found[one]) for one in (base, name)] if cut else []
    p = (
        next((f"{test.p_holm:.2g}" for test in compare(pair).tests if test.metric == "CHAIRs"), "")
        if pair
        else ""
    )
    shown = f"{100 * cut['CHAIRs']:.1f}, {100 * cut['CHAIRi']:.1f}" if cut else ""
    more = (f"{metrics['Len'].value:.0f}", f"{100 * metrics['Rep'].value:.1f}", shown, p)
    return f"| {name.replace('_', ' ')} | {' | '.join((*cells, *more))} |"


if __name__ == "__main__":
    main()
