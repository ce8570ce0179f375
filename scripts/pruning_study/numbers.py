"""Sums by scene, ratios over scenes, and differences to the unpruned model and to random choice with intervals."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vlmtools.benchmarks._evaluation import Evaluation
from vlmtools.benchmarks.base import Row
from vlmtools.stats.resample import item_counts, percentile

METRICS = {"accuracy": ("right", "asked"), "CHAIRi": ("invented", "named"), "Recall": ("captured", "there")}
"""Shown metric → the sums over a scene that it is the ratio of."""


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
