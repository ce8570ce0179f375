"""Data and answers of benchmarks whose judge is a model, made up, with pictures by relative path."""

import json
from pathlib import Path
from typing import NamedTuple

from vlmtools.media import load_image
from vlmtools.reference.pictures import as_samples
from vlmtools.reference.world import World
from vlmtools.types import Json

KINDS = ("faithscore", "hallusionbench", "avhallubench")


class Judged(NamedTuple):
    """What stands behind `vlmtools score`.

    Args:
        bench: Name.
        data: File name in the folder.
        answers: File name in the folder.
    """

    bench: str
    data: str
    answers: str


def judged(bench: str, folder: Path, n: int) -> Judged:
    """Write `n` items and their answers.

    Args:
        bench: One of `KINDS`.
        folder: Where to.
        n: Items; each has one question (hallusionbench) or three (the others) for the judge.
    """
    made = {"faithscore": _faithscore, "hallusionbench": _hallusionbench, "avhallubench": _avhallubench}
    data, answers = made[bench](folder, n)
    (folder / "answers.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in answers))
    return Judged(bench, data, "answers.jsonl")


def _faithscore(folder: Path, n: int) -> tuple[str, list[Json]]:
    scenes = as_samples(list(World(split="test").scenes(n, 7000)))
    facts = ["There is a dog.", "There is an apple on the left.", "It looks like a kitchen."]
    rows = []
    for number, scene in enumerate(scenes):
        load_image(str(scene.image)).save(folder / f"{number}.png")
        rows.append({"id": f"p{number}", "image": f"{number}.png", "answer": "A kitchen.", "facts": facts})
    (folder / "annotation.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return "annotation.jsonl", [{"answer": row["answer"]} for row in rows]


def _hallusionbench(folder: Path, n: int) -> tuple[str, list[Json]]:
    rows = [
        {"category": "VD", "subcategory": "chart", "visual_input": "1", "set_id": "0", "figure_id": f"{k}",
         "question_id": "0", "question": f"Is it {k}?", "gt_answer": f"{k % 2}", "gt_answer_details": "It is.",
         "filename": f"./{k}.png"}
        for k in range(n)
    ]  # fmt: skip
    (folder / "HallusionBench.json").write_text(json.dumps(rows))
    return "HallusionBench.json", [{**row, "model_prediction": "Yes, it is."} for row in rows]


def _avhallubench(folder: Path, n: int) -> tuple[str, list[Json]]:
    rows = [
        {"video_id": f"v{k}", "visual_description": f"{k} dogs run.", "audio_description": "It barks."}
        for k in range(n)
    ]
    (folder / "data.json").write_text(json.dumps(rows))
    said = "A dog runs. There are {} cats. They sleep."
    return "data.json", [{"id": row["video_id"], "text": said.format(k)} for k, row in enumerate(rows)]
