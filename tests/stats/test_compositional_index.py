"""CAB's index."""

import json
from pathlib import Path

import numpy as np
import pytest
from places import cases, golden_roots

from vlmtools.errors import BadInput
from vlmtools.stats.compositional_index import compositional_index, efficiency_length, standardised


@pytest.mark.golden
@pytest.mark.parametrize("path", cases(golden_roots(), "adapters/cab/*.json"))
def test_the_index_is_the_authors_to_nine_digits(path: Path) -> None:
    about = json.loads(path.read_text(encoding="utf-8"))
    kinds = list(about["task_columns"])
    for kind, case in about["cases"].items():
        row = kinds.index(kind)
        mean, spread, sign = (np.array(about[name][row], dtype=float) for name in ("mu", "sigma", "sign"))
        tasks = dict(zip(about["task_names"][kind], about["task_columns"][kind], strict=True))
        z = standardised(np.array(case["scores"]), mean, spread, sign)
        per_task, total = compositional_index(z, tasks)
        assert per_task == pytest.approx(case["per_task"], abs=1e-9)
        assert total == pytest.approx(case["total"], abs=1e-9)


def test_a_metric_that_did_not_vary_is_refused() -> None:
    with pytest.raises(BadInput, match="Leave it out"):
        standardised(np.ones(2), np.ones(2), np.array([1.0, 0.0]), np.ones(2))


def test_the_curves_cross_where_they_are_equal() -> None:
    length = efficiency_length((1.0, 0.0, 0.0), (10.0, 0.0))
    assert length == pytest.approx(10)
    assert efficiency_length((1.0, 0.0, 1.0), (0.0, 0.0)) is None
