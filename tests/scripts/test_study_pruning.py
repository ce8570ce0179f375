"""The study of pruners: paired intervals by scene, seeds averaged, and a picture that holds every method."""

import importlib.util
import sys
import xml.etree.ElementTree as ET
from types import ModuleType

import numpy as np
import pytest
from places import ROOT

from vlmtools import registry
from vlmtools.benchmarks._evaluation import Evaluation
from vlmtools.benchmarks.base import Row
from vlmtools.report._study import Column, small_multiples


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("study_pruning", ROOT / "scripts" / "study_pruning.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["study_pruning"] = module
    spec.loader.exec_module(module)
    return module


def answers(right: list[int]) -> Evaluation:
    """Two questions and a caption per scene; the number of right answers of each."""
    rows = []
    for scene, n in enumerate(right):
        for question in range(2):
            numbers = {"asked": 1.0, "right": float(question < n)}
            rows.append(Row(id=f"{scene}-{question}", numbers=numbers, cluster=f"s{scene}"))
        caption = {"named": 2.0, "invented": float(2 - n), "there": 4.0}
        rows.append(Row(id=f"{scene}-caption", numbers=caption, cluster=f"s{scene}"))
    return Evaluation(rows=tuple(rows))


def test_every_metric_is_the_ratio_of_sums_over_scenes(script: ModuleType) -> None:
    base = script.gathered([answers([2, 2, 2, 2])])
    found = script.judged(script.gathered([answers([2, 1, 2, 1])]), base, None)
    assert {name: one.value for name, one in found.items()} == {
        "accuracy": 0.75,
        "CHAIRi": 0.25,
        "Recall": 0.375,
    }
    assert found["accuracy"].change == -0.25 and found["accuracy"].over_random is None


def test_differences_are_paired_so_what_all_share_does_not_widen_them(script: ModuleType) -> None:
    hard = [0, 2] * 10
    base = script.gathered([answers([2, 2] * 10)])
    found = script.judged(script.gathered([answers(hard)]), base, script.gathered([answers(hard)]))[
        "accuracy"
    ]
    assert found.ci[0] < 0.5 < found.ci[1]
    assert found.over_random == 0 and found.over_random_ci == (0.0, 0.0)


def test_random_is_the_mean_of_its_seeds(script: ModuleType) -> None:
    base = script.gathered([answers([2, 2])])
    seeds = script.gathered([answers([0, 0]), answers([2, 2])])
    assert script.judged(seeds, base, seeds)["accuracy"].value == 0.5
    assert seeds.values("accuracy", np.ones((3, 2))).shape == (3,)


def test_what_is_run_follows_the_registry_and_what_is_typed(script: ModuleType) -> None:
    every = script.methods([], 2)
    assert every["random"] == ("random:seed=0", "random:seed=1") and every["hiprune"] == ("hiprune",)
    assert every.keys() > {*registry.names("vlmtools.pruning")}, "variants come on top"
    assert script.methods(["grid:positions=original"], 3) == {
        "grid:positions=original": ("grid:positions=original",)
    }


def test_positions_are_added_to_what_is_run_but_not_to_its_name(script: ModuleType) -> None:
    found = script.methods(
        ["grid", "hiprune:fill=diverse", "cdpruner:positions=renumber", "random"], 1, "original"
    )
    assert found == {
        "grid": ("grid:positions=original",),
        "hiprune:fill=diverse": ("hiprune:fill=diverse,positions=original",),
        "cdpruner:positions=renumber": ("cdpruner:positions=renumber",),
        "random": ("random:seed=0,positions=original",),
    }


def test_a_cell_marks_what_beats_random_and_what_random_beats(script: ModuleType) -> None:
    def cell(low: float, high: float, metric: str) -> str:
        said: str = script._cell(script.Value(0.5, (0.4, 0.6), over_random_ci=(low, high)), metric)
        return said

    assert cell(0.1, 0.2, "accuracy").startswith("**") and cell(-0.2, -0.1, "CHAIRi").startswith("**")
    assert cell(-0.2, -0.1, "accuracy").endswith("↓") and cell(0.1, 0.2, "CHAIRi").endswith("↓")
    assert cell(-0.1, 0.1, "accuracy") == "0.500 [0.400, 0.600]"


def column() -> Column:
    chance = ((0.5, 0.8, 0.7, 0.9), (0.1, 0.6, 0.5, 0.7))
    return Column(
        "a <model>", "Accuracy", 0.95, chance, {"grid": ((0.1, 0.7, 0.6, 0.8), (0.5, 0.9, 0.85, 0.95))}
    )


def test_the_picture_is_well_formed_and_holds_each_method_once_per_column() -> None:
    found = ET.fromstring(small_multiples([column(), column()], ["grid", "gone"]))
    texts = [one.text for one in found.iter("{http://www.w3.org/2000/svg}text")]
    assert texts.count("grid") == texts.count("gone") == 1 and texts.count("a <model>") == 2
    lines = [one for one in found.iter() if one.get("class") == "line mine"]
    assert len(lines) == 2, "a method that was refused has an empty panel"
    assert len([one for one in found.iter() if one.get("class") == "line chance"]) == 4


def test_settings_stand_below_the_name_so_that_neither_is_cut_off() -> None:
    found = ET.fromstring(small_multiples([column()], ["hiprune:fill=diverse"]))
    shown = {one.text: float(one.get("y", "")) for one in found.iter("{http://www.w3.org/2000/svg}text")}
    assert shown["fill=diverse"] > shown["hiprune"]


def test_a_curve_runs_from_few_tokens_on_the_left_to_the_unpruned_model() -> None:
    found = ET.fromstring(small_multiples([column()], ["grid"]))
    line = next(one.get("d", "") for one in found.iter() if one.get("class") == "line mine")
    places = [tuple(map(float, one.split())) for one in line[1:].split("L")]
    assert len(places) == 3 and sorted(places) == places
    assert places[0][1] > places[1][1] > places[2][1], "higher values lie higher"
    levels = {float(one.get("y1", "")) for one in found.iter() if one.get("class") == "whole"}
    assert any(abs(places[2][1] - level) < 0.1 for level in levels)
