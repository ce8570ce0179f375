"""MHaluBench: does a detector find the hallucinated claims in stored answers of other models?"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from vlmtools.benchmarks._files import read_entries
from vlmtools.benchmarks.base import Benchmark, Row, Said, Total, Values, ratio
from vlmtools.errors import BadInput
from vlmtools.scoring import mhalubench as rule
from vlmtools.scoring.yes_no import lenient, prefix
from vlmtools.types import Sample

_HALLUCINATED = frozenset({"hallucination", "hallucinated", "1", "true"})
_FAITHFUL = frozenset({"non-hallucination", "non-hallucinated", "faithful", "0", "false"})


@dataclass(frozen=True)
class Mhalubench(Benchmark):
    """Here a model is asked about each claim whether the picture supports it; its no is "hallucination".

    `macro_f1` is the mean F1 of the two classes, over claims and (`/segment`) over segments: a segment is hallucinated
    when any of its claims is. Unreadable verdicts are counted as faithful, since nothing was detected.

    Reference: arXiv:2402.03190, section 5.

    Args:
        unit: What intervals and `macro_f1` come first; both are always computed.
    """

    unit: Literal["claim", "segment"] = "claim"

    protocols: ClassVar[Mapping[str, str]] = {
        "official": "a published label (hallucination, non-hallucination), or an answer that begins with yes or no",
        "lenient": "the same, with yes and no as a person reads them",
    }
    reference: ClassVar[str] = "arXiv:2402.03190"
    checked: ClassVar[str] = (
        "The published rates of hallucinated claims, and the labels scored against themselves; there is no "
        "official program."
    )
    licence: ClassVar[str] = "MIT (openkg/MHaluBench)"
    get: ClassVar[str] = (
        "Copy MHaluBench_val-v0.2.json (or v0.1) and the pictures from the data set openkg/MHaluBench; any list of "
        "its layout (image, answer, annotation with segments and claims) will do, such as the 200 captions alone."
    )
    notes: ClassVar[tuple[str, ...]] = (
        "The paper's detectors use tools and GPT-4V; a yes/no question per claim is our wording.",
        "v0.1 and v0.2 differ in labels; captions alone (200 answers, 1,142 claims) are not the whole benchmark.",
        "There is no official program for the metrics; they are those of the paper's table 3.",
    )
    headline: ClassVar[tuple[str, ...]] = ("macro_f1", "macro_f1/segment", "accuracy", "precision", "recall")
    neutral: ClassVar[frozenset[str]] = frozenset({"label_rate", "label_rate/segment"})
    max_new_tokens: ClassVar[int] = 16

    def samples(self, data: Path | None) -> Iterable[Sample]:
        """One item per claim; ids are answer/claim, numbered from 1."""
        path = self.find(
            data, "MHaluBench_val-v0.2.json", "MHaluBench*.json", "*claim_labels*.json", "*.json"
        )
        for number, row in enumerate(read_entries(path), 1):
            annotation = row.fields.get("annotation") or row.fields.get("segments")
            if not isinstance(annotation, list):
                raise BadInput(
                    f"{row.where} has no `annotation`. Give a file of MHaluBench, with segments and claims."
                )
            image = row.fields.get("image_name") or row.fields.get("image_path") or row.fields.get("image")
            for place, claim in enumerate(rule.claims_of(annotation), 1):
                yield Sample(
                    f"{number}/{place}",
                    f"Is this statement about the picture right? Answer yes or no.\nStatement: {claim.text}",
                    image=None if image is None else str(image),
                    reference=_label(claim.hallucinated),
                    extra={"answer": number, "segment": f"{number}/{claim.segment}", "claim": claim.text},
                )

    def score(self, sample: Sample, said: Said) -> Row:
        """One claim: flagged or not, against its label."""
        flag = self._flag(said.text)
        truth = sample.reference == rule.HALLUCINATION
        return Row(
            sample.id,
            said.text,
            parsed=None if flag is None else _label(flag),
            label=sample.reference,
            correct=bool(flag) == truth,
            numbers=_cell(bool(flag), truth, 1.0, ""),
            cluster=f"answer {sample.extra['answer']}",
            detail={"claim": sample.extra["claim"], "segment": sample.extra["segment"]},
        )

    def _flag(self, text: str) -> bool | None:
        word = text.strip().strip(".\"'*").lower()
        if word in _HALLUCINATED or word in _FAITHFUL:
            return word in _HALLUCINATED
        read = (lenient if self.protocol == "lenient" else prefix)(text)
        return None if read is None else read == "no"

    def finish(self, rows: Sequence[Row]) -> Sequence[Row]:
        """The segment a claim ends carries the segment's own count."""
        groups: dict[str, list[Row]] = {}
        for row in rows:
            groups.setdefault(str(row.detail["segment"]), []).append(row)
        return [_with_segment(row, groups[str(row.detail["segment"])]) for row in rows]

    def metrics(self, total: Total) -> Mapping[str, Values]:
        """Claims, then segments."""
        order = ("/segment", "") if self.unit == "segment" else ("", "/segment")
        found: dict[str, Values] = {}
        for end in order:
            found |= _scores(total, end)
        return found


def _label(hallucinated: bool) -> str:
    return rule.HALLUCINATION if hallucinated else rule.FAITHFUL


def _cell(flag: bool, truth: bool, share: float, end: str) -> dict[str, float]:
    name = ("tp" if truth else "fp") if flag else ("fn" if truth else "tn")
    return {f"{name}{end}": share}


def _with_segment(row: Row, group: Sequence[Row]) -> Row:
    flag = any(one.parsed == rule.HALLUCINATION for one in group)
    truth = any(one.label == rule.HALLUCINATION for one in group)
    numbers = {**row.numbers, **_cell(flag, truth, 1 / len(group), "/segment")}
    return Row(row.id, row.answer, row.parsed, row.label, row.correct, numbers, row.cluster, row.detail)


def _scores(total: Total, end: str) -> dict[str, Values]:
    tp, fp, tn, fn = (total[f"{name}{end}"] for name in ("tp", "fp", "tn", "fn"))
    n = tp + fp + tn + fn
    bad, good = _class(tp, fp, fn), _class(tn, fn, fp)
    return {
        f"macro_f1{end}": (bad[2] + good[2]) / 2,
        f"accuracy{end}": ratio(tp + tn, n),
        f"precision{end}": bad[0],
        f"recall{end}": bad[1],
        f"f1{end}": bad[2],
        f"macro_precision{end}": (bad[0] + good[0]) / 2,
        f"macro_recall{end}": (bad[1] + good[1]) / 2,
        f"label_rate{end}": ratio(tp + fn, n),
    }


def _class(hit: Values, false: Values, missed: Values) -> tuple[Values, Values, Values]:
    precision, recall = ratio(hit, hit + false), ratio(hit, hit + missed)
    return precision, recall, ratio(2 * precision * recall, precision + recall)
