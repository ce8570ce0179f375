"""MMHal-Bench: 96 open questions, each answer rated 0 to 6 by a judge that knows what the picture holds."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from vlmtools.benchmarks._files import read_entries
from vlmtools.benchmarks.base import Benchmark, Row, Said, Total, Values, ratio
from vlmtools.errors import BadInput
from vlmtools.scoring import mmhal
from vlmtools.types import Sample


@dataclass(frozen=True)
class MmhalBench(Benchmark):
    """Mean rating (0 to 6), share of hallucinated answers (rating below 3) and informativeness.

    Reference: arXiv:2309.14525, section 3.2; informativeness as in arXiv:2312.00849.

    Args:
        template: File with the judge's prompt, with four `{}`; empty takes ours, which is not the official text.
    """

    template: str = ""

    protocols: ClassVar[Mapping[str, str]] = {
        "official": "exactly one of rating: 0 … rating: 6 in the judge's reply, otherwise 0",
        "lenient": "replies without exactly one rating are left out",
    }
    reference: ClassVar[str] = "arXiv:2309.14525"
    checked: ClassVar[str] = (
        "Only examples worked out by hand from the description; neither the official program nor its judge "
        "was run."
    )
    licence: ClassVar[str] = "Apache-2.0 (Shengcao1006/MMHal-Bench); pictures from OpenImages, CC BY 2.0"
    get: ClassVar[str] = (
        "Copy response_template.json (96 questions) and the pictures from the data set Shengcao1006/MMHal-Bench; the "
        "judge's official prompt stands in its eval_gpt4.py: save it as a text file for template=…."
    )
    judge: ClassVar[str] = (
        "GPT-4 (gpt-4-0314, retired); text only: contents of the picture, question, human answer"
    )
    notes: ClassVar[tuple[str, ...]] = (
        "Numbers of different judges, or of our prompt and the official one, do not compare.",
        "A reply without a readable rating counts 0 and as a hallucination: look at unparsed.",
        "With 96 answers the interval of the hallucination rate is about ± .10 wide.",
    )
    headline: ClassVar[tuple[str, ...]] = ("rating", "hallucination_rate", "informativeness")
    lower_is_better: ClassVar[frozenset[str]] = frozenset({"hallucination_rate"})
    units: ClassVar[Mapping[str, str]] = {"rating": "points of 6"}
    max_new_tokens: ClassVar[int] = 512
    text_fields: ClassVar[tuple[str, ...]] = (
        "model_answer",
        "text",
        "answer",
        "response",
        "prediction",
        "output",
    )
    question_field: ClassVar[str] = "question"

    def samples(self, data: Path | None) -> Iterable[Sample]:
        """The questions in their order, which decides their types; ids are their numbers from 1."""
        path = self.find(data, "response_template.json", "mmhal*bench*template*.json", "*.json")
        for number, row in enumerate(read_entries(path), 1):
            missing = [name for name in ("question", "gt_answer", "image_content") if name not in row.fields]
            if missing:
                raise BadInput(
                    f"{row.where} lacks {missing[0]!r}. Give MMHal-Bench's response_template.json."
                )
            extra = {
                "place": number - 1,
                "type": mmhal.TYPES[(number - 1) % len(mmhal.TYPES)],
                "image_content": list(row.fields["image_content"]),
                "question": row.fields["question"],
            }
            image = row.fields.get("image_src") or row.fields.get("image_id")
            name = None if image is None else str(image).rsplit("/", 1)[-1]
            yield Sample(str(number), str(row.fields["question"]), image=name, reference=str(row.fields["gt_answer"]),
                         extra=extra)  # fmt: skip

    def questions(self, sample: Sample, text: str) -> Sequence[Sample]:
        """One question to the judge."""
        template = Path(self.template).read_text(encoding="utf-8") if self.template else mmhal.TEMPLATE
        contents, reference = sample.extra["image_content"], sample.reference or ""
        return (Sample("rating", mmhal.judge_prompt(contents, sample.prompt, reference, text, template)),)

    def score(self, sample: Sample, said: Said) -> Row:
        """One answer by the judge's rating."""
        rating = self._rating(said)
        counted = 0 if rating is None and self.protocol == "official" else rating
        kind = str(sample.extra["type"])
        numbers: dict[str, float] = {}
        if counted is not None:
            numbers = {
                "rated": 1.0, "rating": counted, "hallucinated": float(mmhal.is_hallucinated(counted)),
                "informative": mmhal.informative(counted), f"rated/{kind}": 1.0, f"rating/{kind}": counted,
            }  # fmt: skip
        return Row(
            sample.id,
            said.text,
            parsed=None if rating is None else str(rating),
            label=None,
            correct=None if counted is None else not mmhal.is_hallucinated(counted),
            numbers=numbers,
            cluster=sample.image or "",
            detail={"type": kind, "question": sample.prompt, "reply": (said.verdicts or (None,))[0]},
        )

    def _rating(self, said: Said) -> int | None:
        if said.verdicts:
            return mmhal.read_rating(said.verdicts[0])
        stored = said.fields.get("rating")
        if isinstance(stored, str):
            return mmhal.read_rating(stored)
        if isinstance(stored, int) and 0 <= stored <= 6:
            return stored
        raise BadInput(
            f"mmhal_bench needs a judge's rating, and this answer has {stored!r}. Give --judge-model, or an answer "
            "file with `rating`: a whole number from 0 to 6, or the judge's reply."
        )

    def metrics(self, total: Total) -> Mapping[str, Values]:
        """Means over ratings, then per type of question."""
        found = {
            "rating": ratio(total["rating"], total["rated"]),
            "hallucination_rate": ratio(total["hallucinated"], total["rated"]),
            "informativeness": ratio(total["informative"], total["rated"]),
        }
        kinds = [kind for kind in mmhal.TYPES if f"rated/{kind}" in total]
        each = {
            f"rating/{kind}": ratio(total[f"rating/{kind}"], total[f"rated/{kind}"], np.nan) for kind in kinds
        }
        return found | each

    def warnings(self, rows: Sequence[Row]) -> Sequence[str]:
        """A benchmark of another size, and our own prompt."""
        told = []
        if len(rows) != mmhal.N_QUESTIONS:
            told.append(f"These are {len(rows)} questions; MMHal-Bench has {mmhal.N_QUESTIONS}.")
        if not self.template and any(row.detail.get("reply") for row in rows):
            told.append("The judge was asked with our prompt and not the official one.")
        return told
