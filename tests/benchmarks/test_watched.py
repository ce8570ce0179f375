"""From a film on disk to a score: a tiny model is asked VideoHallucer's questions and the run says what it watched."""

import json
from pathlib import Path

from clips import write_clip
from tiny_video_models import built

from vlmtools.evaluate.api import evaluate
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
