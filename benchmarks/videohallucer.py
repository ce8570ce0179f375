"""VideoHallucer: is a plain question about a video answered rightly, and its hallucinated twin too?"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from vlmtools.benchmarks._answers_file import guarded
from vlmtools.benchmarks._files import read_entries
from vlmtools.benchmarks.base import Benchmark, Published, Row, Said, Total, Values, ratio
from vlmtools.errors import BadInput
from vlmtools.scoring.videohallucer import PARTS, hits
from vlmtools.types import Json, Sample

FOLDERS = dict(
    zip(PARTS, ("object_relation", "temporal", "semantic_detail", "external_factual", "external_nonfactual"),
        strict=True)
)  # fmt: skip
"""Part → its folder in the authors' repository."""
PAPER_TEMPORAL = 200
"""Pairs of the temporal part that the paper states; the repository has 176."""
SUFFIX = "\nAnswer the question using 'yes' or 'no'."
_TYPES = {
    "obj_rel": ("subject", "object", "relation"),
    "temporal": ("temporal_", "length_"),
    "semantic": ("semantic",),
    "fact": ("external_factual",),
    "nonfact": ("external_nonfactual",),
}


@dataclass(frozen=True)
class VideoHallucer(Benchmark):
    """Pairs of questions, one plain and one hallucinated, about objects, time, details, and knowledge.

    `both` is the benchmark's score: the share of pairs with both questions right, averaged over the parts; `basic` and
    `hallucination` are the two halves. The bias metrics are the official program's, which mixes up the two questions of
    a pair; those called `own_…` are counted from the answers they are about.

    Reference: arXiv:2406.16338, sections 3 and 4.

    Args:
        part: One of the five parts, or all of them.
    """

    part: Literal["all", "obj_rel", "temporal", "semantic", "fact", "nonfact"] = "all"

    protocols: ClassVar[Mapping[str, str]] = {
        "official": "right if the gold word stands in the answer as a word; `yes no` is right for both questions",
        "strict": "the same, but an answer with both words is wrong",
    }
    reference: ClassVar[str] = "arXiv:2406.16338"
    checked: ClassVar[str] = (
        "The official programs on twelve sets of made-up answers to all five parts, odd ones among them: accuracies "
        "and bias equal to the last digit. Real models' answers were not tried."
    )
    licence: ClassVar[str] = (
        "questions MIT (patrick-tssn/VideoHallucer); videos from other data sets, their own terms"
    )
    get: ClassVar[str] = (
        "Clone github.com/patrick-tssn/VideoHallucer and unpack the videos its README links into "
        "videohallucer_datasets/<part>/videos; give the folder videohallucer_datasets."
    )
    modality: ClassVar[tuple[str, ...]] = ("video",)
    published: ClassVar[Mapping[str, Published]] = {
        "object_relation.json": Published(
            200, "a60dfe2290e1f6d35bfc6e2c7ff8794a2591b6eca2b043575ab0762037eec7fd"
        ),
        "temporal.json": Published(176, "97acacdfd510b1cfb73ae69df1007f1489d5542fb9f7c18ba2601fe0f253129e"),
        "semantic_detail.json": Published(
            200, "5e6c8b874faab604d7a6f8bd59012a1aae253c1b6ffc0dab316d2f301dfb3ad9"
        ),
        "external_factual.json": Published(
            200, "dbba8cf7bed776de2e7548899174f98e24432f7472c42b1516d83d98def795e2"
        ),
        "external_nonfactual.json": Published(
            200, "72cb44b19c97d55670608ec6d2b39bfcc1de5a9155c2fb80bcee0284dff2ee36"
        ),
    }
    notes: ClassVar[tuple[str, ...]] = (
        "The repository's temporal part has 176 pairs, the paper states 200; the headline is the mean over parts.",
        "An answer with both words is right for both questions of a pair.",
        "Frames shown to a model differ between published runs (8 to 32, or one a second): name yours.",
        "Self-PEP numbers come from three calls per question and are not comparable with plain ones.",
        "Official answer files hold one part each: score a part alone, or the folder of the five files.",
        "Comparable: the repository's leaderboard, e.g. Video-LLaVA 17.8, PLLaVA-34B 45.0, GPT-4o 53.3 (overall, %).",
    )
    headline: ClassVar[tuple[str, ...]] = ("both", "basic", "hallucination")
    lower_is_better: ClassVar[frozenset[str]] = frozenset({"hallucination_score", "both_words"})
    neutral: ClassVar[frozenset[str]] = frozenset(
        {"yes_difference", "no_difference", "false_positive_ratio", "own_yes_difference", "own_no_difference",
         "own_false_positive_ratio"}
    )  # fmt: skip
    units: ClassVar[Mapping[str, str]] = dict.fromkeys(
        ("yes_difference", "no_difference", "own_yes_difference", "own_no_difference"), "difference, −1 to 1"
    )
    text_fields: ClassVar[tuple[str, ...]] = ("text", "predict", "answer", "response", "prediction", "output")
    max_new_tokens: ClassVar[int] = 64

    def samples(self, data: Path | None) -> Iterable[Sample]:
        """Both questions of every pair; ids are `part/pair/basic` and `part/pair/hallucination`."""
        place = self.need(data)
        for part in PARTS if self.part == "all" else (self.part,):
            for entry in self._entries(place, part):
                yield from _questions(part, entry)

    def _entries(self, place: Path, part: str) -> Iterator[Mapping[str, Json]]:
        name = FOLDERS[part]
        wanted = (f"{name}/{name}.json", f"{name}.json", f"{part}.json", f"{part}_*.json")
        if place.is_dir() and self.part == "all" and not _exists(place, wanted):
            return
        for row in read_entries(self.find(place, *wanted)):
            if not {"basic", "hallucination"} <= row.fields.keys():
                raise BadInput(f"{row.where}: a pair has the fields basic and hallucination. {self.get}")
            if part_of(row.fields, part) == part:
                yield row.fields

    def score(self, sample: Sample, said: Said) -> Row:
        """One answer by the protocol's rule; pairs are put together by `finish`."""
        gold = str(sample.reference)
        strict = self.protocol == "strict"
        yes, no = hits(said.text, "yes"), hits(said.text, "no")
        part, half = str(sample.extra["part"]), str(sample.extra["half"])
        right = hits(said.text, gold, strict)
        return Row(
            sample.id,
            said.text,
            parsed="yes and no" if yes and no else "yes" if yes else "no" if no else None,
            label=gold,
            correct=right,
            numbers={
                f"{half}/{part}": float(right),
                f"n_{half}/{part}": 1.0,
                "both_words": float(yes and no),
            },
            cluster=str(sample.extra["cluster"]),
            detail={
                "pair": sample.extra["pair"],
                "half": half,
                "part": part,
                "question": sample.extra["question"],
            },
        )

    def finish(self, rows: Sequence[Row]) -> Sequence[Row]:
        """Pairs that are complete count; the plain question carries what is counted once a pair."""
        pairs: dict[str, dict[str, Row]] = {}
        for row in rows:
            pairs.setdefault(str(row.detail["pair"]), {})[str(row.detail["half"])] = row
        return [_with_pair(row, pairs[str(row.detail["pair"])]) for row in rows]

    def metrics(self, total: Total) -> Mapping[str, Values]:
        """Means over parts, then the parts, then the bias."""
        parts = [part for part in PARTS if f"n_basic/{part}" in total or f"n_hallucination/{part}" in total]
        halves = {"basic": "n_basic", "hallucination": "n_hallucination", "both": "n_pairs"}
        each = {
            f"{name}/{part}": ratio(total[f"{name}/{part}"], total[f"{n}/{part}"])
            for name, n in halves.items()
            for part in parts
        }
        means = {name: np.mean([each[f"{name}/{part}"] for part in parts], axis=0) for name in halves}
        return {
            **means,
            **each,
            **_bias(total, ""),
            **_bias(total, "own_"),
            "both_words": ratio(total["both_words"], total["n"]),
        }

    def unpack(
        self, entry: Mapping[str, Json]
    ) -> Sequence[tuple[str, str | None, Mapping[str, Json]]] | None:
        """The official layout: a pair with `predict` in both halves."""
        if not {"basic", "hallucination"} <= entry.keys():
            return None
        part = part_of(entry, self.part)
        if self.part not in ("all", part):
            return []
        return [
            (one.id, entry[half]["predict"], {})
            for half, one in zip(_HALVES, _questions(part, entry), strict=True)
        ]

    def answers_in(self, folder: Path) -> Iterable[tuple[str, str | None, str]] | None:
        """The official programs' output folder: `<part>_<model>.json` for each part."""
        wanted = PARTS if self.part == "all" else (self.part,)
        files = {part: sorted(folder.glob(f"{part}_*.json*")) for part in wanted}
        twice = next((found for found in files.values() if len(found) > 1), None)
        if twice:
            raise BadInput(
                f"{str(folder)!r} has {twice[0].name} and {twice[1].name}. Give a folder with one model's files."
            )
        return (
            self._told({part: found[0] for part, found in files.items() if found})
            if any(files.values())
            else None
        )

    def _told(self, files: Mapping[str, Path]) -> Iterator[tuple[str, str | None, str]]:
        for part, path in files.items():
            for row in read_entries(path):
                pieces = guarded(row, replace(self, part=part))  # type: ignore[arg-type]
                if pieces is None:
                    raise BadInput(f"{row.where} is no pair: it has no basic and hallucination. {self.get}")
                yield from ((id, text, row.where) for id, text, _ in pieces)

    def warnings(self, rows: Sequence[Row]) -> Sequence[str]:
        """Which parts are missing, and the short temporal part."""
        pairs = {part: {row.detail["pair"] for row in rows if row.detail["part"] == part} for part in PARTS}
        told = []
        n_temporal = len(pairs["temporal"])
        if n_temporal and n_temporal != PAPER_TEMPORAL:
            told.append(f"The temporal part has {n_temporal} pairs here; the paper states {PAPER_TEMPORAL}.")
        lacking = [part for part in PARTS if not pairs[part]]
        if self.part == "all" and lacking:
            told.append(f"No data for {', '.join(lacking)}: the means are over the other parts.")
        return told


_HALVES = ("basic", "hallucination")


def part_of(entry: Mapping[str, Json], usual: str) -> str:
    """The part a pair belongs to, by its `type`.

    Args:
        entry: The pair.
        usual: The part of pairs without a type.
    """
    kind = str(entry.get("type", ""))
    found = next((part for part, heads in _TYPES.items() if kind and kind.startswith(heads)), usual)
    if found == "all":
        raise ValueError(f"its type {kind!r} belongs to none of the parts {', '.join(PARTS)}")
    return found


def _questions(part: str, entry: Mapping[str, Json]) -> list[Sample]:
    told = [str(entry[half][name]) for half in _HALVES for name in ("video", "question")]
    pair = f"{part}/{hashlib.sha256(chr(31).join(told).encode()).hexdigest()[:10]}"
    folder = FOLDERS.get(part, part)
    return [
        Sample(
            f"{pair}/{half}",
            f"{entry[half]['question']}{SUFFIX}",
            video=f"{folder}/videos/{entry[half]['video']}",
            reference=str(entry[half]["answer"]),
            extra={"part": part, "half": half, "pair": pair, "cluster": str(entry["basic"]["video"]),
                   "question": str(entry[half]["question"])},
        )
        for half in _HALVES
    ]  # fmt: skip


def _exists(place: Path, names: Sequence[str]) -> bool:
    return any(next(place.glob(f"{name}{end}"), None) for name in names for end in ("", ".gz"))


def _with_pair(row: Row, pair: Mapping[str, Row]) -> Row:
    if len(pair) < 2 or row.detail["half"] != "basic":
        return row
    plain, twin = pair["basic"], pair["hallucination"]
    part = row.detail["part"]
    both = {f"both/{part}": float(bool(plain.correct and twin.correct)), f"n_pairs/{part}": 1.0}
    usual = (plain.label, twin.label) == ("yes", "no")
    return replace(row, numbers={**row.numbers, **both, **(_of_pair(plain, twin) if usual else {})})


def _of_pair(plain: Row, twin: Row) -> dict[str, float]:
    """What the bias is computed from, for one pair; official and ours."""
    a, b = bool(plain.correct), bool(twin.correct)
    says_no, says_yes = hits(plain.answer, "no"), hits(twin.answer, "yes")
    wrong = float(2 - a - b)
    shared = {"pairs": 1.0, "plain": float(a), "fooled": float(a and not b), "wrong": wrong}
    official = {
        "yes": float(a + (a and not b)),
        "no": float(b + (b and not a)),
        "false_yes": float(a and not b),
    }
    own = {"yes": float(a + says_yes), "no": float(b + says_no), "false_yes": float(says_yes and not b)}
    named = {f"bias_{name}": value for name, value in (shared | official).items()}
    return named | {f"own_bias_{name}": value for name, value in (shared | own).items()}


def _bias(total: Total, kind: str) -> dict[str, Values]:
    n, at = total[f"{kind}bias_pairs"], f"{kind}bias_"
    found = {
        f"{kind}yes_difference": ratio(total[f"{at}yes"] - n, 2 * n, np.nan),
        f"{kind}no_difference": ratio(total[f"{at}no"] - n, 2 * n, np.nan),
        f"{kind}false_positive_ratio": ratio(total[f"{at}false_yes"], total[f"{at}wrong"]),
    }
    return (
        found
        if kind
        else {**found, "hallucination_score": ratio(total[f"{at}fooled"], total[f"{at}plain"], np.nan)}
    )
