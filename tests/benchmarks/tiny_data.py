"""Four or so items of every benchmark in its published layout, with a right file of answers in its official layout."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from vlmtools import registry
from vlmtools.types import Json

N = 4


class Tiny(NamedTuple):
    """A benchmark with data.

    Args:
        spec: As typed after `--bench`.
        data: What is given as `--data`.
        answers: Content of a right file of answers: entries, or one object.
        protocol: The one that needs no judge; None for the official one.
    """

    spec: str
    data: Path | None
    answers: Json
    protocol: str | None = None


def tiny(name: str, folder: Path) -> Tiny:
    """Write the data of a benchmark.

    Args:
        name: Of the benchmark.
        folder: Where to; made when it is not there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    return _WRITERS[name](folder)


def names() -> list[str]:
    """Every benchmark that reads data."""
    return [name for name in registry.names("vlmtools.benchmarks") if name != "scenes"]


def _put(path: Path, content: Json, lines: bool = False) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(row) + "\n" for row in content) if lines else json.dumps(content)
    path.write_text(text)
    return path


def _yes(n: int) -> str:
    return ("yes", "no")[n % 2]


def _said(field: str, first: int = 0, id: str = "id") -> list[dict[str, Json]]:
    return [{id: n + first, field: _yes(n).capitalize()} for n in range(N)]


def _chair(at: Path) -> Tiny:
    answers = [{"image_id": n, "caption": "A dog and a cat."} for n in range(N)]
    return Tiny("chair", _put(at / "truth.json", {f"{n}": ["dog"] for n in range(N)}), answers)


def _pope(at: Path) -> Tiny:
    rows = [
        {"question_id": n, "image": f"{n}.jpg", "text": f"Is there a {n}?", "label": _yes(n)}
        for n in range(N)
    ]
    answers = [{"question": row["text"], "answer": "Yes, there is."} for row in rows]
    return Tiny("pope", _put(at / "coco_pope_random.json", rows, lines=True), answers)


def _amber(at: Path) -> Tiny:
    rows = [{"id": n + 1, "type": "discriminative-hallucination", "truth": _yes(n)} for n in range(N - 1)]
    rows += [{"id": N, "type": "generative", "truth": ["dog"], "hallu": ["cat"]}]
    _put(at / "relation.json", {"dog": ["puppy"], "cat": []})
    (at / "safe_words.txt").write_text("photo\n")
    answers = [*_said("response", 1)[:-1], {"id": N, "response": "A dog."}]
    return Tiny("amber", _put(at / "annotations.json", rows), answers)


def _hallusionbench(at: Path) -> Tiny:
    rows = [
        {"category": "VD", "subcategory": "chart", "visual_input": "1", "set_id": "0", "figure_id": f"{n}",
         "question_id": "0", "question": f"Is it {n}?", "gt_answer": f"{n % 2}", "gt_answer_details": "It is.",
         "filename": f"./{n}.png"}
        for n in range(N)
    ]  # fmt: skip
    answers = [{**row, "model_prediction": "Yes", "gpt4v_output_gpt_check": "1"} for row in rows]
    return Tiny("hallusionbench", _put(at / "HallusionBench.json", rows), answers)


def _mme(at: Path) -> Tiny:
    lines = [f"{n // 2}.jpg\tIs it {n}?\t{_yes(n).capitalize()}\n" for n in range(N)]
    for task in ("existence", "count", "position", "color"):
        (at / f"{task}.txt").write_text("".join(lines))
    answers = [
        {"id": f"{task}/{n // 2}.jpg/{n % 2 + 1}", "response": "Yes"}
        for task in ("existence", "count", "position", "color")
        for n in range(N)
    ]
    return Tiny("mme:tasks=hallucination", at, answers)


def _mmhal(at: Path) -> Tiny:
    rows = [
        {"question": f"What is {n}?", "gt_answer": "A dog", "image_content": ["dog"], "image_id": f"{n}"}
        for n in range(N)
    ]
    answers = [{"id": n + 1, "model_answer": "A dog.", "rating": 4} for n in range(N)]
    return Tiny("mmhal_bench", _put(at / "response_template.json", rows), answers)


def _object_halbench(at: Path) -> Tiny:
    _put(at / "gt_objects.json", {f"{n}": ["dog"] for n in range(N)})
    rows = [{"image_id": f"{n}", "question": "What is there?"} for n in range(N)]
    _put(at / "obj_halbench_300.jsonl", rows, lines=True)
    answers = [{"id": n + 1, "text": "There is a large dog here.", "extract_objs": ["dog"]} for n in range(N)]
    return Tiny("object_halbench", at, answers)


def _mhalubench(at: Path) -> Tiny:
    claim = {"claim": "There is a dog.", "claim_label": "hallucination"}
    segment = {"segment": "A dog.", "segment_label": "hallucination", "claims": [claim]}
    rows = [{"image": f"{n}.jpg", "answer": "A dog.", "annotation": [segment]} for n in range(N)]
    answers = [{"id": f"{n + 1}/1", "response": "no"} for n in range(N)]
    return Tiny("mhalubench", _put(at / "MHaluBench_val-v0.2.json", rows), answers)


def _avhallubench(at: Path) -> Tiny:
    rows = [
        {"video_id": f"v{n}", "visual_description": "A dog.", "audio_description": "It barks."}
        for n in range(N)
    ]
    answers = [{"id": f"v{n}", "text": "A dog runs."} for n in range(N)]
    return Tiny("avhallubench", _put(at / "data.json", rows), answers)


def _videohallucer(at: Path) -> Tiny:
    pairs: list[dict[str, Any]] = [
        {"basic": {"video": f"{n}.mp4", "question": f"{n}?", "answer": "yes"}, "type": "subject",
         "hallucination": {"video": f"{n}.mp4", "question": f"not {n}?", "answer": "no"}}
        for n in range(N)
    ]  # fmt: skip
    data = _put(at / "object_relation" / "object_relation.json", pairs).parent.parent
    answers = json.loads(json.dumps(pairs))
    for pair in answers:
        pair["basic"]["predict"], pair["hallucination"]["predict"] = "Yes.", "No."
    return Tiny("videohallucer:part=obj_rel", data, answers)


def _eventhallusion(at: Path) -> Tiny:
    qa = [{"question": "Does it?", "answer": "No.", "prediction": "No."}]
    answers = {
        split: [{"id": f"{split}_{n}", "qa": qa, "judgement": "Yes."} for n in range(N)]
        for split in ("entire", "interleave", "misleading")
    }
    return Tiny("eventhallusion", _put(at / "truth.json", answers), answers)


def _vidhalluc(at: Path) -> Tiny:
    content = {
        f"{n}": {"video": f"{n}", "Question": "Which order?", "Correct Answer": "AB", "Model Answer": "AB"}
        for n in range(N)
    }
    return Tiny("vidhalluc:task=tsh", _put(at / "tsh.json", content).parent, content)


def _avhbench(at: Path) -> Tiny:
    rows = [
        {"video_id": f"v{n}", "task": "AV Matching", "text": f"Is it {n}?", "label": _yes(n).capitalize()}
        for n in range(N)
    ]
    answers = [{"id": f"v{n}/1", "response": "Yes"} for n in range(N)]
    return Tiny("avhbench", _put(at / "QA.json", rows), answers)


def _cmm(at: Path) -> Tiny:
    rows = [
        {"question": f"Did you see {n}?", "answer": _yes(n), "sub_category": "visual-language",
         "granularity": "object-level", "video_path": f"{n}.mp4", "audio_path": None}
        for n in range(N)
    ]  # fmt: skip
    return Tiny("cmm", _put(at / "all.jsonl", rows, lines=True), [{**row, "pred": "Yes"} for row in rows])


def _mmvp(at: Path) -> Tiny:
    rows = [
        {"Index": n + 1, "Question": f"Is it {n}?", "Options": "(a) Yes (b) No", "Correct Answer": "(a)"}
        for n in range(N)
    ]
    return Tiny("mmvp", _put(at / "Questions.json", rows), _said("response", 1), "letter")


def _cv_bench(at: Path) -> Tiny:
    rows = [
        {"idx": n, "type": "2D", "task": "Count", "filename": f"{n}.png", "question": "How many?", "source": "COCO",
         "choices": ["1", "2"], "answer": "(A)", "prompt": "How many? (A) 1 (B) 2"}
        for n in range(N)
    ]  # fmt: skip
    return Tiny("cv_bench", _put(at / "test.jsonl", rows, lines=True), _said("prediction", 0, "idx"))


def _faithscore(at: Path) -> Tiny:
    rows = [{"id": f"{n}", "answer": "A dog.", "stage 2": {"There is a dog.": 1}} for n in range(N)]
    answers = [{"id": f"{n + 1}", "answer": "A dog.", "verdicts": ["yes"]} for n in range(N)]
    return Tiny("faithscore", _put(at / "human_annotation.jsonl", rows, lines=True), answers)


_WRITERS: dict[str, Callable[[Path], Tiny]] = {
    "amber": _amber, "avhallubench": _avhallubench, "avhbench": _avhbench, "chair": _chair, "cmm": _cmm,
    "cv_bench": _cv_bench, "eventhallusion": _eventhallusion, "faithscore": _faithscore,
    "hallusionbench": _hallusionbench, "mhalubench": _mhalubench, "mme": _mme, "mmhal_bench": _mmhal, "mmvp": _mmvp,
    "object_halbench": _object_halbench, "pope": _pope, "videohallucer": _videohallucer, "vidhalluc": _vidhalluc,
}  # fmt: skip
