"""`vlmtools eval` from end to end on a trained model: POPE's own file layout, CHAIR's, and the drawn scenes."""

import json
from pathlib import Path
from typing import Any

import layouts
import pytest
from typer.testing import CliRunner

from vlmtools.bundled import bundled
from vlmtools.cli import app

pytestmark = pytest.mark.skipif(
    "clean" not in bundled(), reason="the bundled models are not in this checkout"
)


def told(*words: str) -> dict[str, Any]:
    done = CliRunner().invoke(app, [*words, "--probes", "0", "--json"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture
def pope(tmp_path: Path) -> Path:
    return layouts.pope(tmp_path)


@pytest.fixture
def chair(tmp_path: Path) -> Path:
    return layouts.chair(tmp_path)


def test_pope_on_a_trained_model_is_far_from_chance(pope: Path, tmp_path: Path) -> None:
    found = told(
        "eval", "reference:clean", "--bench", "pope:split=adversarial", "--data", str(pope),
        "--images", str(tmp_path), "--out", str(tmp_path / "run"),
    )  # fmt: skip
    assert found["n"] == 16 and found["unparsed"] == 0
    assert found["metrics"]["accuracy"]["value"] > 0.7


def test_chair_of_captions_written_just_now(chair: Path, tmp_path: Path) -> None:
    found = told(
        "eval", "reference:clean", "--bench", "chair", "--data", str(chair), "--images", str(tmp_path),
        "--max-new-tokens", "96", "--out", str(tmp_path / "run"),
    )  # fmt: skip
    assert (
        found["n"] == 8
        and found["metrics"]["Recall"]["value"] > 0.7 > 0.2 > found["metrics"]["CHAIRi"]["value"]
    )


@pytest.mark.parametrize("change", [(), ("--patch", "pai:strength=0.1"), ("--prune", "hiprune:keep=0.5")])
def test_scenes_with_and_without_a_patch_or_a_pruner(change: tuple[str, ...], tmp_path: Path) -> None:
    found = told("eval", "reference:clean", "--bench", "scenes:n=4", "--out", str(tmp_path / "run"), *change)
    assert found["n"] == 4 * 7
    assert 0 <= found["metrics"]["CHAIRi"]["value"] <= 0.5 < found["metrics"]["Recall"]["value"]
