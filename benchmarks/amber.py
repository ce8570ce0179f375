"""AMBER: does the model describe or affirm objects, attributes and relations that are not in the picture?"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from vlmtools.benchmarks._files import read_json
from vlmtools.benchmarks.base import Benchmark, Published, Row, Said, Total, Values, ratio, totals
from vlmtools.errors import BadInput
from vlmtools.scoring import amber
from vlmtools.scoring._amber_printed import printed_table
from vlmtools.scoring.yes_no import is_clear
from vlmtools.types import Json, Sample

_KINDS = ("existence", "state", "number", "action", "relation")
_TASKS: Mapping[str, tuple[str, ...]] = {
    "all": ("generative", *_KINDS),
    "generative": ("generative",),
    "discriminative": _KINDS,
    "existence": ("existence",),
    "attribute": ("state", "number", "action"),
    "relation": ("relation",),
}
_START = 0.001
_ANNOTATIONS_SHA = "db22a436c4836fbb295e60b4e80d519573077579fb7032f01b193c1bd022b797"


@dataclass(frozen=True)
class Amber(Benchmark):
    """Descriptions without a judge (CHAIR, Cover, Hal, Cog) and yes/no questions on existence, attributes, relations.

    Precision, recall and F1 are of the answer **No**, and F1 is the official one, from rounded precision and recall.
    `amber` is half of 1 - CHAIR + F1, as the paper defines it; the authors' program does not print it.

    Nouns are found by this package's own rules (`nouns=own`): lemmas are exact, whether a word is a noun agrees with
    NLTK on 99 % of words in captions the rules were not fitted to. `nouns=nltk` runs the user's own NLTK, as the
    official program does, and gives its numbers.

    Reference: arXiv:2311.07397.

    Args:
        task: Which part; `all` needs answers to all 15,220 items.
        nouns: Who finds the nouns of a description.
        vectors: Text file of word vectors for near words; empty counts equal words only (see `scoring.amber`).
        threshold: Cosine above which two words are near; .8 is official.
    """

    task: Literal["all", "generative", "discriminative", "existence", "attribute", "relation"] = "all"
    nouns: Literal["own", "nltk"] = "own"
    vectors: str = ""
    threshold: float = 0.8

    protocols: ClassVar[Mapping[str, str]] = {
        "official": "only exactly Yes and No are answers; near words count when `vectors` are given, else equal words",
        "lenient": "yes and no as a person reads them; descriptions as in official",
    }
    reference: ClassVar[str] = "arXiv:2311.07397"
    checked: ClassVar[str] = (
        "Descriptions and yes/no answers made up for the published items: the tables the official program "
        "prints come out in all digits, for descriptions with equal words only. On 2,000 published captions of five "
        "models, taken for descriptions, nouns=nltk prints the official numbers and nouns=own differs by .1 point at "
        "most. Word vectors of spaCy were not tried."
    )
    licence: ClassVar[str] = "annotations Apache-2.0 (junyangwang0410/AMBER); pictures: no licence stated"
    get: ClassVar[str] = (
        "Copy the folder data/ of github.com/junyangwang0410/AMBER: annotations.json (15,220 rows, sha256 "
        f"{_ANNOTATIONS_SHA[:12]}…), relation.json, safe_words.txt and query/query_all.json; the pictures "
        "AMBER_1.jpg … AMBER_1004.jpg are linked from its README."
    )
    published: ClassVar[Mapping[str, Published]] = {
        "annotations.json": Published(
            15220, "db22a436c4836fbb295e60b4e80d519573077579fb7032f01b193c1bd022b797"
        ),
        "relation.json": Published(0, "c4c1491e9bbc3209abc1888c12a1bf8413bdbab8a0d8be04b990a2e7680cf23e"),
        "safe_words.txt": Published(0, "f92cf1123f4578a2630832fac3e6ac4de36212ea55859d3bed4fd233723f4043"),
        "query_all.json": Published(
            15220, "127680ae61f7d4a92d2f7f07a8deaec07f0689b194d2c7c0f41ead7bd2c5bcf5"
        ),
    }
    notes: ClassVar[tuple[str, ...]] = (
        "The official generative numbers use spaCy's en_core_web_lg at .8; equal words only give other numbers.",
        "Some toolkits load a smaller spaCy model, so that their CHAIR, Cover and Cog are not the official ones.",
        "Yes. and yes and No, … are wrong by the official rule: models that write sentences lose accuracy.",
        "Precision and recall are of the answer No; some papers print those of Yes.",
    )
    headline: ClassVar[tuple[str, ...]] = (
        "chair",
        "cover",
        "hal",
        "cog",
        "accuracy",
        "precision",
        "recall",
        "f1",
    )
    lower_is_better: ClassVar[frozenset[str]] = frozenset({"chair", "hal", "cog"})
    max_new_tokens: ClassVar[int] = 512
    text_fields: ClassVar[tuple[str, ...]] = ("response", "text", "answer", "prediction", "output")

    def samples(self, data: Path | None) -> Iterable[Sample]:
        """The items of the chosen task, with prompts and pictures where the official query file is there."""
        path = self.find(data, "annotations.json", "annotations*.json")
        queries = _queries(path.parent)
        known = _vocabulary(self, path) if "generative" in _TASKS[self.task] else {}
        for row in _rows(path, read_json(path)):
            kind = "generative" if row["type"] == "generative" else amber.part_of(row["type"])
            if kind in _TASKS[self.task]:
                yield _sample(row, kind, queries, known)

    def score(self, sample: Sample, said: Said) -> Row:
        """One description or one yes/no answer."""
        if sample.extra["kind"] == "generative":
            return self._described(sample, said)
        return self._answered(sample, said)

    def _described(self, sample: Sample, said: Said) -> Row:
        extra = sample.extra
        known = amber.Vocabulary(extra["related"], frozenset(extra["safe"]))
        found = amber.describe(
            said.text, extra["truth"], extra["hallu"], known, self._similar, self.threshold, self._nouns
        )
        numbers = {
            "described": 1.0, "clean": float(not found.hallucinated), "nouns": len(found.nouns),
            "wrong": len(found.hallucinated), "covered": found.n_covered, "truth": found.n_truth,
            "lured": found.n_lured, "lures": found.n_lures,
        }  # fmt: skip
        detail = {"nouns": list(found.nouns), "hallucinated": list(found.hallucinated)}
        return Row(
            sample.id,
            said.text,
            parsed=", ".join(dict.fromkeys(found.nouns)),
            label=", ".join(extra["truth"]),
            correct=not found.hallucinated,
            numbers=numbers,
            cluster=sample.image or "",
            detail=detail,
        )

    def _answered(self, sample: Sample, said: Said) -> Row:
        kind, truth = sample.extra["kind"], sample.reference
        read = amber.read(said.text, self.protocol)
        counted = {
            "asked": 1.0, "right": float(read == truth), "no": float(truth == "no"), "said_no": float(read == "no"),
            "no_right": float(read == truth == "no"), "strange": float(read is None and is_clear(said.text)),
        }  # fmt: skip
        return Row(
            sample.id,
            said.text,
            parsed=read,
            label=truth,
            correct=read == truth,
            numbers={f"{name}/{kind}": number for name, number in counted.items()},
            cluster=sample.image or "",
            detail={"kind": kind, "question": sample.prompt},
        )

    def metrics(self, total: Total) -> Mapping[str, Values]:
        """The official tables; F1 from rounded precision and recall, denominators plain."""
        found: dict[str, Values] = {}
        if "described" in total:
            found |= _generative(total)
        kinds = [kind for kind in _KINDS if f"asked/{kind}" in total]
        if kinds:
            found |= _table(total, kinds, "")
        for part, wanted in amber.PARTS.items():
            if set(wanted) <= set(kinds) and len(kinds) > 1:
                found |= _table(total, wanted, f"/{part}")
        if "described" in total and len(kinds) == len(_KINDS):
            found["amber"] = (1 - found["chair"] + found["f1"]) / 2
        return found

    def controls(
        self, samples: Mapping[str, Sample], rows: Sequence[Row], baseline: Sequence[Row]
    ) -> Mapping[str, Json]:
        """The table as the official program prints it: in percent, denominators from .001, one digit."""
        sums = {name: float(value) for name, value in totals(rows).items()}
        return {"as_printed": printed_table(sums)} if self.protocol == "official" and rows else {}

    def warnings(self, rows: Sequence[Row]) -> Sequence[str]:
        """Which setting the generative numbers belong to, and answers the official rule cannot read."""
        told = []
        described = any("described" in row.numbers for row in rows)
        if described and not self.vectors:
            told.append(
                "Descriptions were scored in exact-match mode: no `vectors` were given. Published CHAIR, Cover, Hal "
                "and Cog use word vectors and do not compare."
            )
        if described and self.nouns == "own":
            told.append(
                "Nouns were found by own rules and not by NLTK; about 1 % of words are decided differently."
            )
        n_strange = sum(
            number for row in rows for name, number in row.numbers.items() if name.startswith("strange/")
        )
        if n_strange:
            told.append(
                f"{int(n_strange)} answers say yes or no in other words than Yes and No, and count as wrong."
            )
        if rows and not any(row.cluster for row in rows):
            told.append(
                "Without query_all.json nobody knows which questions share a picture: intervals are too narrow."
            )
        return told

    @property
    def _nouns(self) -> amber.Nouns:
        return amber.nltk_nouns if self.nouns == "nltk" else amber.own_nouns

    @cached_property
    def _similar(self) -> amber.Similar | None:
        return amber.similarity_from(self.vectors) if self.vectors else None


def _generative(total: Total) -> dict[str, Values]:
    return {
        "chair": ratio(total["wrong"], total["nouns"]),
        "cover": ratio(total["covered"], total["truth"]),
        "hal": 1 - ratio(total["clean"], total["described"]),
        "cog": ratio(total["lured"], total["lures"]),
    }


def _table(total: Total, kinds: Sequence[str], end: str) -> dict[str, Values]:
    n, right, no, said_no, hit = (
        sum((total[f"{name}/{kind}"] for kind in kinds), np.zeros(()))
        for name in ("asked", "right", "no", "said_no", "no_right")
    )
    rounded = (np.round(hit / (whole + _START), 3) for whole in (said_no, no))
    precision, recall = rounded
    added = 0.001 if tuple(kinds) == ("existence",) else 0.0001
    return {
        f"accuracy{end}": ratio(right, n),
        f"precision{end}": ratio(hit, said_no),
        f"recall{end}": ratio(hit, no),
        f"f1{end}": 2 * precision * recall / (precision + recall + added),
    }


def _sample(
    row: Mapping[str, Any],
    kind: str,
    queries: Mapping[str, tuple[str, str | None]],
    known: Mapping[str, Json],
) -> Sample:
    id = str(row["id"])
    if kind == "generative":
        prompt, image = queries.get(id, ("Describe this image.", f"AMBER_{id}.jpg"))
        extra = {"kind": kind, "truth": row["truth"], "hallu": row["hallu"], **known}
        return Sample(id, prompt, image=image, extra=extra)
    prompt, where = queries.get(id, ("", None))
    return Sample(id, prompt, image=where, reference=row["truth"], extra={"kind": kind})


def _rows(path: Path, content: Json) -> Iterator[Mapping[str, Any]]:
    rows = content if isinstance(content, list) else []
    for number, row in enumerate(rows):
        if not (isinstance(row, dict) and {"id", "type", "truth"} <= row.keys()):
            raise BadInput(
                f"{str(path)!r}, entry {number}: AMBER's rows have id, type and truth. This one is {row!r}."
            )
        listed = row["type"] == "generative"
        if listed != isinstance(row["truth"], list) or (not listed and row["truth"] not in ("yes", "no")):
            raise BadInput(
                f"{str(path)!r}, entry {number}: the truth is {row['truth']!r}. A generative row lists objects, any "
                "other says yes or no. Copy annotations.json again."
            )
        yield row
    if not rows:
        raise BadInput(
            f"{str(path)!r} holds no list of rows. It should be AMBER's annotations.json; copy it again."
        )


def _queries(folder: Path) -> dict[str, tuple[str, str | None]]:
    for name in ("query/query_all.json", "query_all.json", "query/query_all.json.gz", "query_all.json.gz"):
        if (folder / name).is_file():
            return {str(row["id"]): (row["query"], row["image"]) for row in read_json(folder / name)}
    return {}


def _vocabulary(benchmark: Amber, annotations: Path) -> dict[str, Json]:
    related = read_json(benchmark.find(annotations.parent, "relation.json"))
    safe = benchmark.find(annotations.parent, "safe_words.txt").read_text(encoding="utf-8")
    return {"related": related, "safe": sorted(amber.vocabulary(related, safe).safe)}
