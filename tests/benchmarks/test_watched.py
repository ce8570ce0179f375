"""From a film on disk to a score: a tiny model is asked VideoHallucer's questions and the run says what it watched."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from clips import write_clip
from scripted import Scripted
from tiny_video_models import built

from vlmtools.benchmarks.base import load_benchmark
from vlmtools.errors import BadInput
from vlmtools.evaluate.api import evaluate
from vlmtools.evaluate.judging import asking as judged_by
from vlmtools.evaluate.run import Asking
from vlmtools.evaluate.scoring import Scoring
from vlmtools.responders.hf import HF


def test_a_videohallucer_part_is_asked_answered_and_scored(tmp_path: Path) -> None:
    place = tmp_path / "data" / "object_relation"
    (place / "videos").mkdir(parents=True)
    write_clip(place / "videos" / "a.mp4", n_frames=4, size=(48, 32))
    halves = {"basic": "yes", "hallucination": "no"}
    pair = {half: {"video": "a.mp4", "question": f"{half}?", "answer": gold} for half, gold in halves.items()}
    (place / "object_relation.json").write_text(json.dumps([pair | {"type": "subject"}]))
    model = HF(str(built(tmp_path, "qwen2_vl")), offline=True, n_frames=2, batch_size=2)
    asking = Asking(max_new_tokens=2, n_probes=0)
    found = evaluate(
        model,
        "videohallucer:part=obj_rel",
        data=tmp_path / "data",
        out=tmp_path / "run",
        asking=asking,
        scoring=Scoring(n_boot=20),
    )
    assert found.n == 2
    assert 0 <= found.metrics["both"].value <= 1
    stored = [json.loads(line) for line in (tmp_path / "run" / "answers.jsonl").read_text().splitlines()]
    assert [one["modality"] for one in stored] == [["video"], ["video"]]


QUICK = Scoring(n_boot=20)
SHORT = Asking(max_new_tokens=4, n_probes=0)


@pytest.fixture
def films(tmp_path: Path) -> Path:
    """Two films with a tone each and what a person says about them, as AVHalluBench publishes it."""
    place = tmp_path / "avhallubench"
    (place / "videos").mkdir(parents=True)
    rows = []
    for n, hertz in enumerate((440.0, 880.0)):
        write_clip(place / "videos" / f"v{n}.mp4", n_frames=6, size=(48, 32), tone_hz=hertz)
        said = {
            "visual_description": "Stripes that change.",
            "audio_description": f"A tone of {hertz:g} hertz.",
        }
        rows.append({"video_id": f"v{n}", **said})
    (place / "data.json").write_text(json.dumps(rows))
    return place


def test_avhallubench_is_watched_described_and_judged(tmp_path: Path, films: Path) -> None:
    judge = Scripted(lambda prompt: "No" if "Stripes" in prompt else None)
    bench = load_benchmark("avhallubench:task=visual")
    found = evaluate(
        HF(str(built(tmp_path, "qwen2_vl")), offline=True, n_frames=2, batch_size=2),
        bench,
        data=films,
        out=tmp_path / "run",
        asking=SHORT,
        scoring=replace(QUICK, judged=judged_by(bench, judge, tmp_path / "run" / "judge")),
    )
    assert found.n == 2 and len(judge.asked) >= 1 and found.metrics["refcheck"].value == 1
    stored = [json.loads(line) for line in (tmp_path / "run" / "answers.jsonl").read_text().splitlines()]
    assert [one["modality"] for one in stored] == [["video"], ["video"]]
    assert all(one["n_prompt_tokens"] > 10 for one in stored)


@pytest.mark.parametrize("task", ["audio", "audio-visual"])
def test_a_model_that_hears_nothing_is_told_and_nothing_is_scored(
    tmp_path: Path, films: Path, task: str
) -> None:
    model = HF(str(built(tmp_path, "qwen2_vl")), offline=True, n_frames=2)
    with pytest.raises(
        BadInput, match=r"2 of 2 items have no answer: The item has sound and .* hears nothing"
    ):
        evaluate(
            model, f"avhallubench:task={task}", data=films, out=tmp_path / "run", asking=SHORT, scoring=QUICK
        )


def test_a_film_that_cannot_be_read_is_an_outcome_of_its_own(tmp_path: Path, films: Path) -> None:
    (films / "videos" / "v1.mp4").write_bytes(b"no film")
    model = HF(str(built(tmp_path, "qwen2_vl")), offline=True, n_frames=2)
    told = {"data": films, "out": tmp_path / "run", "scoring": QUICK}
    found = evaluate(model, "avhallubench", asking=replace(SHORT, partial=True), **told)
    assert found.record["controls"]["shown"] == {"video": 1, "no_answer": 1}
    assert found.n == 1 and any(
        "calls failed" in line and "v1.mp4" in line for line in found.record["warnings"]
    )
