"""The script that times pruning: its table, and what listening costs, on a model of no size."""

import importlib.util
import sys
from types import ModuleType

import pytest
from places import ROOT

from vlmtools.pruning._measured import Ratio


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "speed_pruning", ROOT / "benchmarks" / "speed" / "pruning.py"
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_table_has_every_budget_of_every_method(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    line = [
        "pruning.py",
        "--tiny",
        "--rounds",
        "4",
        "--tokens",
        "1",
        "--only",
        "hiprune:fill=diverse",
        "grid",
    ]
    monkeypatch.setattr(sys, "argv", line)
    script.main()
    said = capsys.readouterr().out.splitlines()
    rows = [row.split(" | ") for row in said if row.startswith(("| hiprune", "| grid"))]
    assert [row[1] for row in rows] == ["all", "again", "0.333", "0.222", "0.111"] * 2
    assert [row[2] for row in rows[:5]] == ["64", "64", "21", "14", "7"]
    assert said[-1].startswith("Listening to two layers adds ")


def test_extra_time_is_told_in_percent_and_the_interval_goes_up(script: ModuleType) -> None:
    said = script.block({}, Ratio(0.97, 0.96, 0.98), "").splitlines()[-1]
    assert said == "Listening to two layers adds +3.1 % [+2.0, +4.2] to encoding."


def test_the_inputs_fill_the_prompt_with_one_picture(script: ModuleType) -> None:
    config = script.config_of(tiny=False)
    batch = script.inputs_of(config)
    assert batch["input_ids"].shape == (1, 576 + script.N_TEXT)
    assert int((batch["input_ids"] == config.image_token_id).sum()) == 576
