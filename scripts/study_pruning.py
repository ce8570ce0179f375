"""What token pruning costs in truth: accuracy, CHAIR and recall against the share of visual tokens kept.

    python scripts/study_pruning.py reference:clean reference:habits-many
    python scripts/study_pruning.py path/to/model --n 200 --only hiprune hiprune:positions=original random

For each model every pruner at every budget captions the same drawn scenes and answers the same yes-or-no questions, and
`random` does so with several seeds: a method that does not beat random choice has no use. Each run is resumed by the
same line and lies in runs/pruning/MODEL/METHOD-KEEP; differences to the unpruned model and to random come with paired
95 % intervals over scenes. Writes runs/pruning/results.json and docs/pruning-study.svg, prints Markdown tables.

Drawn scenes say how methods compare on pictures of few, clear things; they say nothing about photographs or text in
pictures.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from vlmtools.benchmarks._evaluation import Evaluation
from vlmtools.benchmarks.base import Row
from vlmtools.compare import load_run
from vlmtools.errors import VlmToolsError
from vlmtools.evaluate.api import evaluate
from vlmtools.evaluate.run import Asking
from vlmtools.pruning._spec import parse_method
from vlmtools.registry import names
from vlmtools.report._study import Column, Point, small_multiples
from vlmtools.responders.hf import HF
from vlmtools.stats.resample import item_counts, percentile

KEEPS = (0.5, 0.33, 0.22, 0.11, 0.05)
METRICS = {"accuracy": ("right", "asked"), "CHAIRi": ("invented", "named"), "Recall": ("captured", "there")}
"""Shown metric → the sums over a scene that it is the ratio of."""
TITLES = {
    "accuracy": "Accuracy ↑",
    "CHAIRi": "CHAIR_i ↓",
    "Recall": "Recall ↑",
}
RANDOM = "random"


@dataclass(frozen=True)
class Value:
    """One metric at one budget.

    Args:
        value: As it is.
        ci: 95 % interval over scenes.
        change: Difference to the unpruned model.
        change_ci: Its paired interval.
        over_random: Difference to the mean of the random seeds at this budget; None without them.
        over_random_ci: Its paired interval.
    """

    value: float = 0.0
    ci: tuple[float, float] = (0.0, 0.0)
    change: float = 0.0
    change_ci: tuple[float, float] = (0.0, 0.0)
    over_random: float | None = None
    over_random_ci: tuple[float, float] | None = None


@dataclass(frozen=True)
class Runs:
    """Sums by scene of one method at one budget; several seeds are averaged.

    Args:
        sums: Metric → (seed, scene, 2): what is counted, and out of how many.
    """

    sums: dict[str, np.ndarray]

    def values(self, metric: str, counts: np.ndarray) -> np.ndarray:
        """The metric in every resample of scenes, a mean over seeds.

        Args:
            metric: Its name.
            counts: How often each scene is drawn in each resample.
        """
        totals = np.einsum("bs,rsk->brk", counts, self.sums[metric])
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray((totals[..., 0] / totals[..., 1]).mean(1))


def methods(only: Sequence[str], seeds: int) -> dict[str, tuple[str, ...]]:
    """Name → settings to run: every pruner as it comes, random with several seeds.

    Args:
        only: Limit to these, with settings where typed; empty for all.
        seeds: Of random.
    """
    wanted = list(only) or names("vlmtools.pruning")
    plain = {name: (name,) for name in wanted if name != RANDOM}
    drawn = tuple(f"{RANDOM}:seed={seed}" for seed in range(seeds))
    return plain | ({RANDOM: drawn} if RANDOM in wanted and drawn else {})


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


def gathered(found: Sequence[Evaluation]) -> Runs:
    """Sums by scene of several seeds, scenes in the same order.

    Args:
        found: Evaluations of the same questions.
    """
    sums = {
        metric: np.array([_by_scene(one.rows, *parts) for one in found]) for metric, parts in METRICS.items()
    }
    return Runs(sums)


def _by_scene(rows: Sequence[Row], top: str, bottom: str) -> list[tuple[float, float]]:
    scenes: dict[str, list[float]] = {}
    for row in rows:
        pair = scenes.setdefault(str(row.cluster), [0.0, 0.0])
        numbers = dict(row.numbers)
        numbers["captured"] = numbers.get("named", 0.0) - numbers.get("invented", 0.0)
        pair[0] += numbers.get(top, 0.0)
        pair[1] += numbers.get(bottom, 0.0)
    return [(scenes[key][0], scenes[key][1]) for key in sorted(scenes)]


def judged(one: Runs, base: Runs, chance: Runs | None, n_boot: int = 4000) -> dict[str, Value]:
    """Every metric with its intervals, all from the same resamples of scenes.

    Args:
        one: A method at a budget.
        base: The unpruned model.
        chance: Random choice at the same budget.
        n_boot: Resamples.
    """
    n = next(iter(base.sums.values())).shape[1]
    draws, once = item_counts(n, n_boot), np.ones((1, n))
    return {metric: _value(one, base, chance, metric, draws, once) for metric in METRICS}


def _value(
    one: Runs, base: Runs, chance: Runs | None, metric: str, draws: np.ndarray, once: np.ndarray
) -> Value:
    def both(other: Runs | None) -> tuple[float, tuple[float, float]]:
        less = [0.0 if other is None else other.values(metric, counts) for counts in (once, draws)]
        low, high = percentile(one.values(metric, draws) - less[1], n_items=draws.shape[1])
        return float((one.values(metric, once) - less[0])[0]), (float(low), float(high))

    value, change = both(None), both(base)
    if chance is None or chance is one:
        return Value(*value, *change)
    return Value(*value, *change, *both(chance))


def study(model: str, given: argparse.Namespace) -> dict[str, Any]:
    """Method → budget → metric → value, or a refusal; `unpruned` has one budget, 1.

    Args:
        model: Name or folder.
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
    wanted = methods(given.only, given.seeds)
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
            print(model, name, keep, "done", flush=True)
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


def main() -> None:
    """Run what is missing, then write and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="+")
    parser.add_argument("--n", type=int, default=80, help="Scenes.")
    parser.add_argument("--pairs", type=int, default=1, help="Pairs of questions per scene and sampling.")
    parser.add_argument("--keep", type=float, nargs="*", default=list(KEEPS), help="Shares below 1.")
    parser.add_argument("--only", nargs="*", default=[], help="NAME or NAME:key=value,…; all by default.")
    parser.add_argument("--seeds", type=int, default=3, help="Of random.")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--out", type=Path, default=Path("runs/pruning"))
    parser.add_argument("--svg", type=Path, default=Path("docs/pruning-study.svg"))
    given = parser.parse_args()
    results = {model: study(model, given) for model in given.models}
    plain = json.dumps(results, indent=1, default=asdict)
    (given.out / "results.json").write_text(plain, encoding="utf-8")
    shown = list(columns(results))
    rows = sorted({name for column in shown for name in column.curves})
    given.svg.write_text(small_multiples(shown, rows), encoding="utf-8")
    for model, found in results.items():
        for metric in METRICS:
            print(f"\n`{model}`, {given.n} scenes\n\n{table(found, given.keep, metric)}")


if __name__ == "__main__":
    main()
