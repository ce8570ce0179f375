"""The study of trained parts, on a tiny random LLaVA."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import adapters_on_reference as script
import pytest
import tiny_models
from train_adapter import Settings

from vlmtools import registry
from vlmtools.adapters.base import Part

TEST = {"value_a": 0.5, "value_b": 0.25, "difference": -0.25, "ci": [-0.5, 0.125], "p_holm": 1.0}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("study")
    tiny_models.llava(folder / "vlm")
    return script.Study(str(folder / "vlm"), folder / "out", 1, Settings(3, 2, 0.01, log_every=1))


@pytest.mark.slow
def test_one_part_is_trained_checked_and_measured_once(study: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    found = script.one("lora", study)
    held = {name for name, one in found["checks"].items() if one}
    assert held >= {
        "only its parameters moved", "detached, the model is what it was", "loaded is what was saved",
    }  # fmt: skip
    assert found["n_trained"] > 0 and found["seconds"] > 0
    assert set(found["changes"]) == set(script.METRICS)
    monkeypatch.setattr(script, "taught", None)  # nothing is trained a second time
    assert script.one("lora", study) == json.loads((study.out / "lora" / "result.json").read_text())


def test_a_part_the_model_has_no_place_for_is_listed_with_the_reason(study: Any) -> None:
    found = script.one("hst", study)  # four stages, two layers
    assert "fewer than the 4 stages" in found["refused"]
    assert "* `hst" in script.table({"hst": found})


def test_lessons_are_made_once_and_are_as_many_as_asked_for(study: Any, tmp_path: Path) -> None:
    path = script.lessons(tmp_path, 25)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(rows) >= 25 and all(Path(row["image"]).is_file() for row in rows)
    before = path.stat().st_mtime_ns
    assert script.lessons(tmp_path, 25) == path and path.stat().st_mtime_ns == before


@pytest.mark.parametrize("name", registry.names("vlmtools.adapters"))
def test_every_part_can_be_made_with_the_settings_of_the_study(name: str) -> None:
    part = script.made(name)
    assert isinstance(part, Part) and part.name == name


def test_a_line_says_what_changed_and_which_checks_failed() -> None:
    found = {
        "part": "lora", "note": "", "n_trained": 73728, "seconds": 0.25, "loss": [1.0, 0.5],
        "checks": {"the loss falls": True, "loaded is what was saved": False},
        "changes": dict.fromkeys(script.METRICS, TEST),
    }  # fmt: skip
    line = script.table({"lora": found}).splitlines()[-1]
    assert "| 73,728 | 250 | 1.000 → 0.500 | 0.250 (-0.250 [-0.500, +0.125])" in line
    assert line.endswith("| failed: loaded is what was saved |")


def test_the_benchmark_is_named_by_its_size(study: Any) -> None:
    assert replace(study, n=7).bench == "scenes:n=7,pairs=1"
