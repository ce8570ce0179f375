"""What a comparison says: tests, answers that changed, settings that differ."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from vlmtools.benchmarks.base import Row
from vlmtools.types import Json


@dataclass(frozen=True)
class Test:
    """One metric of two runs on the same items.

    Args:
        bench: The benchmark.
        metric: The metric; `items right` is the share of right answers where no metric is that already.
        a: First run, the reference.
        b: Second run.
        value_a: Its value on the shared items.
        value_b: The other's.
        difference: b minus a.
        ci: Interval of the difference, from resampling clusters for both runs together.
        p: Two-sided p-value.
        p_holm: Corrected for all tests of the comparison.
        detectable: Smallest true difference these items would show with 80 % power.
        method: `exact McNemar` or `paired bootstrap`.
        better: 1 when b is better, -1 when it is worse, 0 when the metric is neither good nor bad, or equal.
        gained: Items only b has right; None for bootstrap tests.
        lost: Items only a has right; None for bootstrap tests.
    """

    bench: str = ""
    metric: str = ""
    a: str = ""
    b: str = ""
    value_a: float = 0.0
    value_b: float = 0.0
    difference: float = 0.0
    ci: tuple[float, float] = (0.0, 0.0)
    p: float = 1.0
    p_holm: float = 1.0
    detectable: float = 0.0
    method: str = "paired bootstrap"
    better: int = 0
    gained: int | None = None
    lost: int | None = None


@dataclass(frozen=True)
class Flip:
    """An item one run has right and the other wrong.

    Args:
        bench: The benchmark.
        a: First run.
        b: Second run.
        before: The first run's row.
        after: The second's.
    """

    bench: str = ""
    a: str = ""
    b: str = ""
    before: Row = field(default_factory=Row)
    after: Row = field(default_factory=Row)

    def to_json(self) -> dict[str, Json]:
        """Who said what about which item."""
        return {
            "bench": self.bench,
            "a": self.a,
            "b": self.b,
            "id": self.before.id,
            "gained": bool(self.after.correct),
            "truth": self.before.label,
            "answer_a": self.before.answer,
            "answer_b": self.after.answer,
        }


@dataclass(frozen=True)
class Comparison:
    """What differs between runs.

    Args:
        runs: Names, the reference of each benchmark first.
        settings: Setting → run → value, where not all agree.
        tests: Every test.
        flips: Every item whose answer became right or wrong.
        notes: What to know before reading the tests.
        level: Coverage of the intervals.
    """

    runs: tuple[str, ...] = ()
    settings: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    tests: tuple[Test, ...] = ()
    flips: tuple[Flip, ...] = ()
    notes: tuple[str, ...] = ()
    level: float = 0.95

    def to_json(self) -> dict[str, Json]:
        """As JSON."""
        return {
            "runs": list(self.runs),
            "settings": {name: dict(values) for name, values in self.settings.items()},
            "tests": [{**asdict(test), "ci": list(test.ci)} for test in self.tests],
            "flips": [flip.to_json() for flip in self.flips],
            "notes": list(self.notes),
            "level": self.level,
        }
