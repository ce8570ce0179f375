"""On two real nodes `crosscheck`, `eval` and `score` with bundled models write what they write on one machine."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from judged_data import judged
from places import ROOT

from vlmtools.crosscheck.api import crosscheck
from vlmtools.engine.ray import RayData
from vlmtools.evaluate.api import evaluate
from vlmtools.evaluate.run import Asking
from vlmtools.reference.pictures import as_samples
from vlmtools.reference.world import World
from vlmtools.types import Sample

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray"),
    pytest.mark.filterwarnings("ignore::FutureWarning:ray"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


@pytest.fixture(scope="module")
def scenes() -> list[Sample]:
    return list(as_samples(list(World(split="test").scenes(10, 7000))))


def lines(folder: Path, kind: str) -> list[str]:
    return sorted((folder / f"{kind}.jsonl").read_text().split("\n"))


def test_crosscheck(cluster: Any, tmp_path: Path, scenes: list[Sample]) -> None:
    models = ["reference:clean", "reference:prior"]
    settings = {"items": scenes, "n_samples": 1, "n_boot": 50, "model": {"batch_size": 4}}
    here = crosscheck(models, out=tmp_path / "local", **settings)  # type: ignore[arg-type]
    there = crosscheck(models, out=tmp_path / "ray", engine=RayData(workers=2, block=4), **settings)  # type: ignore[arg-type]
    for kind in ("items", "answers", "votes"):
        assert lines(tmp_path / "ray", kind) == lines(tmp_path / "local", kind)
    assert (tmp_path / "ray" / "ranking.json").read_bytes() == (
        tmp_path / "local" / "ranking.json"
    ).read_bytes()
    assert there == here


def test_eval_with_its_controls(cluster: Any, tmp_path: Path) -> None:
    bench, asking = "scenes:n=6,start=7000", Asking(n_probes=2)
    options: dict[str, Any] = {"asking": asking, "model": {"batch_size": 4}}
    evaluate("reference:clean", bench, out=tmp_path / "local", **options)
    evaluate("reference:clean", bench, out=tmp_path / "ray", engine=RayData(workers=2, block=4), **options)
    for kind in ("items", "answers", "controls"):
        assert lines(tmp_path / "ray", kind) == lines(tmp_path / "local", kind)
    here, there = (json.loads((tmp_path / name / "evaluation.json").read_text()) for name in ("local", "ray"))
    assert there == here


def test_a_judge_that_is_a_model_judges_on_the_workers(
    cluster: Any, tmp_path: Path, scenes: list[Sample]
) -> None:
    models = ["reference:clean", "reference:prior"]
    settings: dict[str, Any] = {"items": scenes[:4], "n_boot": 20, "mode": "implicit", "judge": "vlm"}
    settings |= {"model": {"batch_size": 4}, "weights": "uniform"}
    crosscheck(models, out=tmp_path / "local", **settings)
    crosscheck(models, out=tmp_path / "ray", engine=RayData(workers=2, block=4), **settings)
    for kind in ("answers", "votes"):
        assert lines(tmp_path / "ray", kind) == lines(tmp_path / "local", kind)
    assert len(lines(tmp_path / "ray", "votes")) > 8


def score_by_command(folder: Path, line: list[str]) -> None:
    path = os.pathsep.join((str(ROOT), os.environ.get("PYTHONPATH", "")))
    command = [sys.executable, "-m", "vlmtools", "score", *line]
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize(
    ("bench", "n_questions"), [("faithscore", 24), ("hallusionbench", 8), ("avhallubench", 24)]
)
def test_score_with_a_judge_that_is_a_model(
    cluster: Any, tmp_path: Path, bench: str, n_questions: int
) -> None:
    made = judged(bench, tmp_path, 8)
    line = [made.answers, "--bench", bench, "--data", made.data, "--judge-model", "reference:clean"]
    score_by_command(tmp_path, [*line, "--out", "local", "--dump", "local.jsonl"])
    cluster_line = ["--engine", f"ray:{cluster.address}", "--workers", "2", "--block", "4"]
    score_by_command(tmp_path, [*line, "--out", "ray", "--dump", "ray.jsonl", *cluster_line])
    assert (tmp_path / "ray.jsonl").read_bytes() == (tmp_path / "local.jsonl").read_bytes()
    assert lines(tmp_path / "ray" / "judge", "answers") == lines(tmp_path / "local" / "judge", "answers")
    assert len(lines(tmp_path / "ray" / "judge", "answers")) == n_questions + 1
    here, there = (json.loads((tmp_path / name / "evaluation.json").read_text()) for name in ("local", "ray"))
    assert here["record"].pop("command") != there["record"].pop("command")
    assert there == here
