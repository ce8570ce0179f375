"""What token pruning costs in truth: accuracy, CHAIR and recall against the share of visual tokens kept.

    python scripts/study_pruning.py reference:clean reference:habits-many
    python scripts/study_pruning.py path/to/model --n 200 --only hiprune hiprune:fill=diverse random

For each model every pruner at every budget captions the same drawn scenes and answers the same yes-or-no questions, and
`random` does so with several seeds: a method that does not beat random choice has no use. All of it is done with kept
tokens where they were (`positions=original`) and as the methods come (`auto`): one may matter more than which tokens
stay. Each run is resumed by the same line and lies in OUT/MODEL/METHOD-KEEP; differences to the unpruned model and to
random with the same positions come with paired 95 % intervals over scenes. Writes OUT/results.json and one picture per
kind of positions, prints Markdown tables.

Drawn scenes say how methods compare on pictures of few, clear things; they say nothing about photographs or text in
pictures.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from pruning_study.numbers import METRICS, Runs, Value, gathered, judged

from vlmtools.benchmarks._evaluation import Evaluation
from vlmtools.compare import load_run
from vlmtools.errors import VlmToolsError
from vlmtools.evaluate.api import evaluate
from vlmtools.evaluate.run import Asking
from vlmtools.pruning._spec import parse_method
from vlmtools.registry import names
from vlmtools.report._study import Column, Point, small_multiples
from vlmtools.responders.hf import HF

KEEPS = (0.5, 0.33, 0.22, 0.11, 0.05)
POSITIONS = ("original", "auto")
VARIANTS = ("hiprune:fill=diverse",)
"""Run beside every method as it comes."""
TITLES = {
    "accuracy": "Accuracy ↑",
    "CHAIRi": "CHAIR_i ↓",
    "Recall": "Recall ↑",
}
RANDOM = "random"


def methods(only: Sequence[str], seeds: int, positions: str = "auto") -> dict[str, tuple[str, ...]]:
    """Name → settings to run: every pruner as it comes, random with several seeds.

    Args:
        only: Limit to these, with settings where typed; empty for all.
        seeds: Of random.
        positions: Where kept tokens say they are.
    """
    wanted = list(only) or [*names("vlmtools.pruning"), *VARIANTS]
    found: dict[str, tuple[str, ...]] = {name: (name,) for name in wanted if name != RANDOM}
    drawn = tuple(f"{RANDOM}:seed={seed}" for seed in range(seeds))
    found |= {RANDOM: drawn} if RANDOM in wanted and drawn else {}
    return {name: tuple(_placed(one, positions) for one in many) for name, many in found.items()}


def _placed(method: str, positions: str) -> str:
    if positions == "auto" or "positions=" in method:
        return method
    return f"{method}{',' if ':' in method else ':'}positions={positions}"


def run(
    model: str, method: str | None, keep: float, bench: str, out: Path, batch_size: int
) -> Evaluation | str:
    """The finished evaluation, or why there is none.

    Args:
        model: Name or folder.
        method: Pruner with settings; None for the unpruned model.
        keep: Budget.
        bench: Benchmark with its settings.
        out: Folder of the model's runs.
        batch_size: Of questions.
    """
    folder = out / ("unpruned" if method is None else f"{method.replace(':', '-')}-{keep:g}")
    if not (folder / "evaluation.json").exists():
        try:
            prune = None if method is None else replace(parse_method(method), keep=keep)
            responder = HF(model, prune=prune, batch_size=batch_size)
            evaluate(responder, bench, out=folder, asking=Asking(n_probes=0))
        except VlmToolsError as refusal:
            return str(refusal)
    return load_run(folder).found


def study(model: str, positions: str, given: argparse.Namespace) -> dict[str, Any]:
    """Method → budget → metric → value, or a refusal; `unpruned` has one budget, 1.

    Args:
        model: Name or folder.
        positions: Where kept tokens say they are.
        given: The command line.
    """
    out = given.out / Path(model.replace(":", "/")).name
    bench = f"scenes:n={given.n},pairs={given.pairs}"
    whole = run(model, None, 1.0, bench, out, given.batch_size)
    if isinstance(whole, str):
        raise SystemExit(whole)
    base = gathered([whole])
    found: dict[str, Any] = {"unpruned": {"1": judged(base, base, None)}}
    chance: dict[float, Runs] = {}
    wanted = methods(given.only, given.seeds, positions)
    for name in sorted(wanted, key=lambda one: one != RANDOM):
        found[name] = {}
        for keep in given.keep:
            done = [run(model, one, keep, bench, out, given.batch_size) for one in wanted[name]]
            refused = [one for one in done if isinstance(one, str)]
            if refused:
                found[name] = refused[0]
                break
            one = gathered([each for each in done if not isinstance(each, str)])
            if name == RANDOM:
                chance[keep] = one
            found[name][f"{keep:g}"] = judged(one, base, chance.get(keep))
            print(model, positions, name, keep, "done", flush=True)
    return found


def table(found: dict[str, Any], keeps: Sequence[float], metric: str) -> str:
    """Markdown: a line per method, a column per budget; bold is better than random beyond the interval.

    Args:
        found: Of one model.
        keeps: Budgets.
        metric: Which.
    """
    whole = found["unpruned"]["1"][metric]
    head = f"| {TITLES[metric]}; unpruned {_cell(whole)} | " + " | ".join(f"{100 * one:g} %" for one in keeps)
    lines = [head + " |", "|---" * (1 + len(keeps)) + "|"]
    for name, budgets in found.items():
        if name == "unpruned":
            continue
        if isinstance(budgets, str):
            lines.append(f"| {name} | refused: {budgets.splitlines()[0]} |" + " |" * (len(keeps) - 1))
            continue
        lines.append(
            f"| {name} | " + " | ".join(_cell(budgets[f"{one:g}"][metric], metric) for one in keeps) + " |"
        )
    return "\n".join(lines)


def _cell(value: Value, metric: str = "") -> str:
    text = f"{value.value:.3f} [{value.ci[0]:.3f}, {value.ci[1]:.3f}]"
    if value.over_random_ci is None:
        return text
    low, high = value.over_random_ci
    better = high < 0 if metric == "CHAIRi" else low > 0
    worse = low > 0 if metric == "CHAIRi" else high < 0
    return f"**{text}**" if better else f"{text} ↓" if worse else text


def columns(results: dict[str, dict[str, Any]]) -> Iterator[Column]:
    """One per model and metric.

    Args:
        results: Of all models.
    """
    for model, found in results.items():
        for metric in METRICS:
            curves = {
                name: tuple(_point(keep, found_at[metric]) for keep, found_at in budgets.items())
                for name, budgets in found.items()
                if name != "unpruned" and not isinstance(budgets, str)
            }
            chance = curves.pop(RANDOM, ())
            whole = found["unpruned"]["1"][metric].value
            yield Column(model, TITLES[metric], whole, chance, curves)


def _point(keep: str, value: Value) -> Point:
    return float(keep), value.value, *value.ci


def show(results: dict[str, dict[str, Any]], positions: str, given: argparse.Namespace) -> None:
    """Write the picture and print the tables of one kind of positions.

    Args:
        results: Model → what was found.
        positions: Where kept tokens said they were.
        given: The command line.
    """
    shown = list(columns(results))
    rows = sorted({name for column in shown for name in column.curves})
    svg = (
        given.svg if positions == given.positions[0] else given.svg.with_stem(f"{given.svg.stem}-{positions}")
    )
    svg.write_text(small_multiples(shown, rows), encoding="utf-8")
    for model, found in results.items():
        for metric in METRICS:
            table_of = table(found, given.keep, metric)
            print(f"\n`{model}`, positions={positions}, {given.n} scenes\n\n{table_of}")


def main() -> None:
    """Run what is missing, then write and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="+")
    parser.add_argument("--n", type=int, default=60, help="Scenes.")
    parser.add_argument("--pairs", type=int, default=1, help="Pairs of questions per scene and sampling.")
    parser.add_argument("--keep", type=float, nargs="*", default=list(KEEPS), help="Shares below 1.")
    parser.add_argument("--only", nargs="*", default=[], help="NAME or NAME:key=value,…; all by default.")
    parser.add_argument("--positions", nargs="*", choices=["original", "renumber", "auto"], default=POSITIONS)
    parser.add_argument("--seeds", type=int, default=3, help="Of random.")
    parser.add_argument("--batch-size", type=int, default=60)
    parser.add_argument("--out", type=Path, default=Path("runs/pruning"))
    parser.add_argument("--svg", type=Path, default=Path("docs/pruning-study.svg"))
    given = parser.parse_args()
    results = {
        positions: {model: study(model, positions, given) for model in given.models}
        for positions in given.positions
    }
    plain = json.dumps(results, indent=1, default=asdict)
    (given.out / "results.json").write_text(plain, encoding="utf-8")
    for positions, found in results.items():
        show(found, positions, given)


if __name__ == "__main__":
    main()
