"""Intervals of a benchmark's metrics."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from vlmtools.benchmarks._evaluation import Evaluation, Metric, direction, resampled, summarise
from vlmtools.benchmarks.base import Benchmark, Row, Said, Total, Values, ratio, totals
from vlmtools.errors import BadInput
from vlmtools.types import Sample


@dataclass(frozen=True)
class Right(Benchmark):
    """Share of right answers; of each half, too."""

    lower_is_better: ClassVar[frozenset[str]] = frozenset({"wrong"})
    neutral: ClassVar[frozenset[str]] = frozenset({"words"})
    units: ClassVar[Mapping[str, str]] = {"words": "words"}

    def samples(self, data: Path | None) -> list[Sample]:
        return []

    def score(self, sample: Sample, said: Said) -> Row:
        return Row(sample.id)

    def metrics(self, total: Total) -> dict[str, Values]:
        return {
            "right": ratio(total["right"], total["n"]),
            "wrong": 1 - ratio(total["right"], total["n"]),
            "words": ratio(total["words"], total["n"]),
            "never": ratio(total["never"], total["nothing"], empty=float("nan")),
        }


@dataclass(frozen=True)
class OneByOne(Right):
    """The same, computed from rows."""

    additive: ClassVar[bool] = False


def rows(rights: list[int], per_cluster: int = 1) -> list[Row]:
    return [
        Row(f"{n}", numbers={"right": right, "words": 2.0 * n}, cluster=f"c{n // per_cluster}")
        for n, right in enumerate(rights)
    ]


def test_the_interval_holds_the_value_and_narrows_with_more_rows() -> None:
    few, many = (summarise(Right(), rows([0, 1, 1] * n))["right"] for n in (10, 100))
    assert few.ci[0] < few.value < few.ci[1] and many.ci[0] < many.value < many.ci[1]
    assert many.ci[1] - many.ci[0] < 0.5 * (few.ci[1] - few.ci[0])


def test_rows_of_one_picture_count_as_one_draw() -> None:
    rights = ([1] * 6 + [0] * 6) * 20
    alone, together = (summarise(Right(), rows(rights, per))["right"].ci for per in (1, 6))
    assert together[1] - together[0] > 2 * (alone[1] - alone[0])


def test_a_rate_of_nothing_seen_is_not_shown_as_certain() -> None:
    none, every = (summarise(Right(), rows([seen] * 20))["right"] for seen in (0, 1))
    assert none.ci == (0.0, pytest.approx(1 - 0.025 ** (1 / 20))) and every.ci[1] == 1.0 > every.ci[0] > 0.8


def test_rates_stay_between_zero_and_one_and_other_units_do_not() -> None:
    found = summarise(Right(), rows([0, 0, 0, 1]))
    assert 0 <= found["right"].ci[0] <= found["right"].ci[1] <= 1 and found["words"].ci[1] > 1


def test_an_undefined_metric_is_null_in_json() -> None:
    found = Evaluation("right", "official", summarise(Right(), rows([0, 1])), 2, 0, {})
    assert found.to_json()["metrics"]["never"] == {"value": None, "ci": [None, None]}


def test_metrics_computed_row_by_row_are_the_same() -> None:
    some = rows([0, 1, 1, 0, 1, 1, 1, 0], per_cluster=2)
    fast, slow = resampled(Right(), some, 40), resampled(OneByOne(), some, 40)
    np.testing.assert_allclose(fast["right"], slow["right"])


def test_the_same_seed_gives_the_same_interval_in_any_order_of_the_rows() -> None:
    some = rows([0, 1, 1, 0, 1] * 8, per_cluster=4)
    assert summarise(Right(), some)["right"] == summarise(Right(), some[::-1])["right"]


def test_directions_are_known_for_parts_too() -> None:
    assert [direction(Right(), name) for name in ("right", "wrong/half", "words")] == [1, -1, 0]


def test_nothing_to_score_is_said() -> None:
    with pytest.raises(BadInput, match="no answer"):
        summarise(Right(), [])


def test_a_name_nobody_counted_is_zero() -> None:
    assert float(totals(rows([1, 1]))["nobody"]) == 0.0 and float(totals([])["n"]) == 0.0


def test_what_is_written_is_read_back() -> None:
    found = Evaluation(
        "right", "official", {"right": Metric(0.5, (0.1, 0.9))}, 2, 1, {"a": 1}, tuple(rows([0, 1]))
    )
    again: Any = Evaluation.from_json(found.to_json(full=True))
    assert again == found


@pytest.mark.parametrize("n_clusters", [1, 8])
def test_a_rate_that_is_the_same_in_every_cluster_is_not_shown_as_certain(n_clusters: int) -> None:
    rows = [
        Row(f"{cluster}-{half}", numbers={"right": float(half)}, cluster=f"{cluster}")
        for cluster in range(n_clusters)
        for half in (0, 1)
    ]
    found = summarise(Right(), rows, n_boot=50)["right"]
    assert found.value == 0.5 and 0 < found.ci[0] < 0.5 < found.ci[1] < 1
    # Wilson's limits of a half with n trials, and the normal quantile 1.959964
    reach = 1.959964 / (2 * (n_clusters + 1.959964**2) ** 0.5)
    assert found.ci == pytest.approx((0.5 - reach, 0.5 + reach), abs=1e-6)
