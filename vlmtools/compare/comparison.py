"""Paired tests on evaluations of the same items, corrected for how many there are."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import comb

import numpy as np

from vlmtools.benchmarks._evaluation import N_BOOT, direction, resampled
from vlmtools.benchmarks.base import Benchmark, Row, load_benchmark
from vlmtools.compare._records import Comparison, Flip, Test
from vlmtools.compare.runs import Loaded, distinct, settings_that_differ, shared_rows
from vlmtools.errors import BadInput


def compare(
    runs: Sequence[Loaded],
    *,
    shared: bool = False,
    every_metric: bool = False,
    level: float = 0.95,
    n_boot: int = N_BOOT,
    seed: int = 0,
) -> Comparison:
    """Compare evaluations pairwise with the first of their benchmark.

    Shares of right answers are compared by the exact McNemar test; it takes items as independent, so the interval
    beside it, which is clustered, may be wider. Every other metric is compared by a bootstrap that draws the same
    clusters (pictures, pairs) for both runs. All p-values of the comparison are corrected together by Holm's method.

    Args:
        runs: At least two of one benchmark; of several benchmarks, at least two each.
        shared: Compare on the items both have, although the runs answered different ones.
        every_metric: Test all metrics, not the headline only.
        level: Coverage of the intervals, between 0 and 1.
        n_boot: Resamples.
        seed: Of the resampling.

    Raises:
        BadInput: Fewer than two runs of a benchmark, or runs that cannot be compared.
    """
    named = distinct(runs)
    tests: list[Test] = []
    flips: list[Flip] = []
    notes: list[str] = []
    for reference, *others in _groups(named):
        for other in others:
            pair = _Pair.of(reference, other, shared)
            notes += [f"{other.name} against {reference.name}: {pair.note}"] if pair.note else []
            tests += pair.tests(every_metric, level, n_boot, seed)
            flips += pair.flips()
    return Comparison(
        tuple(run.name for run in named),
        settings_that_differ(named),
        _corrected(tests),
        tuple(flips),
        tuple(dict.fromkeys(notes)),
        level,
    )


def mcnemar(gained: int, lost: int) -> float:
    """Two-sided p-value of the exact McNemar test: flips of a fair coin as uneven as these.

    Args:
        gained: Items only the second run has right.
        lost: Items only the first run has right.

    Reference: McNemar 1947, doi:10.1007/BF02295996.
    """
    n, few = gained + lost, min(gained, lost)
    tail = sum(comb(n, k) for k in range(few + 1))
    return (
        float(min(1.0, 2 * tail / 2**n)) if n < 1000 else float(min(1, (2 * tail * 10**18) // 2**n / 10**18))
    )


@dataclass(frozen=True)
class _Pair:
    """Two runs and their rows for the same items, in the same order."""

    a: Loaded
    b: Loaded
    benchmark: Benchmark
    before: list[Row]
    after: list[Row]
    note: str = ""

    @classmethod
    def of(cls, a: Loaded, b: Loaded, shared: bool) -> "_Pair":
        before, after, note = shared_rows(a, b, shared)
        said = a.found.record.get("benchmark", {})
        settings = dict(said.get("settings", {}))
        benchmark = load_benchmark(a.found.bench, protocol=a.found.protocol, **settings)
        # Resampling needs the same clusters in both runs; the items are the same, so one run's names serve.
        after = [replace(row, cluster=first.cluster) for first, row in zip(before, after, strict=True)]
        return cls(a, b, benchmark, before, after, note)

    def tests(self, every_metric: bool, level: float, n_boot: int, seed: int) -> list[Test]:
        drawn = [resampled(self.benchmark, rows, n_boot, seed) for rows in (self.before, self.after)]
        values = [self.benchmark.values(rows) for rows in (self.before, self.after)]
        wanted = [name for name in self.benchmark.headline if name in values[0]]
        names = list(values[0]) if every_metric or not wanted else wanted
        right = self._right(level, n_boot, seed) if self._binary() else None
        found = []
        for name in names:
            if name in values[1]:
                pairs = (values[0][name], values[1][name]), (drawn[0][name], drawn[1][name])
                found.append(_exactly(self._test(name, *pairs, level), right))
        same = any(test.gained is not None for test in found)
        return found if right is None or same else [right, *found]

    def flips(self) -> list[Flip]:
        return [
            Flip(self.a.found.bench, self.a.name, self.b.name, one, other)
            for one, other in zip(self.before, self.after, strict=True)
            if one.correct is not None and other.correct is not None and one.correct != other.correct
        ]

    def _binary(self) -> bool:
        return all(row.correct is not None for row in (*self.before, *self.after))

    def _right(self, level: float, n_boot: int, seed: int) -> Test:
        """The share of right answers: McNemar's p, a clustered interval."""
        rights = [
            np.array([bool(row.correct) for row in rows], dtype=float) for rows in (self.before, self.after)
        ]
        counts = _weights(self.before, n_boot, seed)
        drawn = [counts @ right / counts.sum(axis=1) for right in rights]
        values = float(rights[0].mean()), float(rights[1].mean())
        test = self._test("items right", values, (drawn[0], drawn[1]), level)
        gained = int(((rights[1] == 1) & (rights[0] == 0)).sum())
        lost = int(((rights[0] == 1) & (rights[1] == 0)).sum())
        return replace(test, p=mcnemar(gained, lost), method="exact McNemar", gained=gained, lost=lost)

    def _test(
        self, name: str, values: tuple[float, float], drawn: tuple[np.ndarray, np.ndarray], level: float
    ) -> Test:
        from vlmtools.stats import paired

        n_clusters = len({row.cluster or row.id for row in self.before})
        if np.array_equal(*drawn) and values[0] == values[1]:
            found = Test(ci=(0.0, 0.0))
        else:
            one = paired(np.stack(drawn, axis=1), np.array(values), (0, 1), level, n_clusters)[0]
            found = Test(difference=one.difference, ci=one.ci, p=one.p, detectable=one.detectable)
        way = 1 if name == "items right" else direction(self.benchmark, name)
        return replace(
            found,
            bench=self.a.found.bench,
            metric=name,
            a=self.a.name,
            b=self.b.name,
            value_a=values[0],
            value_b=values[1],
            better=way * int(np.sign(found.difference)),
        )


def _exactly(test: Test, right: Test | None) -> Test:
    """The same test with McNemar's p, when the metric is the share of right or of wrong answers under another name."""
    if right is None:
        return test
    here, low, high = (test.value_a, test.value_b), *test.ci
    same = (*here, low, high), (right.value_a, right.value_b, *right.ci)
    opposite = (*(1 - value for value in here), -high, -low), same[1]
    # The interval too: recall may equal accuracy by chance, but not in every resample.
    if not (np.allclose(*same, rtol=0, atol=1e-9) or np.allclose(*opposite, rtol=0, atol=1e-9)):
        return test
    return replace(test, p=right.p, method=right.method, gained=right.gained, lost=right.lost)


def _weights(rows: Sequence[Row], n_boot: int, seed: int) -> np.ndarray:
    from vlmtools.stats import item_counts

    labels = sorted({row.cluster or row.id for row in rows})
    place = {label: number for number, label in enumerate(labels)}
    drawn = item_counts(len(labels), n_boot, seed)
    return np.asarray(drawn[:, [place[row.cluster or row.id] for row in rows]], dtype=float)


def _groups(runs: Sequence[Loaded]) -> list[list[Loaded]]:
    by_bench: dict[str, list[Loaded]] = {}
    for run in runs:
        by_bench.setdefault(run.found.bench, []).append(run)
    alone = [bench for bench, group in by_bench.items() if len(group) < 2]
    if alone or not runs:
        said = f"There is one run of {alone[0]}" if alone else "No run was given"
        raise BadInput(f"{said}, and a comparison needs two of each benchmark. Name the other one too.")
    return list(by_bench.values())


def _corrected(tests: Sequence[Test]) -> tuple[Test, ...]:
    """Holm over everything that is tested; metrics that are neither good nor bad are shown, and count too."""
    from vlmtools.stats import holm

    p = holm([test.p for test in tests])
    return tuple(replace(test, p_holm=float(one)) for test, one in zip(tests, p, strict=True))
