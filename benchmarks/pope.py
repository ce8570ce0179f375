"""POPE: does the model say yes to objects that are not in the picture?"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from vlmtools.benchmarks._files import read_entries, read_json
from vlmtools.benchmarks.base import Benchmark, Published, Row, Said, Total, Values, ratio
from vlmtools.errors import BadInput, MissingField
from vlmtools.scoring import yes_no
from vlmtools.types import Json, Sample

SPLITS = ("random", "popular", "adversarial")
OLD_RANDOM = 2910
"""Questions of the random split that LLaVA-1.5 and OPERA used; today's has 3,000."""
_COUNTED = ("tp", "fp", "tn", "fn", "said_yes", "right", "kept")


@dataclass(frozen=True)
class Pope(Benchmark):
    """Polling-based object probing: half of the questions ask about objects that are there, half about absent ones.

    `accuracy`, `precision`, `recall`, `f1` of the answer yes, and `yes_rate`, the share of answers (not of labels) that
    are yes: .5 is unbiased, more is the usual bias. With several splits each is given per split, and `f1_macro` is the
    mean of the splits' F1, which some papers print as "the" F1.

    Reference: arXiv:2305.10355, section 4; corrected labels: RePOPE, arXiv:2504.15707.

    Args:
        split: How absent objects were chosen; adversarial is the hardest. `all` takes every split the data have.
        source: Which pictures: coco, aokvqa or gqa.
    """

    split: Literal["all", "random", "popular", "adversarial"] = "all"
    source: Literal["coco", "aokvqa", "gqa"] = "coco"

    protocols: ClassVar[Mapping[str, str]] = {
        "official": "no if the first sentence has the token No, no or not; anything else is yes, also an empty answer",
        "repope": "RePOPE's labels and rule: yes anywhere, else no anywhere, else the answer counts nowhere",
        "lenient": "POPE's labels; the first word, or what the sentence says; unclear answers are wrong and no yes",
    }
    reference: ClassVar[str] = "arXiv:2305.10355"
    checked: ClassVar[str] = (
        "The official program's numbers, and RePOPE's, on made-up answers to the three splits of COCO, odd ones among "
        "them (thirty files): equal to the last digit. Real models' answers were not tried."
    )
    licence: ClassVar[str] = (
        "questions MIT (AoiDragon/POPE); pictures: COCO val2014; RePOPE's labels name no licence"
    )
    get: ClassVar[str] = (
        "Download output/coco/coco_pope_{random,popular,adversarial}.json from github.com/AoiDragon/POPE into one "
        "folder, and for --protocol repope also RePOPE's label files; pictures are COCO val2014."
    )
    published: ClassVar[Mapping[str, Published]] = {
        "coco_pope_random.json": Published(
            3000, "ac25245170b975a5bdf9080b23fd431dfe6be458bc038259c1f4f09a6bef7994"
        ),
        "coco_pope_popular.json": Published(
            3000, "72c1a8ad45d0c13514f5f22598261df41d3b533854d29682e924db50ed8aa753"
        ),
        "coco_pope_adversarial.json": Published(
            3000, "420b3407db1fa9f1187a805dca41cb7b97fd91504e6c2179706188c107fb8ef8"
        ),
        "aokvqa_pope_seem_random.json": Published(
            3000, "f06eecde6d6ef4a00b95a7bbb510490708a09a6a67d952b59b8bdd33ac2c7200"
        ),
        "aokvqa_pope_seem_popular.json": Published(
            3000, "2ae5bedee3450cda52f9b033942c7b04a3917a86a110e859a66c1e41934c6ffd"
        ),
        "aokvqa_pope_seem_adversarial.json": Published(
            3000, "2ddd3bdfa0df7a77a2cb1765ed06ac5ed190b5a093aa405b96986e862e8cdac1"
        ),
        "gqa_pope_seem_random.json": Published(
            3000, "6ce488eade3770185034939fabfe742fa32ed369011c8d9c3ac77bc0c85abd94"
        ),
        "gqa_pope_seem_popular.json": Published(
            3000, "dd03f06a458dd216e83233160fbf6628af9c63c84b11e99599f4fc0304b3361d"
        ),
        "gqa_pope_seem_adversarial.json": Published(
            3000, "74e01b41d8308e2392e3b8d961167496ff3901c01100265d931a7a392f138a7a"
        ),
        "coco_repope_random.json": Published(
            2774, "f464fcaf60b24ce2f280cf33f122e000dbdd35c8e88f77c4141c9c2cba864611"
        ),
        "coco_repope_popular.json": Published(
            2727, "57832b055bae5fd6176278a4f104c98ddd84811f7d26dfcb93d481f6c9da09a5"
        ),
        "coco_repope_adversarial.json": Published(
            2684, "8c346dbb060bf422ff92e769fa68e5ab3e8a777cb28a26e973387441e05c9ccf"
        ),
    }
    notes: ClassVar[tuple[str, ...]] = (
        "Two random splits circulate: 2,910 questions (LLaVA-1.5, OPERA) and 3,000 (today's files).",
        "Papers print accuracy, or F1 of one split, or the mean of three F1: name the convention.",
        "The official rule counts NO in capitals, Nope, refusals and empty answers as yes.",
        "RePOPE turns 144, 178 and 172 labels (random, popular, adversarial) and withdraws 226, 273 and 316 questions.",
    )
    headline: ClassVar[tuple[str, ...]] = ("accuracy", "precision", "recall", "f1", "yes_rate")
    neutral: ClassVar[frozenset[str]] = frozenset({"yes_rate", *(f"yes_rate/{split}" for split in SPLITS)})
    max_new_tokens: ClassVar[int] = 64
    id_fields: ClassVar[tuple[str, ...]] = ("id", "question_id")
    text_fields: ClassVar[tuple[str, ...]] = ("answer", "response", "prediction", "output", "caption", "text")
    question_field: ClassVar[str] = "question"

    def samples(self, data: Path | None) -> Iterable[Sample]:
        """The questions of every chosen split; ids are `split/number` where there are several, else the number."""
        place = self.need(data)
        files = {_split_of(place): place} if place.is_file() else self._files(place)
        for split, path in files.items():
            yield from self._split(split, path, prefix=f"{split}/" if len(files) > 1 else "")

    def _files(self, folder: Path) -> dict[str, Path]:
        wanted = SPLITS if self.split == "all" else (self.split,)
        names = {split: [f"{self.source}_pope_{split}.json", f"{self.source}_pope_{split}.jsonl",
                         f"{self.source}_pope_seem_{split}.json"] for split in wanted}  # fmt: skip
        found: dict[str, Path] = {}
        for split in wanted:
            places = [folder / f"{name}{end}" for name in names[split] for end in ("", ".gz")]
            there = next((path for path in places if path.is_file()), None)
            if there is not None:
                found[split] = there
        return found or {wanted[0]: self.find(folder, *names[wanted[0]])}

    def _split(self, split: str, path: Path, prefix: str) -> Iterator[Sample]:
        labels = self._labels(split, path)
        for number, row in enumerate(read_entries(path), start=1):
            id = row.id("question_id") if "question_id" in row.fields else str(number)
            question, label = row.text("text"), row.fields.get("label")
            if question is None or label not in ("yes", "no"):
                raise BadInput(
                    f"{row.where}: a POPE question has text and a label yes or no. It has: {row.fields}."
                )
            yield Sample(
                prefix + id,
                question,
                image=row.optional("image"),
                reference=str(label) if labels is None else labels.get(id),
                extra={"split": split, "question": question},
            )

    def _labels(self, split: str, path: Path) -> Mapping[str, str] | None:
        """RePOPE's labels by question; None where those beside the questions count."""
        if self.protocol != "repope" or "repope" in path.name:
            return None
        names = (f"repope_labels_{split}.json", f"{self.source}_repope_{split}.json")
        beside = self.find(path.parent, *names)
        if "labels" in beside.name:
            return _known_labels(beside, read_json(beside))
        return {row.id("question_id"): str(row.text("label")) for row in read_entries(beside)}

    def score(self, sample: Sample, said: Said) -> Row:
        """One answer by the protocol's rule."""
        read = {"official": yes_no.pope, "repope": yes_no.repope, "lenient": yes_no.lenient}[self.protocol](
            said.text
        )
        label: yes_no.YesNo | None = {"yes": "yes", "no": "no"}.get(sample.reference or "")  # type: ignore[assignment]
        clear = self.protocol != "official" or yes_no.is_clear(said.text)
        return Row(
            sample.id,
            said.text,
            parsed=read if clear else None,
            label=label,
            correct=None if label is None else read == label,
            numbers={} if label is None else self._numbers(read, label, str(sample.extra.get("split", ""))),
            cluster=sample.image or "",
            detail={"question": sample.prompt, "split": sample.extra.get("split", ""), "counted_as": read},
        )

    def _numbers(self, read: yes_no.YesNo | None, label: yes_no.YesNo, split: str) -> dict[str, float]:
        if read is None and self.protocol == "repope":
            return {"dropped": 1.0}
        counted = {**yes_no.counts(read, label), "kept": 1.0}
        return {**counted, **{f"{name}/{split}": counted[name] for name in _COUNTED}}

    def finish(self, rows: Sequence[Row]) -> Sequence[Row]:
        """Questions that RePOPE withdrew have no label and do not count."""
        return [row for row in rows if row.label is not None]

    def metrics(self, total: Total) -> Mapping[str, Values]:
        """Pooled, then per split, then the mean of the splits' F1."""
        found = dict(_binary(total, ""))
        splits = [split for split in SPLITS if f"kept/{split}" in total]
        if len(splits) > 1:
            parts = [_binary(total, f"/{split}") for split in splits]
            each = [part[f"f1/{split}"] for part, split in zip(parts, splits, strict=True)]
            found["f1_macro"] = np.mean(each, axis=0)
            for part in parts:
                found |= part
        return found

    def unpack(
        self, entry: Mapping[str, Json]
    ) -> Sequence[tuple[str, str | None, Mapping[str, Json]]] | None:
        """Files over several splits name the split in `split` or `category`."""
        split = entry.get("split") or entry.get("category")
        if self.split != "all" or split not in SPLITS or "question_id" not in entry:
            return None
        name = next((name for name in self.text_fields if name in entry), "answer")
        return [(f"{split}/{entry['question_id']}", entry[name], entry)]

    def warnings(self, rows: Sequence[Row]) -> Sequence[str]:
        """The old random split, and answers without any yes."""
        told = []
        of_random = sum(row.detail.get("split") == "random" for row in rows)
        if of_random == OLD_RANDOM:
            told.append("This is the older random split of 2,910 questions; today's has 3,000.")
        if rows and not any(row.numbers.get("said_yes") for row in rows):
            told.append("No answer says yes: precision is 0/0 and shown as 0.")
        return told


def _binary(total: Total, end: str) -> dict[str, Values]:
    tp, fp, tn, fn = (total[f"{name}{end}"] for name in ("tp", "fp", "tn", "fn"))
    precision, recall = ratio(tp, tp + fp), ratio(tp, tp + fn)
    return {
        f"accuracy{end}": ratio(tp + tn, total[f"kept{end}"]),
        f"precision{end}": precision,
        f"recall{end}": recall,
        f"f1{end}": ratio(2 * precision * recall, precision + recall),
        f"yes_rate{end}": ratio(total[f"said_yes{end}"], total[f"kept{end}"]),
    }


def _split_of(path: Path) -> str:
    return next((split for split in SPLITS if split in path.name), "questions")


def _known_labels(path: Path, labels: Json) -> dict[str, str]:
    if isinstance(labels, dict) and all(label in ("yes", "no") for label in labels.values()):
        return {str(id): str(label) for id, label in labels.items()}
    raise MissingField(
        f'{str(path)!r} should hold {{question id: "yes" or "no"}}. Copy it again from RePOPE.'
    )
