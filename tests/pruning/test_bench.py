"""What a pruner saves, measured: counts that are known exactly, ratios whose interval holds the truth."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models
from matrix import inputs, tiny
from typer.testing import CliRunner

from vlmtools.cli import app
from vlmtools.errors import BadInput
from vlmtools.pruning._bench import measure, ratio
from vlmtools.pruning._cost import Shape, cache_bytes
from vlmtools.pruning._measured import STAGES, Measured, markdown, screen
from vlmtools.pruning._spec import parse_keeps, parse_method
from vlmtools.pruning.divprune import DivPrune


@pytest.fixture(scope="module", params=["llava", "qwen2_5_vl"])
def rows(request: pytest.FixtureRequest) -> list[Measured]:
    return measured(request.param)


def measured(kind: str) -> list[Measured]:
    return measure(tiny(kind), inputs(kind), DivPrune(), [0.5, 0.25], n_new=2, rounds=4)


def test_the_cache_is_as_large_as_theory_says_at_every_budget(rows: list[Measured]) -> None:
    for row in rows:
        assert row.facts.cache_bytes == row.facts.cache_bytes_theory > 0
    sizes = [row.facts.cache_bytes / row.facts.n_prompt for row in rows]
    assert len(set(sizes)) == 1


def test_counted_operations_lie_between_theory_and_theory_with_all_keys(rows: list[Measured]) -> None:
    for row in rows:
        assert row.facts.flops_theory <= row.facts.flops < 1.5 * row.facts.flops_theory
    assert rows[0].facts.flops == rows[1].facts.flops > rows[2].facts.flops > rows[3].facts.flops


def test_visual_tokens_go_and_text_stays(rows: list[Measured]) -> None:
    whole, again, half, fourth = (row.facts for row in rows)
    assert whole == again
    assert whole.n_visual > half.n_visual > fourth.n_visual > 0
    assert len({one.n_prompt - one.n_visual for one in (whole, half, fourth)}) == 1


def test_every_budget_has_times_and_every_one_but_the_first_ratios(rows: list[Measured]) -> None:
    assert [row.way for row in rows] == ["all", "again", "0.5", "0.25"]
    for row in rows:
        stages = [row.median_ms[stage] for stage in STAGES]
        assert 0 < stages[0] < stages[1] < stages[2]
    assert not rows[0].faster and all(set(row.faster) == set(STAGES) for row in rows[1:])
    assert markdown(rows).count("\n") == 5 and len(screen(rows).splitlines()) == 5


def test_a_ratio_is_taken_within_rounds_so_that_a_slow_round_does_not_widen_it() -> None:
    slow = np.array([1.0, 9.0, 1.0, 4.0, 1.0, 30.0])
    found = ratio(2 * slow, slow)
    assert (found.low, found.value, found.high) == pytest.approx((2, 2, 2))
    jitter = ratio(2 * slow * np.array([0.9, 1.1, 0.8, 1.2, 1.0, 1.05]), slow)
    assert jitter.low < 2 < jitter.high and jitter.low < jitter.value < jitter.high


def test_the_model_is_as_it_was_afterwards() -> None:
    model = tiny("llava")
    before = set(vars(model)), sum(len(part._forward_hooks) for part in model.modules())
    measured("llava")
    assert (set(vars(model)), sum(len(part._forward_hooks) for part in model.modules())) == before


def test_too_few_rounds_and_several_prompts_are_refused() -> None:
    with pytest.raises(BadInput, match="at least 4 rounds"):
        measure(tiny("llava"), inputs("llava"), DivPrune(), [0.5], rounds=2)
    with pytest.raises(BadInput, match="Give one prompt"):
        measure(tiny("llava"), inputs("llava", ((5,), (6,))), DivPrune(), [0.5])


def test_budgets_and_method_are_read_from_the_command_line() -> None:
    assert parse_keeps("0.5, 64,0.5") == (0.5, 64.0)
    assert parse_method("hiprune:alpha=0.2").alpha == 0.2  # type: ignore[attr-defined]
    for wrong in ("1", "0", "half", "2.5", ""):
        with pytest.raises(BadInput, match="--keep"):
            parse_keeps(wrong)
    with pytest.raises(BadInput, match="Leave keep out"):
        parse_method("hiprune:keep=0.5")


def line(folder: Path, *more: str) -> Any:
    asked = ["bench", "prune", str(folder), "--prune", "divprune", "--keep", "0.5", "--side", "28"]
    few = ["--rounds", "4", "--tokens", "2", "--offline", "--device-map", "cpu"]
    done = CliRunner().invoke(app, [*asked, *few, *more], catch_exceptions=False)
    assert done.exit_code == 0
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.llava(tmp_path_factory.mktemp("bench") / "llava")


def test_the_table_names_every_budget_and_how_it_was_measured(folder: Path) -> None:
    said = line(folder)
    assert [row.split()[0] for row in said.splitlines()[1:4]] == ["all", "again", "0.5"]
    assert "medians of 4 rounds" in said


def test_the_record_holds_everything_as_json(folder: Path) -> None:
    found = json.loads(line(folder, "--json"))
    assert found["pruner"] == "divprune" and found["rounds"] == 4 and found["device"] == "cpu"
    assert [row["facts"]["n_visual"] for row in found["rows"]] == [16, 16, 8]
    assert set(found["rows"][2]["faster"]["prefill"]) == {"value", "low", "high"}


def test_theory_knows_the_width_of_a_number() -> None:
    shape = Shape.of(tiny("llava").config)
    assert cache_bytes(shape, 10, 4) == 2 * cache_bytes(shape, 10)
