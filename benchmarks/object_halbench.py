"""Object HalBench: COCO objects made up in long answers, extracted by a judge."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from vlmtools.benchmarks._files import read_entries
from vlmtools.benchmarks.base import Benchmark, Row, Said, Total, Values, ratio
from vlmtools.errors import BadInput
from vlmtools.scoring import object_halbench as rule
from vlmtools.scoring.chair import load_truth
from vlmtools.types import Json, Sample


@dataclass(frozen=True)
class ObjectHalbench(Benchmark):
    """Hallucinated answers among those that name a COCO object (`response`), and hallucinated words (`mention`).

    Reference: arXiv:2312.00849, section 4.1.
    """

    protocols: ClassVar[Mapping[str, str]] = {
        "official": "a judge extracts objects; a reply that is no JSON list names nothing and counts as unparsed",
        "lenient": "as official, but answers whose reply cannot be read are left out",
    }
    reference: ClassVar[str] = "arXiv:2312.00849"
    checked: ClassVar[str] = (
        "Only examples worked out by hand from the description; neither the official program, with its "
        "spaCy model, nor its judge was run."
    )
    licence: ClassVar[str] = "questions: no licence stated (RLHF-V/RLHF-V); COCO annotations CC BY 4.0"
    get: ClassVar[str] = (
        "Give a folder with the 300 questions of RLHF-V (obj_halbench_300_with_image.jsonl: image_id, question) and a "
        "file {image id: [objects]} named *gt_objects*.json, as for chair; pictures are COCO's."
    )
    judge: ClassVar[str] = "gpt-3.5-turbo-0613 (retired), text only: question and answer"
    notes: ClassVar[tuple[str, ...]] = (
        "The published response rate is over answers that name a COCO object; response_all is over all answers.",
        "The official program tags extracted names with spaCy; here plain rules do; the difference is not measured.",
        "Judges and their prompts change the numbers; the prompt used here is not the official text.",
    )
    headline: ClassVar[tuple[str, ...]] = ("response", "mention", "recall", "words")
    lower_is_better: ClassVar[frozenset[str]] = frozenset({"response", "mention", "response_all"})
    neutral: ClassVar[frozenset[str]] = frozenset({"words"})
    units: ClassVar[Mapping[str, str]] = {"words": "words"}
    max_new_tokens: ClassVar[int] = 512
    text_fields: ClassVar[tuple[str, ...]] = ("text", "answer", "caption", "response", "output")
    question_field: ClassVar[str] = "question"

    def samples(self, data: Path | None) -> Iterable[Sample]:
        """The questions by number, each with the objects of its picture."""
        folder = self.need(data)
        truth = load_truth(self.find(folder, "*gt_objects*.json", "*truth*.json"))
        path = self.find(folder, "obj_halbench*.jsonl", "*halbench*.json*", "questions*.json*")
        for number, row in enumerate(read_entries(path), 1):
            image = str(row.fields.get("image_id", ""))
            if image not in truth or not isinstance(row.fields.get("question"), str):
                raise BadInput(
                    f"{row.where}: a question needs `question` and an `image_id` with known objects; this one has "
                    f"image_id {image!r}. The truth has {len(truth):,} pictures. Add the picture to it."
                )
            question = str(row.fields["question"])
            name = f"COCO_val2014_{int(image):012d}.jpg" if image.isdecimal() else image
            yield Sample(
                str(number),
                question,
                image=name,
                extra={"objects": sorted(truth[image]), "question": question},
            )

    def questions(self, sample: Sample, text: str) -> Sequence[Sample]:
        """Which objects the answer names; very short answers are not asked about."""
        return () if rule.is_too_short(text) else (Sample("objects", rule.judge_prompt(sample.prompt, text)),)

    def score(self, sample: Sample, said: Said) -> Row:
        """One answer by the objects the judge found in it."""
        names = () if rule.is_too_short(said.text) else self._names(said)
        found = rule.extracted(said.text, names or (), sample.extra["objects"])
        dropped = names is None and self.protocol == "lenient"
        numbers = {
            "kept": 1.0, "naming": float(bool(found.words)), "any_wrong": float(bool(found.hallucinated)),
            "mentions": len(found.words), "wrong": len(found.hallucinated), "found": found.n_found,
            "truth": found.n_truth, "words": found.n_words,
        }  # fmt: skip
        return Row(
            sample.id,
            said.text,
            parsed=None if names is None else ", ".join(names),
            label=", ".join(sample.extra["objects"]),
            correct=None if dropped else not found.hallucinated,
            numbers={} if dropped else numbers,
            cluster=sample.image or "",
            detail={"hallucinated": [list(pair) for pair in found.hallucinated]},
        )

    def _names(self, said: Said) -> tuple[str, ...] | None:
        if said.verdicts:
            return rule.read_objects(said.verdicts[0])
        stored: Json = said.fields.get("extract_objs")
        if isinstance(stored, list):
            return tuple(map(str, stored))
        if isinstance(stored, str):
            return rule.read_objects(stored)
        raise BadInput(
            "object_halbench needs the objects a judge extracted, and this answer has none. Give --judge-model, or an "
            "answer file with `extract_objs`: a list of names."
        )

    def metrics(self, total: Total) -> Mapping[str, Values]:
        """Shares of the sums over answers."""
        return {
            "response": ratio(total["any_wrong"], total["naming"]),
            "mention": ratio(total["wrong"], total["mentions"]),
            "response_all": ratio(total["any_wrong"], total["kept"]),
            "recall": ratio(total["found"], total["truth"]),
            "words": ratio(total["words"], total["kept"]),
        }
