"""CMM, the Curse of Multi-Modalities: does one input make a model see or hear what the other does not have?"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from vlmtools.benchmarks._files import read_entries
from vlmtools.benchmarks.base import Benchmark, Row, Said, Total, Values, ratio
from vlmtools.errors import BadInput
from vlmtools.scoring.cmm import is_right
from vlmtools.types import Sample

FILES = ("all_data_final_reorg.json", "final_output.json", "*.jsonl", "*.json")


@dataclass(frozen=True)
class Cmm(Benchmark):
    """Questions about objects and events that are seen or heard, or that one input only suggests.

    `perception` (PA) is the share of questions with the answer yes that are answered so, `resistance` (HR) the same of
    no, `accuracy` over all; each also per subcategory, and per granularity and subcategory (`object-level/…`).

    Reference: arXiv:2410.12787, section 4.

    Args:
        show: What a model is given of an item that has both: everything, or its video or its sound alone. With one of
            them the numbers are an ablation and say so.
    """

    show: Literal["both", "video", "audio"] = "both"

    protocols: ClassVar[Mapping[str, str]] = {
        "official": "right if the gold word stands within the first five characters: `Not` and `I know` are no",
        "strict": "right if the answer begins with the word itself",
    }
    reference: ClassVar[str] = "arXiv:2410.12787"
    checked: ClassVar[str] = (
        "The official program's numbers on twenty files of made-up answers: equal in all printed digits. Real "
        "models' answers were not tried."
    )
    licence: ClassVar[str] = (
        "academic research only; nothing of it may be copied on without the authors' leave"
    )
    get: ClassVar[str] = (
        "Download the data set DAMO-NLP-SG/CMM from the hub: a line per question with question, answer, sub_category, "
        "granularity, video_path and audio_path, and the media below the same folder."
    )
    modality: ClassVar[tuple[str, ...]] = ("video", "audio")
    notes: ClassVar[tuple[str, ...]] = (
        "A model that takes no sound cannot be asked about audio; those items are reported as errors, not as wrong.",
        "Always yes has perception 1 and resistance 0: never read one of the two alone.",
        "Audio questions about a silent copy of a clip measure something else: the run says what was really given.",
    )
    headline: ClassVar[tuple[str, ...]] = ("perception", "resistance", "accuracy")
    lower_is_better: ClassVar[frozenset[str]] = frozenset({"unread"})
    text_fields: ClassVar[tuple[str, ...]] = ("pred", "text", "response", "prediction", "output")
    question_field: ClassVar[str] = "question"

    def samples(self, data: Path | None) -> Iterable[Sample]:
        """The questions in file order; ids are their numbers, from 1."""
        path = self.find(data, *FILES)
        for number, row in enumerate(read_entries(path), start=1):
            question, gold = row.optional("question"), (row.optional("answer") or "").strip().lower()
            if question is None or gold not in ("yes", "no"):
                raise BadInput(
                    f"{row.where}: a question of CMM has a question and an answer yes or no. {self.get}"
                )
            media = {kind: row.optional(f"{kind}_path") for kind in ("video", "audio")}
            if self.show != "both":
                media = {self.show: media[self.show]}
                if media[self.show] is None:
                    continue
            fields = {name: row.optional(name) or "" for name in ("sub_category", "granularity", "modality")}
            yield Sample(
                str(number), question, reference=gold, extra={**fields, "question": question}, **media
            )

    def score(self, sample: Sample, said: Said) -> Row:
        """One answer by the protocol's rule."""
        gold, strict = str(sample.reference), self.protocol == "strict"
        right = is_right(said.text, gold, strict)
        read = next((word for word in ("yes", "no") if is_right(said.text, word, strict)), None)
        kind, level = str(sample.extra["sub_category"]), str(sample.extra["granularity"])
        parts = [part for part in (kind, f"{level}/{kind}") if kind and not part.startswith("/")]
        counted = {f"n_{gold}": 1.0, f"right_{gold}": float(right)}
        return Row(
            sample.id,
            said.text,
            parsed=read,
            label=gold,
            correct=right,
            numbers={**counted, **{f"{name}/{part}": value for name, value in counted.items() for part in parts},
                     "unread": float(read is None)},
            cluster=sample.video or sample.audio or "",
            detail={name: sample.extra[name] for name in ("sub_category", "granularity", "modality", "question")},
        )  # fmt: skip

    def metrics(self, total: Total) -> Mapping[str, Values]:
        """Over everything, then per subcategory."""
        kinds = sorted({name.partition("/")[2] for name in total if "/" in name})
        found = _rates(total, "")
        for kind in kinds:
            found |= _rates(total, f"/{kind}")
        return {**found, "unread": ratio(total["unread"], total["n"])}

    def warnings(self, rows: Sequence[Row]) -> Sequence[str]:
        """The ablation."""
        return (
            []
            if self.show == "both"
            else [f"Only the {self.show} of each item was given: this is an ablation."]
        )


def _rates(total: Total, end: str) -> dict[str, Values]:
    yes, no = total[f"right_yes{end}"], total[f"right_no{end}"]
    n_yes, n_no = total[f"n_yes{end}"], total[f"n_no{end}"]
    return {
        f"perception{end}": ratio(yes, n_yes),
        f"resistance{end}": ratio(no, n_no),
        f"accuracy{end}": ratio(yes + no, n_yes + n_no),
    }
