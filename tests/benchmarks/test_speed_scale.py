"""The benchmark of the driver's memory measures what it says, on few items."""

import importlib.util
import sys
from types import ModuleType

import pytest
from places import ROOT

from vlmtools.engine.local import Local


@pytest.fixture(scope="module")
def scale() -> ModuleType:
    spec = importlib.util.spec_from_file_location("speed_scale", ROOT / "benchmarks" / "speed" / "scale.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["speed_scale"] = module
    spec.loader.exec_module(module)
    return module


def test_answers_are_collected_and_counted(scale: ModuleType) -> None:
    told = scale.answers(300, Local())
    assert told["items"] == 300 and told["items per s"] > 0
    assert 200 < told["stored bytes per answer"] < 600


def test_a_ranking_of_three_models_has_six_votes_per_item(scale: ModuleType) -> None:
    told = scale.ranking(40)
    assert told["votes"] == 240 and told["votes per s"] > 0


def test_the_resident_memory_is_what_the_system_says(scale: ModuleType) -> None:
    before = scale.resident_bytes()
    held = bytearray(64 * 2**20)
    held[:: 2**12] = b"x" * len(held[:: 2**12])
    assert scale.resident_bytes() - before > 48 * 2**20
    assert scale.peak_bytes() >= scale.resident_bytes() * 0.9
