"""HallusionBench: does the model look at the figure, or answer from habit when the figure was edited?"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from vlmtools.benchmarks._files import read_entries
from vlmtools.benchmarks.base import Benchmark, Published, Row, Said, Total, Values, ratio
from vlmtools.errors import BadInput
from vlmtools.scoring import hallusionbench as rule
from vlmtools.types import Json, Sample

_FIELDS = ("category", "subcategory", "set_id", "figure_id", "question_id", "visual_input")
_ID = ("category", "subcategory", "set_id", "figure_id", "question_id")
_JUDGED = ("gpt4v_output_gpt_check", "correctness", "judge", "verdict")


@dataclass(frozen=True)
class Hallusionbench(Benchmark):
    """Yes/no questions on figures, on edited figures, and without any: per question, per figure, per question pair.

    `aAcc` is over questions, `fAcc` over figures with all questions right, `qAcc` over pairs (one question on all its
    figures); `easy` and `hard` are the official accuracies of pairs without and with edited figures only.

    Reference: arXiv:2310.14566, section 4.
    """

    protocols: ClassVar[Mapping[str, str]] = {
        "official": "a judge's verdict: correct, incorrect or unclear; stored verdicts are used where a file has them",
        "prefix": "no judge: a leading yes or no is the answer, anything else is uncertain",
        "lenient": "no judge: yes or no as a person reads it, anything else is uncertain",
    }
    reference: ClassVar[str] = "arXiv:2310.14566"
    checked: ClassVar[str] = (
        "The official program's accuracies and bias on made-up verdicts for all 1,129 questions (fifteen files), and "
        "by the prefix rule on the 254 published answers: equal to four decimals. The judges were not run."
    )
    licence: ClassVar[str] = "BSD-3-Clause (tianyi-lab/HallusionBench)"
    get: ClassVar[str] = (
        "Copy HallusionBench.json (1,129 questions, sha256 ca6e0fb677dd…) from github.com/tianyi-lab/HallusionBench; "
        "its README links hallusion_bench.zip with the figures."
    )
    judge: ClassVar[str] = "GPT-4 (text only: question, reference answer, answer)"
    published: ClassVar[Mapping[str, Published]] = {
        "HallusionBench.json": Published(
            1129, "ca6e0fb677dd56e5fb0e2700d06c58d01f8a6ae66e0f1773b2ac48c0a095d051"
        ),
    }
    notes: ClassVar[tuple[str, ...]] = (
        "1,129 questions on 346 figures in 455 pairs; some toolkits leave out the 178 questions without a figure.",
        "The file of October 2023 had 254 questions; numbers on it do not compare.",
        "Official numbers need the judge; the prefix rule takes a correct answer without yes or no for uncertain.",
        "The published easy and hard accuracies are of pairs, although their column says question.",
    )
    headline: ClassVar[tuple[str, ...]] = ("aAcc", "fAcc", "qAcc", "easy", "hard")
    neutral: ClassVar[frozenset[str]] = frozenset({"yes_difference", "false_positive_ratio"})
    units: ClassVar[Mapping[str, str]] = {"yes_difference": "difference of shares, -1 to 1"}
    lower_is_better: ClassVar[frozenset[str]] = frozenset({"uncertain"})
    max_new_tokens: ClassVar[int] = 128
    text_fields: ClassVar[tuple[str, ...]] = (
        "model_prediction", "prediction", "answer", "response", "text", "output",
    )  # fmt: skip
    question_field: ClassVar[str] = "question"

    def samples(self, data: Path | None) -> Iterable[Sample]:
        """The questions in file order; ids are category_subcategory_set_figure_question."""
        path = self.find(data, "HallusionBench.json")
        for row in read_entries(path):
            missing = [name for name in (*_FIELDS, "question", "gt_answer") if name not in row.fields]
            if missing or str(row.fields["gt_answer"]) not in ("0", "1"):
                what = (
                    f"lacks {missing[0]}"
                    if missing
                    else f"has gt_answer {row.fields['gt_answer']!r}, not 0 or 1"
                )
                raise BadInput(
                    f"{row.where} {what}. It should be a row of HallusionBench.json; copy it again."
                )
            yield _sample(row.fields)

    def score(self, sample: Sample, said: Said) -> Row:
        """One answer, by the judge's verdict or by what it begins with."""
        truth = sample.reference == "yes"
        verdict, source = self._verdict(said, truth)
        judged = _judged(sample.extra, verdict, truth)
        first = judged.figure_id == "0"
        numbers = {
            "right": float(judged.right), "uncertain": float(verdict == 2), "yes": float(truth),
            "counted_yes": float(judged.right == truth), "wrong": float(not judged.right),
            "wrong_no": float(not judged.right and not truth), f"n/{judged.category}": 1.0,
            f"right/{judged.category}": float(judged.right),
        }  # fmt: skip
        return Row(
            sample.id,
            said.text,
            parsed={0: "incorrect", 1: "correct", 2: None}[verdict],
            label=sample.reference,
            correct=judged.right,
            numbers=numbers,
            cluster="_".join((judged.category, judged.subcategory, judged.set_id)),
            detail={
                "pair": "_".join(judged.pair),
                "figure": "_".join(judged.figure or ()),
                "hard": judged.hard,
                "original": first,
                "read_by": source,
            },
        )

    def _verdict(self, said: Said, truth: bool) -> tuple[rule.Verdict, str]:
        if self.protocol != "official":
            return rule.read(said.text, truth, self.protocol), self.protocol
        stored = next((said.fields[name] for name in _JUDGED if said.fields.get(name) is not None), None)
        if stored is not None:
            return _stored(stored), "stored verdict"
        if said.verdicts:
            reply = said.verdicts[0]
            return (2 if reply is None else rule.read_judge(reply)), "judge"
        raise BadInput(
            "hallusionbench's official protocol needs a judge's verdict, and there is none for this answer. Give "
            f"--judge-model, or an answer file with one of {', '.join(_JUDGED)} (0, 1 or 2), or choose "
            "--protocol prefix."
        )

    def questions(self, sample: Sample, text: str) -> Sequence[Sample]:
        """The official question to the judge; none for the protocols without one."""
        if self.protocol != "official":
            return ()
        prompt = rule.judge_prompt(sample.prompt, str(sample.extra.get("gt_answer_details", "")), text)
        return (Sample("verdict", prompt),)

    def unpack(
        self, entry: Mapping[str, Json]
    ) -> Sequence[tuple[str, str | None, Mapping[str, Json]]] | None:
        """Official files repeat the question's fields; the id is made of them."""
        if not all(name in entry for name in _ID):
            return None
        name = next((name for name in self.text_fields if name in entry), self.text_fields[0])
        return [("_".join(str(entry[part]) for part in _ID), entry[name], entry)]

    def finish(self, rows: Sequence[Row]) -> Sequence[Row]:
        """Share out each figure and each pair over its rows, so that sums over rows count them once."""
        extra: dict[str, dict[str, float]] = defaultdict(dict)
        named = {row.id: str(row.detail["figure"]) for row in rows if row.detail["figure"]}
        _share_out(rows, named, "figure", extra)
        pairs = {row.id: str(row.detail["pair"]) for row in rows}
        _share_out(rows, pairs, "pair", extra)
        _share_out(rows, {row.id: pairs[row.id] for row in rows if not row.detail["hard"]}, "easy", extra)
        _share_out(rows, {row.id: pairs[row.id] for row in rows if row.detail["hard"]}, "hard", extra)
        return [replace(row, numbers={**row.numbers, **extra[row.id]}) for row in rows]

    def metrics(self, total: Total) -> Mapping[str, Values]:
        """Shares of questions, figures and pairs."""
        return {
            "aAcc": ratio(total["right"], total["n"]),
            "fAcc": ratio(total["figure_right"], total["figure"]),
            "qAcc": ratio(total["pair_right"], total["pair"]),
            "easy": ratio(total["easy_right"], total["easy"]),
            "hard": ratio(total["hard_right"], total["hard"]),
            "aAcc/VD": ratio(total["right/VD"], total["n/VD"]),
            "aAcc/VS": ratio(total["right/VS"], total["n/VS"]),
            "uncertain": ratio(total["uncertain"], total["n"]),
            "yes_difference": ratio(total["counted_yes"], total["n"]) - ratio(total["yes"], total["n"]),
            "false_positive_ratio": ratio(total["wrong_no"], total["wrong"], empty=float("nan")),
        }

    def warnings(self, rows: Sequence[Row]) -> Sequence[str]:
        """Numbers without the judge, and releases of other sizes."""
        told = []
        if self.protocol != "official":
            told.append(
                "No judge was asked: published numbers rest on GPT-4's verdicts and do not compare exactly."
            )
        if len(rows) != 1129:
            told.append(f"These are {len(rows)} questions; the released benchmark has 1,129.")
        return told


def _share_out(
    rows: Sequence[Row], groups: Mapping[str, str], name: str, extra: Mapping[str, dict[str, float]]
) -> None:
    size = Counter(groups.values())
    wrong = {groups[row.id] for row in rows if row.id in groups and not row.correct}
    for id, group in groups.items():
        extra[id][name] = 1 / size[group]
        extra[id][f"{name}_right"] = 0.0 if group in wrong else 1 / size[group]


def _sample(fields: Mapping[str, Json]) -> Sample:
    keys = {name: str(fields[name]) for name in _FIELDS}
    id = "_".join(keys[name] for name in _ID)
    where = fields.get("filename")
    return Sample(
        id,
        str(fields["question"]),
        image=None if keys["visual_input"] == "0" or not where else str(where).removeprefix("./"),
        reference="yes" if str(fields["gt_answer"]) == "1" else "no",
        extra={
            **keys,
            "gt_answer_details": fields.get("gt_answer_details", ""),
            "question": fields["question"],
        },
    )


def _judged(extra: Mapping[str, Json], verdict: rule.Verdict, truth: bool) -> rule.Judged:
    return rule.Judged(**{name: str(extra[name]) for name in _FIELDS}, verdict=verdict, truth=truth)  # type: ignore[arg-type]


def _stored(value: Json) -> rule.Verdict:
    if str(value) not in ("0", "1", "2"):
        raise BadInput(
            f"A stored verdict of hallusionbench is {value!r}. It should be 0 (incorrect), 1 (correct) or 2 (unclear)."
        )
    return {"0": 0, "1": 1, "2": 2}[str(value)]  # type: ignore[return-value]
