"""MMVP: pairs of pictures that look alike to CLIP and need opposite answers."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from vlmtools.benchmarks._files import read_entries
from vlmtools.benchmarks.base import Benchmark, Row, Said, Total, Values, ratio
from vlmtools.errors import BadInput
from vlmtools.responders._rows import Row as Entry
from vlmtools.scoring import multiple_choice as rule
from vlmtools.types import Sample


@dataclass(frozen=True)
class Mmvp(Benchmark):
    """A pair counts only when both pictures are answered rightly; guessing gets 25 %.

    Reference: arXiv:2401.06209, section 3.

    Args:
        corrected: Use the right labels of questions 99, 100, 279 and 280, which the published table has swapped.
    """

    corrected: bool = False

    protocols: ClassVar[Mapping[str, str]] = {
        "official": "a judge says yes or no to each answer; other replies are wrong",
        "letter": "no judge: a leading letter, bracketed or not, as toolkits read it",
        "lenient": "no judge: a letter that stands alone, or the text of one choice",
    }
    reference: ClassVar[str] = "arXiv:2401.06209"
    checked: ClassVar[str] = (
        "Only examples worked out by hand from the description; the official grader was not run."
    )
    licence: ClassVar[str] = (
        "MIT (MMVP/MMVP); pictures from ImageNet and LAION-Aesthetics, their own licences"
    )
    get: ClassVar[str] = (
        "Copy Questions.csv (300 questions) and the folder 'MMVP Images' (1.jpg … 300.jpg) from the data set MMVP/MMVP."
    )
    judge: ClassVar[str] = "GPT-4 (gpt-4-0314, retired), asked whether the answer is right"
    notes: ClassVar[tuple[str, ...]] = (
        "Four published labels are wrong (99, 100, 279, 280); lmms-eval corrects them, the authors' numbers do not.",
        "Reading letters and asking a judge give different numbers.",
    )
    headline: ClassVar[tuple[str, ...]] = ("pair_accuracy", "accuracy")
    max_new_tokens: ClassVar[int] = 128
    id_fields: ClassVar[tuple[str, ...]] = ("id", "question_id", "Index", "index")
    text_fields: ClassVar[tuple[str, ...]] = ("response", "text", "prediction", "output", "answer")
    question_field: ClassVar[str] = "question"

    def samples(self, data: Path | None) -> Iterable[Sample]:
        """The questions by number; odd and even neighbours are a pair."""
        path = self.find(data, "Questions.csv", "questions*.csv", "Questions*.json*", "*.jsonl")
        for number, entry in enumerate(read_entries(path), 1):
            yield self._sample(number, entry)

    def _sample(self, number: int, entry: Entry) -> Sample:
        lower = {name.strip().lower(): value for name, value in entry.fields.items()}
        missing = [name for name in ("question", "options", "correct answer") if not lower.get(name)]
        if missing:
            raise BadInput(
                f"{entry.where} lacks {missing[0]!r}. MMVP's table has Question, Options, Correct Answer."
            )
        question, options = str(lower["question"]).strip(), str(lower["options"]).strip()
        truth = rule.first_letter(str(lower["correct answer"]), "AB")
        if truth is None:
            raise BadInput(
                f"{entry.where}: the correct answer is {lower['correct answer']!r}, neither (a) nor (b)."
            )
        if self.corrected:
            truth = rule.MMVP_CORRECTED.get(number, truth)
        extra = {"question": question, "choices": rule.choices_of(options), "pair": (number + 1) // 2}
        return Sample(
            str(number), f"{question} {options}", image=f"{number}.jpg", reference=truth, extra=extra
        )

    def questions(self, sample: Sample, text: str) -> Sequence[Sample]:
        """The official question to the judge; none for the protocols without one."""
        if self.protocol != "official":
            return ()
        truth = f"({str(sample.reference).lower()})"
        return (Sample("grade", rule.mmvp_judge_prompt(sample.prompt, truth, text)),)

    def score(self, sample: Sample, said: Said) -> Row:
        """One answer, by the judge or by its letter."""
        parsed, right = self._read(sample, said)
        return Row(
            sample.id,
            said.text,
            parsed=parsed,
            label=sample.reference,
            correct=right,
            numbers={"right": float(right)},
            cluster=f"pair {sample.extra['pair']}",
            detail={"question": sample.prompt},
        )

    def _read(self, sample: Sample, said: Said) -> tuple[str | None, bool]:
        if self.protocol == "letter":
            letter = rule.first_letter(said.text, "AB")
            return letter, letter == sample.reference
        if self.protocol == "lenient":
            letter = rule.clear_letter(said.text, sample.extra["choices"], "AB")
            return letter, letter == sample.reference
        stored = said.fields.get("grade")
        if not said.verdicts and not isinstance(stored, str):
            raise BadInput(
                "mmvp's official protocol needs a judge's yes or no, and this answer has none. Give --judge-model, an "
                "answer file with `grade`, or choose --protocol letter."
            )
        grade = rule.read_grade(said.verdicts[0] if said.verdicts else str(stored))
        return (None if grade is None else "right" if grade else "wrong"), bool(grade)

    def finish(self, rows: Sequence[Row]) -> Sequence[Row]:
        """Half a pair per question, and half of its success when both are right."""
        wrong = {row.cluster for row in rows if not row.correct}
        both = {row.id: 0.0 if row.cluster in wrong else 0.5 for row in rows}
        return [replace(row, numbers={**row.numbers, "pairs": 0.5, "both": both[row.id]}) for row in rows]

    def metrics(self, total: Total) -> Mapping[str, Values]:
        """Of pairs, and of questions."""
        return {
            "pair_accuracy": ratio(total["both"], total["pairs"]),
            "accuracy": ratio(total["right"], total["n"]),
        }

    def warnings(self, rows: Sequence[Row]) -> Sequence[str]:
        """The wrong labels of the published table."""
        if self.corrected or len(rows) < max(rule.MMVP_CORRECTED):
            return ()
        return (
            "Four labels of the published table are swapped (99, 100, 279, 280); corrected=true uses the right ones.",
        )
