"""The study of trained parts, on a tiny random LLaVA."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import adapters_on_reference as script
import pytest
import tiny_models
from adapter_study import answering, table, training
from adapter_study.parts import Entry, equal_lora
from train_adapter import Settings

from vlmtools import registry
from vlmtools.adapters.base import Part

TEST = {"value_a": 0.5, "value_b": 0.25, "difference": -0.25, "ci": [-0.5, 0.125], "p": 0.01, "p_holm": 0.04}
CHANGES = dict.fromkeys(answering.SHOWN, TEST)
LOSS = {"bare": [2.0], "start": [3.0], "end": [1.0]}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("study")
    tiny_models.llava(folder / "vlm")
    settings = Settings(3, 2, 0.01, log_every=1)
    return training.Study(str(folder / "vlm"), folder / "out", 1, settings)


@pytest.mark.slow
def test_one_part_is_trained_checked_and_measured_once(study: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    found = script.run(["lora:rank=2"], study)["lora:rank=2"]
    held = {name for name, one in found["checks"].items() if one}
    assert held >= {
        "only its parameters moved", "detached, the model is what it was", "loaded is what was saved",
    }  # fmt: skip
    assert found["n_trained"] > 0 and found["seconds"] > 0
    assert set(found["changes"]) == set(answering.SHOWN)
    assert {key: len(one) for key, one in found["loss"].items()} == dict.fromkeys(LOSS, training.N_UNSEEN)
    monkeypatch.setattr(script, "taught", None)  # nothing is trained a second time
    assert script.one("lora:rank=2", study)["loss"] == found["loss"]
    assert script.known(replace(study, n=2)) == {}  # nothing was answered about two scenes


def test_a_part_the_model_has_no_place_for_is_listed_with_the_reason(study: Any) -> None:
    found = script.one("hst", study)  # four stages, two layers
    assert "fewer than the 4 stages" in found["refused"]
    assert "* `hst" in table.table({"hst": found})
    assert script.one("hst", study) == found


def test_parts_trained_otherwise_are_kept_apart(study: Any) -> None:
    others = [replace(study, training=replace(study.training, **one)) for one in ({"lr": 0.1}, {"seed": 1})]
    folders = {one.folder(Entry("lora")) for one in (study, *others)}
    assert len(folders) == 3


def test_lessons_are_made_once_are_as_many_as_asked_for_and_hold_every_caption(tmp_path: Path) -> None:
    path = training.lessons(tmp_path, 25)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(rows) >= 25 and all(Path(row["image"]).is_file() for row in rows)
    captions = [row for row in rows if "image in detail" in row["question"] or "escribe" in row["question"]]
    assert len({row["image"] for row in captions}) == len({row["image"] for row in rows})
    before = path.stat().st_mtime_ns
    assert training.lessons(tmp_path, 25) == path and path.stat().st_mtime_ns == before


@pytest.mark.parametrize("name", registry.names("vlmtools.adapters"))
def test_every_part_can_be_made_with_the_settings_of_the_study(name: str) -> None:
    part = Entry(name).made()
    assert isinstance(part, Part) and part.name == name


def test_settings_in_a_label_take_the_place_of_those_of_the_study() -> None:
    part: Any = Entry("lora:rank=3").made()
    assert part.rank == 3 and Entry("lora:rank=3").called == "lora:rank=3"


@pytest.mark.parametrize(("n", "label"), [(10, "lora:rank=1"), (290, "lora:rank=3"), (310, "lora:rank=3")])
def test_the_yardstick_has_the_closest_number_of_parameters(n: int, label: str) -> None:
    assert equal_lora(n, 100) == label


def test_the_yardstick_in_its_own_size_is_not_trained_twice() -> None:
    done = {"lora": {"n_trained": 800}}
    assert script.wanted(790, done) == "lora" and script.wanted(210, done) == "lora:rank=2"
    assert script.wanted(790, {}) is None


def test_p_values_are_corrected_over_all_parts_together() -> None:
    family = [{metric: {"p": p} for metric in answering.METRICS} for p in (0.001, 0.5)]
    answering.corrected(family)
    assert family[0]["CHAIRi"]["p_holm"] == pytest.approx(0.006) and family[1]["Recall"]["p_holm"] == 1.0


def test_the_loss_falls_if_the_last_steps_lose_less_than_the_first(tmp_path: Path) -> None:
    curve = tmp_path / "curve.jsonl"
    for losses, falls in (([3.0, 2.0, 1.0], True), ([1.0, 2.0, 1.0], False)):
        curve.write_text("".join(json.dumps({"loss": one}) + "\n" for one in losses))
        assert training.falls(curve) is falls


def test_a_line_says_what_changed_and_which_checks_failed() -> None:
    found = {
        "label": "lora", "part": "lora", "note": "", "n_trained": 73728, "seconds": 0.25, "loss": LOSS,
        "checks": {"the training loss falls": True, "loaded is what was saved": False}, "changes": CHANGES,
    }  # fmt: skip
    line = table.table({"lora": found}).splitlines()[-1]
    assert "| 73,728 | 250 | 2.000 → 3.000 → 1.000 | 0.250 (-0.250 [-0.500, +0.125]*)" in line
    assert line.endswith("| failed: loaded is what was saved |")
    equal = {
        "label": "lora:rank=1",
        "n_trained": 5,
        "changes": {**CHANGES, "Recall": {**TEST, "p_holm": 0.2}},
    }
    line = table.table({"lora": {**found, "equal": equal}}).splitlines()[-1]
    assert line == (
        "| `lora` | 73,728 | 5 | -0.250 [-0.500, +0.125]* | -0.250 [-0.500, +0.125] | -0.250 [-0.500, +0.125]* |"
    )


def test_the_benchmark_is_named_by_its_size(study: Any) -> None:
    assert replace(study, n=7).bench == "scenes:n=7,pairs=1"
