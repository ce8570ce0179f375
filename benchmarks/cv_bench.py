"""CV-Bench: counting, spatial relation, depth and distance, as multiple choice over known pictures."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from vlmtools.benchmarks._files import read_entries
from vlmtools.benchmarks.base import Benchmark, Row, Said, Total, Values, ratio
from vlmtools.errors import BadInput
from vlmtools.responders._rows import Row as Entry
from vlmtools.scoring import multiple_choice as rule
from vlmtools.types import Sample

_SOURCES = ("ADE20K", "COCO", "Omni3D")
_TASKS = ("Count", "Relation", "Depth", "Distance")
_LETTERS = "ABCDEF"


@dataclass(frozen=True)
class CvBench(Benchmark):
    """Half the mean of ADE20K and COCO (2D) plus half Omni3D (3D), which is not the share of right answers.

    Reference: arXiv:2406.16860, section 3.3.
    """

    protocols: ClassVar[Mapping[str, str]] = {
        "official": "a leading letter, bracketed or not, even when it begins a word; there is no official reader",
        "lenient": "a letter that stands alone, or the text of one choice",
    }
    reference: ClassVar[str] = "arXiv:2406.16860"
    checked: ClassVar[str] = (
        "Only examples worked out by hand from the description; the official evaluation was not run."
    )
    licence: ClassVar[str] = "Apache-2.0 (nyu-visionx/CV-Bench); pictures from ADE20K, COCO and Omni3D"
    get: ClassVar[str] = (
        "Copy test_2d.jsonl and test_3d.jsonl (2,638 questions; older releases: test.jsonl) and the folder img/ from "
        "the data set nyu-visionx/CV-Bench."
    )
    notes: ClassVar[tuple[str, ...]] = (
        "The score weighs 2D and 3D alike, and ADE20K and COCO alike within 2D; some papers print the plain share.",
        "The authors name no rule for reading free answers; toolkits read a leading letter.",
    )
    headline: ClassVar[tuple[str, ...]] = ("overall", "2d", "3d")
    max_new_tokens: ClassVar[int] = 32
    id_fields: ClassVar[tuple[str, ...]] = ("id", "idx", "question_id")
    text_fields: ClassVar[tuple[str, ...]] = ("prediction", "response", "text", "output", "answer")
    question_field: ClassVar[str] = "question"

    def samples(self, data: Path | None) -> Iterable[Sample]:
        """The questions of both halves; ids are their `idx`."""
        for path in self._paths(self.need(data)):
            for entry in read_entries(path):
                yield _sample(entry)

    def _paths(self, place: Path) -> list[Path]:
        if place.is_file():
            return [place]
        halves = [place / f"test_{half}.jsonl" for half in ("2d", "3d")]
        return (
            halves
            if all(path.is_file() for path in halves)
            else [self.find(place, "test.jsonl", "test_2d.jsonl")]
        )

    def score(self, sample: Sample, said: Said) -> Row:
        """One answer by its letter."""
        choices = sample.extra["choices"]
        letters = _LETTERS[: len(choices)]
        lenient = self.protocol == "lenient"
        letter = (
            rule.clear_letter(said.text, choices, letters)
            if lenient
            else rule.first_letter(said.text, letters)
        )
        right = float(letter == sample.reference)
        parts = (sample.extra["source"], sample.extra["task"])
        return Row(
            sample.id,
            said.text,
            parsed=letter,
            label=sample.reference,
            correct=bool(right),
            numbers={
                "right": right,
                **{f"n/{p}": 1.0 for p in parts},
                **{f"right/{p}": right for p in parts},
            },
            cluster=sample.image or "",
            detail={"question": sample.prompt, "source": parts[0], "task": parts[1]},
        )

    def metrics(self, total: Total) -> Mapping[str, Values]:
        """The score, its halves, and each source and task."""
        each = {
            f"accuracy/{part}": ratio(total[f"right/{part}"], total[f"n/{part}"], empty=float("nan"))
            for part in (*_SOURCES, *_TASKS)
            if f"n/{part}" in total
        }
        nothing = ratio(0.0, total["n"] * 0, empty=float("nan"))
        two_d = (each.get("accuracy/ADE20K", nothing) + each.get("accuracy/COCO", nothing)) / 2
        three_d = each.get("accuracy/Omni3D", nothing)
        overall = (two_d + three_d) / 2
        return {
            "overall": overall,
            "2d": two_d,
            "3d": three_d,
            "accuracy": ratio(total["right"], total["n"]),
            **each,
        }


def _sample(entry: Entry) -> Sample:
    fields = entry.fields
    missing = [name for name in ("prompt", "answer", "choices", "source", "task") if name not in fields]
    if missing or fields["source"] not in _SOURCES or not isinstance(fields["choices"], list):
        what = (
            f"lacks {missing[0]!r}"
            if missing
            else f"has source {fields['source']!r} and choices {fields['choices']!r}"
        )
        raise BadInput(
            f"{entry.where} {what}. CV-Bench's rows have a list of choices; sources: {', '.join(_SOURCES)}."
        )
    id = entry.id("idx" if "idx" in fields else "id")
    extra = {name: fields[name] for name in ("choices", "source", "task")} | {
        "question": fields.get("question", "")
    }
    image = fields.get("filename") or fields.get("image")
    return Sample(
        id,
        str(fields["prompt"]),
        image=None if image is None else str(image),
        reference=rule.first_letter(str(fields["answer"]), _LETTERS),
        extra=extra,
    )
