"""FaithScore: which share of the atomic facts in an answer does the picture support?"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from vlmtools.benchmarks._files import read_entries
from vlmtools.benchmarks.base import Benchmark, Published, Row, Said, Total, Values, ratio
from vlmtools.errors import BadInput
from vlmtools.scoring import faithscore as rule
from vlmtools.types import Json, Sample


@dataclass(frozen=True)
class Faithscore(Benchmark):
    """Scores answers whose facts are written down: by stored labels, or by a checker that sees the picture.

    `faithscore` is the mean over answers, one without facts counting 0 (official); `macro` leaves those out, `micro` is
    over all facts. Facts come with the data: the human annotation, or any JSON lines with `facts`.

    Reference: arXiv:2311.01477, eq. 1 and 2.

    Args:
        supported: Which label of the annotation means supported: 1 as its values say, 0 as its README says.
    """

    supported: int = 1

    protocols: ClassVar[Mapping[str, str]] = {
        "official": "yes anywhere in the checker's reply supports a fact, anything else does not",
        "lenient": "the word yes or the word no; facts with neither are left out",
    }
    reference: ClassVar[str] = "arXiv:2311.01477"
    checked: ClassVar[str] = (
        "The means measured on the published human annotation; the pipeline of models that finds and checks "
        "facts was not run."
    )
    licence: ClassVar[str] = "MIT (bcdnlp/FAITHSCORE); pictures COCO"
    get: ClassVar[str] = (
        "Copy annotation.jsonl (180 answers, 1,380 facts) from github.com/bcdnlp/FAITHSCORE; pictures are COCO's."
    )
    judge: ClassVar[str] = (
        "a checker that sees the picture (OFA or LLaVA-1.5 in the paper); facts by gpt-3.5-turbo"
    )
    published: ClassVar[Mapping[str, Published]] = {
        "annotation.jsonl": Published(
            180, "7d68dce9641f92fcdabd6e252cf12ee6ec9b6c1d5c4d306aef83666d299f1b7b"
        ),
    }
    notes: ClassVar[tuple[str, ...]] = (
        "The annotation's README says 1 is hallucinated; its values only make sense as 1 is supported. Unconfirmed.",
        "The official mean counts an answer without facts as 0.",
        "Writing the facts is left to the user: `scoring.faithscore.facts_of` reads the official reply.",
    )
    headline: ClassVar[tuple[str, ...]] = ("faithscore", "macro", "micro")
    neutral: ClassVar[frozenset[str]] = frozenset({"facts"})
    units: ClassVar[Mapping[str, str]] = {"facts": "facts per answer"}
    whole: ClassVar[bool] = False
    id_fields: ClassVar[tuple[str, ...]] = (
        "number",
        "question_id",
    )  # the annotation's `id` is a picture, and repeats
    question_field: ClassVar[str] = "answer"
    text_fields: ClassVar[tuple[str, ...]] = ("answer", "text", "response", "output")

    def samples(self, data: Path | None) -> Iterable[Sample]:
        """The answers by number, with their facts and, where there are, the labels of these."""
        path = self.find(data, "annotation.jsonl", "human_annotation.jsonl", "*.jsonl")
        for number, row in enumerate(read_entries(path), 1):
            facts: Json = row.fields.get("stage 2", row.fields.get("facts"))
            if not isinstance(facts, dict | list):
                raise BadInput(
                    f"{row.where} has neither `stage 2` (fact: label) nor `facts` (a list, or fact: label). "
                    "Give the human annotation, or answers with their facts."
                )
            labels = dict(facts) if isinstance(facts, dict) else {}
            id = str(row.fields.get("id", number))
            image = (
                f"COCO_val2014_{int(id):012d}.jpg"
                if id.isdecimal()
                else str(row.fields.get("image") or "") or None
            )
            extra = {
                "facts": list(facts),
                "labels": labels,
                "answer": row.fields.get("answer", ""),
                "image": id,
            }
            extra["question"] = extra["answer"]
            yield Sample(str(number), "", image=image, extra=extra)

    def questions(self, sample: Sample, text: str) -> Sequence[Sample]:
        """One question to the checker per fact, with the picture."""
        return tuple(
            Sample(f"fact {number}", rule.check_prompt(fact), image=sample.image)
            for number, fact in enumerate(sample.extra["facts"], 1)
        )

    def score(self, sample: Sample, said: Said) -> Row:
        """One answer by its facts: checked just now, else by their stored labels."""
        read = self._read(sample, said)
        facts = [fact for fact in read if fact is not None]
        share = sum(facts) / len(facts) if facts else 0.0
        wrong = [text for text, fact in zip(sample.extra["facts"], read, strict=True) if fact is False]
        return Row(
            sample.id,
            said.text,
            parsed=None if len(facts) < len(read) else f"{sum(facts)} of {len(facts)}",
            correct=None,
            numbers={
                "share": share, "with_facts": float(bool(facts)), "facts": len(facts), "supported": sum(facts),
            },
            cluster=sample.image or str(sample.extra["image"]),
            detail={"unsupported": wrong},
        )  # fmt: skip

    def _read(self, sample: Sample, said: Said) -> Sequence[bool | None]:
        if said.verdicts:
            return [rule.read_check(reply, self.protocol) for reply in said.verdicts]
        labels = sample.extra["labels"]
        if labels or not sample.extra["facts"]:
            return rule.labels(labels, self.supported)
        raise BadInput(
            f"faithscore has facts for the answer {sample.id!r} but no labels of them. Give --judge-model with a model "
            "that sees pictures, or data with labels (fact: 0 or 1)."
        )

    def metrics(self, total: Total) -> Mapping[str, Values]:
        """The official mean, the mean over answers with facts, and over facts."""
        return {
            "faithscore": ratio(total["share"], total["n"]),
            "macro": ratio(total["share"], total["with_facts"]),
            "micro": ratio(total["supported"], total["facts"]),
            "facts": ratio(total["facts"], total["n"]),
        }

    def warnings(self, rows: Sequence[Row]) -> Sequence[str]:
        """Answers without facts."""
        n_empty = sum(not row.numbers["with_facts"] for row in rows)
        return (
            [f"{n_empty} of {len(rows)} answers have no facts; they count 0 in faithscore."]
            if n_empty
            else []
        )
