"""`vlmtools eval` from end to end on a trained model: POPE's own file layout, CHAIR's, and the drawn scenes."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from vlmtools.bundled import bundled
from vlmtools.cli import app
from vlmtools.reference.pictures import drawn
from vlmtools.reference.render import picture
from vlmtools.reference.truth import probes
from vlmtools.reference.world import World

pytestmark = pytest.mark.skipif(
    "clean" not in bundled(), reason="the bundled models are not in this checkout"
)
SCENES = list(World(split="test").scenes(8, 9000))


def told(*words: str) -> dict[str, Any]:
    done = CliRunner().invoke(app, [*words, "--probes", "0", "--json"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture
def pope(tmp_path: Path) -> Path:
    """The questions of `probes` as the published files have them."""
    rows = []
    for scene in SCENES:
        drawn(scene, tmp_path)
        for probe in list(probes(scene, "adversarial"))[:2]:
            truth = "yes" if probe.present else "no"
            rows.append(
                {
                    "question_id": len(rows) + 1,
                    "image": f"{scene.id}.png",
                    "text": probe.question,
                    "label": truth,
                }
            )
    file = tmp_path / "coco_pope_adversarial.json"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


@pytest.fixture
def chair(tmp_path: Path) -> Path:
    """Objects per picture by COCO's numbers, the pictures named as COCO names them."""
    for number, scene in enumerate(SCENES):
        picture(scene).save(tmp_path / f"COCO_val2014_{number:012d}.jpg", quality=95)
    file = tmp_path / "gt_objects.json"
    file.write_text(json.dumps({str(number): list(scene.names) for number, scene in enumerate(SCENES)}))
    return file


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
