"""AVHBench: does a model hear what it only sees, or see what it only hears?"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from vlmtools.benchmarks._files import read_entries
from vlmtools.benchmarks.base import Benchmark, Row, Said, Total, Values, ratio
from vlmtools.errors import BadInput
from vlmtools.scoring.avhbench import CAPTIONING, TASKS, read_answer
from vlmtools.types import Sample

ENDING = " Answer with yes or no."
"""Ours: the authors publish no wording around the question."""


@dataclass(frozen=True)
class AvhBench(Benchmark):
    """Yes/no questions about what is seen in a video and heard in its sound, and whether the two belong together.

    Per task `accuracy`, `precision`, `recall` and `f1` of the answer yes, and `yes_rate`. Without a task's name they
    are over all questions. Captions are left out: the authors score them by METEOR, CIDEr and a judge.

    Reference: arXiv:2410.18325, section 4.

    Args:
        show: Everything, or the video or the sound alone; with one of them the numbers are an ablation and say so.
    """

    show: Literal["both", "video", "audio"] = "both"

    protocols: ClassVar[Mapping[str, str]] = {
        "first_word": "the paper's metrics; an answer says the first of yes and no that stands in it as a word (ours)",
    }
    reference: ClassVar[str] = "arXiv:2410.18325"
    checked: ClassVar[str] = (
        "Only examples worked out by hand from the description; no official program for these metrics is "
        "public."
    )
    licence: ClassVar[str] = "none named (kaist-ami/AVHBench); videos from VALOR and AudioCaps"
    get: ClassVar[str] = (
        "Follow the links in the README of github.com/kaist-ami/AVHBench: the list of questions (video_id, task, text, "
        "label) as one JSON file and the videos as <video_id>.mp4."
    )
    modality: ClassVar[tuple[str, ...]] = ("video", "audio")
    notes: ClassVar[tuple[str, ...]] = (
        "No program for the yes/no metrics is public; how answers are read, and `Answer with yes or no.`, are ours.",
        "The sound is the video's own track: a model that takes no sound is not asked unless show=video.",
        "Precision, recall and F1 are of the answer yes; always yes has recall 1.",
        "Comparable: the authors' leaderboard, e.g. Video-LLaMA2 75.2 and 74.2 % accuracy on the first two tasks.",
    )
    headline: ClassVar[tuple[str, ...]] = ("accuracy", "f1", "yes_rate")
    lower_is_better: ClassVar[frozenset[str]] = frozenset({"unread"})
    text_fields: ClassVar[tuple[str, ...]] = (
        "pred",
        "prediction",
        "answer",
        "response",
        "output",
        "model_answer",
    )
    question_field: ClassVar[str] = "text"

    neutral: ClassVar[frozenset[str]] = frozenset({"yes_rate", *(f"yes_rate/{task}" for task in TASKS)})

    def samples(self, data: Path | None) -> Iterable[Sample]:
        """The questions in file order without captions; ids are `video/number`, counted within the video from 1."""
        seen: Counter[str] = Counter()
        for row in read_entries(self.find(data, "QA.json", "*qa*.json", "*.json", "*.jsonl")):
            task, question, label = (row.optional(name) for name in ("task", "text", "label"))
            if task is None or question is None or label is None:
                raise BadInput(
                    f"{row.where}: a question of AVHBench has video_id, task, text and label. {self.get}"
                )
            if task == CAPTIONING:
                continue
            video, gold = row.id("video_id"), label.strip().rstrip(".").lower()
            if gold not in ("yes", "no"):
                raise BadInput(
                    f"{row.where}: the label {label!r} of the task {task!r} is neither yes nor no."
                )
            seen[video] += 1
            shown = {kind: f"{video}.mp4" for kind in ("video", "audio") if self.show in ("both", kind)}
            yield Sample(f"{video}/{seen[video]}", question + ENDING, reference=gold,
                         extra={"task": task, "question": question, "video_id": video}, **shown)  # fmt: skip

    def score(self, sample: Sample, said: Said) -> Row:
        """The first yes or no in the answer."""
        read, gold, task = read_answer(said.text), str(sample.reference), str(sample.extra["task"])
        cell = {"yes": "tp" if gold == "yes" else "fp", "no": "tn" if gold == "no" else "fn"}.get(read or "")
        counted = {"asked": 1.0, f"gold_{gold}": 1.0, **({cell: 1.0} if cell else {"unread": 1.0})}
        return Row(
            sample.id,
            said.text,
            parsed=read,
            label=gold,
            correct=read == gold,
            numbers={**counted, **{f"{name}/{task}": value for name, value in counted.items()}},
            cluster=str(sample.extra["video_id"]),
            detail={"task": task, "question": sample.extra["question"]},
        )

    def metrics(self, total: Total) -> Mapping[str, Values]:
        """Over everything, then per task."""
        found = _rates(total, "")
        for task in sorted({name.partition("/")[2] for name in total if name.startswith("asked/")}):
            found |= _rates(total, f"/{task}")
        return {**found, "unread": ratio(total["unread"], total["asked"])}

    def warnings(self, rows: Sequence[Row]) -> Sequence[str]:
        """The ablation."""
        return (
            []
            if self.show == "both"
            else [f"Only the {self.show} of each item was given: this is an ablation."]
        )


def _rates(total: Total, end: str) -> dict[str, Values]:
    tp, fp, tn, asked = (total[f"{name}{end}"] for name in ("tp", "fp", "tn", "asked"))
    precision, recall = ratio(tp, tp + fp), ratio(tp, total[f"gold_yes{end}"])
    return {
        f"accuracy{end}": ratio(tp + tn, asked),
        f"precision{end}": precision,
        f"recall{end}": recall,
        f"f1{end}": ratio(2 * precision * recall, precision + recall),
        f"yes_rate{end}": ratio(tp + fp, asked),
    }
