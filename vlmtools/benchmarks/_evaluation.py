"""The result of scoring answers: metrics with intervals, the rows behind them, and what produced both."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from statistics import NormalDist

import numpy as np
from jaxtyping import Float

from vlmtools.benchmarks.base import Benchmark, Row, Total
from vlmtools.errors import BadInput, suggest
from vlmtools.types import Json

N_BOOT = 2000


@dataclass(frozen=True, slots=True)
class Metric:
    """A value with its interval.

    Args:
        value: A rate in [0, 1] unless the benchmark's `units` say otherwise; NaN where it is undefined.
        ci: Interval from resampling clusters of rows.
    """

    value: float = float("nan")
    ci: tuple[float, float] = (float("nan"), float("nan"))

    def to_json(self) -> dict[str, Json]:
        """As JSON, where NaN does not exist."""
        return {"value": _number(self.value), "ci": [_number(end) for end in self.ci]}


@dataclass(frozen=True)
class Evaluation:
    """One model's answers to one benchmark, scored.

    Args:
        bench: The benchmark's name.
        protocol: The rule used.
        metrics: Name → value with interval, the headline first.
        n: Answers scored.
        unparsed: Those of them that the rule, or for a rule that reads anything a careful reader, could not read.
        record: Everything that reproduces the numbers, controls and warnings among it.
        rows: One per answer.
    """

    bench: str = ""
    protocol: str = ""
    metrics: Mapping[str, Metric] = field(default_factory=dict)
    n: int = 0
    unparsed: int = 0
    record: Mapping[str, Json] = field(default_factory=dict)
    rows: tuple[Row, ...] = ()

    def to_json(self, full: bool = False) -> dict[str, Json]:
        """As JSON.

        Args:
            full: With the rows.
        """
        found: dict[str, Json] = {
            "bench": self.bench,
            "protocol": self.protocol,
            "metrics": {name: metric.to_json() for name, metric in self.metrics.items()},
            "n": self.n,
            "unparsed": self.unparsed,
            "record": dict(self.record),
        }
        return found | {"rows": [row.to_json() for row in self.rows]} if full else found

    @classmethod
    def from_json(cls, data: Json, where: str = "the evaluation") -> "Evaluation":
        """Read what `to_json(full=True)` gave.

        Args:
            data: The parsed JSON.
            where: What to call it in messages.

        Raises:
            BadInput: It is something else.
        """
        try:
            metrics = {name: _metric(one) for name, one in data["metrics"].items()}
            rows = tuple(_row(one) for one in data.get("rows", ()))
            return cls(
                data["bench"], data["protocol"], metrics, data["n"], data["unparsed"], data["record"], rows
            )
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise BadInput(
                f"{where} is no evaluation ({type(error).__name__}: {error}). Evaluations are written by "
                "`vlmtools eval` and `vlmtools score --out`. Give such a folder, or its evaluation.json."
            ) from error


def summarise(
    benchmark: Benchmark, rows: Sequence[Row], level: float = 0.95, n_boot: int = N_BOOT, seed: int = 0
) -> dict[str, Metric]:
    """Every metric with an interval from resampling clusters of rows.

    The interval is a percentile interval, widened for few clusters. A rate that is the same in every resample gets the
    interval of a share of as many clusters instead, exact at 0 and 1, else Wilson's: nothing seen is not nothing there.

    Args:
        benchmark: Whose metrics.
        rows: What was scored, at least one.
        level: Coverage, between 0 and 1.
        n_boot: Resamples.
        seed: Of the resampling.

    Raises:
        BadInput: There are no rows.
    """
    from vlmtools.stats import percentile

    if not rows:
        raise BadInput(
            f"There is no answer of {benchmark.name} to score. Check the ids in the file of answers."
        )
    observed = benchmark.values(rows)
    drawn = resampled(benchmark, rows, n_boot, seed)
    n_clusters = len(set(map(_cluster, rows)))
    found = {}
    for name, value in observed.items():
        low, high = (float(end) for end in percentile(drawn[name], level, n_clusters))
        rate = name not in benchmark.units
        stuck = rate and 0 <= value <= 1 and low == high == value
        ends = _of_share(value, n_clusters, level) if stuck else (low, high)
        found[name] = Metric(value, _inside(ends) if rate else ends)
    first = [name for name in benchmark.headline if name in found]
    return {name: found[name] for name in (*first, *(name for name in found if name not in first))}


def resampled(
    benchmark: Benchmark, rows: Sequence[Row], n_boot: int = N_BOOT, seed: int = 0
) -> dict[str, Float[np.ndarray, "boot"]]:
    """Every metric in every resample; the same clusters and seed give the same draws, which pairs two runs.

    Args:
        benchmark: Whose metrics.
        rows: What was scored.
        n_boot: Resamples.
        seed: Of the resampling.
    """
    from vlmtools.stats import item_counts

    labels = sorted({_cluster(row) for row in rows})
    counts = item_counts(len(labels), n_boot, seed)
    if not benchmark.additive:
        return _one_by_one(benchmark, rows, labels, counts)
    names = sorted({name for row in rows for name in row.numbers} | {"n"})
    sums = counts.astype(float) @ _sums(rows, labels, names)
    drawn = benchmark.metrics(Total({name: sums[:, place] for place, name in enumerate(names)}))
    return {name: np.broadcast_to(np.asarray(value, dtype=float), (n_boot,)) for name, value in drawn.items()}


def direction(benchmark: Benchmark, metric: str) -> int:
    """1 where more is better, -1 where less is, 0 where neither; metrics of a part go by their name.

    Raises:
        UnknownName: Never; unknown metrics count as more is better.
    """
    base = metric.partition("/")[0]
    if {metric, base} & benchmark.neutral:
        return 0
    return -1 if {metric, base} & benchmark.lower_is_better else 1


def _cluster(row: Row) -> str:
    return row.cluster or row.id


def _sums(
    rows: Sequence[Row], labels: Sequence[str], names: Sequence[str]
) -> Float[np.ndarray, "cluster name"]:
    place = {label: number for number, label in enumerate(labels)}
    column = {name: number for number, name in enumerate(names)}
    sums = np.zeros((len(labels), len(names)))
    for row in rows:
        line = sums[place[_cluster(row)]]
        line[column["n"]] += 1
        for name, number in row.numbers.items():
            line[column[name]] += number
    return sums


def _one_by_one(
    benchmark: Benchmark, rows: Sequence[Row], labels: Sequence[str], counts: np.ndarray
) -> dict[str, Float[np.ndarray, "boot"]]:
    members: dict[str, list[Row]] = {label: [] for label in labels}
    for row in rows:
        members[_cluster(row)].append(row)
    drawn: dict[str, list[float]] = {}
    for line in counts:
        some = [row for label, often in zip(labels, line, strict=True) for row in members[label] * int(often)]
        for name, value in benchmark.values(some).items():
            drawn.setdefault(name, []).append(value)
    return {name: np.asarray(values) for name, values in drawn.items()}


def _of_share(value: float, n: int, level: float) -> tuple[float, float]:
    """Clopper and Pearson's interval when nothing, or everything, was seen; Wilson's between.

    Reference: Wilson 1927, doi:10.1080/01621459.1927.10502953.
    """
    if value in (0.0, 1.0):
        reach = 1 - ((1 - level) / 2) ** (1 / n)
        return (0.0, reach) if value == 0 else (1 - reach, 1.0)
    square = NormalDist().inv_cdf((1 + level) / 2) ** 2 / n
    middle, reach = (value + square / 2), (square * (value * (1 - value) + square / 4)) ** 0.5
    return (middle - reach) / (1 + square), (middle + reach) / (1 + square)


def _inside(ends: tuple[float, float]) -> tuple[float, float]:
    low, high = np.clip(ends, 0.0, 1.0)  # NaN stays NaN
    return float(low), float(high)


def _number(value: float) -> float | None:
    return None if value != value else float(value)


def _metric(data: Json) -> Metric:
    value, low, high = (float("nan") if one is None else float(one) for one in (data["value"], *data["ci"]))
    return Metric(value, (low, high))


def _row(data: Json) -> Row:
    known = [each.name for each in fields(Row)]
    strange = sorted(set(data) - set(known))
    if strange:
        raise ValueError(f"a row has the field {strange[0]!r}.{suggest(strange[0], known)}")
    return Row(**data)
