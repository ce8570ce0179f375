"""CHAIR: how often a caption names COCO objects that are not in the picture."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from vlmtools.benchmarks._captions import Cut, degenerate, recall_matched, whole_sentences
from vlmtools.benchmarks._files import read_json
from vlmtools.benchmarks.base import Benchmark, Row, Said, Total, Values, ratio
from vlmtools.scoring.chair import ground_truth_from_coco, load_truth, score_caption
from vlmtools.types import Json, Sample

_FILE_NAME = re.compile(r"(?:COCO_(?:val|train)2014_)?0*(\d+)(?:\.(?:jpg|png))?", re.IGNORECASE)


@dataclass(frozen=True)
class Chair(Benchmark):
    """Caption hallucination over the 80 COCO objects, always beside what makes a low value cheap: recall and length.

    `CHAIRs` is the share of captions with any hallucinated object, `CHAIRi` the share of mentions, `Recall` the share
    of the pictures' objects that are named; the three are the official numbers. Beside them: `Precision` (distinct
    objects named that are there), `F1` (harmonic mean of Precision and Recall), `Cover` (captions that name any
    object), `Len` (mean words) and `Rep` (captions that repeat themselves: over a fifth of their 4-word sequences
    occurred before).

    With `--baseline`, `record.controls` holds the baseline cut until it recalls no more than the answers scored: a
    method that only says less is no better than its baseline cut to the same recall (`recall_matched` says how).

    Reference: arXiv:1809.02156, section 3.

    Args:
        prompt: What a model is asked; OPERA's wording.
    """

    prompt: str = "Please describe this image in detail."

    protocols: ClassVar[Mapping[str, str]] = {
        "official": "every word of the caption counts",
        "whole-sentences": "an unfinished last sentence is dropped first, as some papers do without saying so",
    }
    reference: ClassVar[str] = "arXiv:1809.02156"
    checked: ClassVar[str] = (
        "The official program's CHAIRs, CHAIRi and Recall, and the objects it finds in every single "
        "caption, on 17 published files of captions and on 30,000 captions altered at random: equal to the last digit."
    )
    licence: ClassVar[str] = "annotations CC BY 4.0 (COCO)"
    get: ClassVar[str] = (
        "Give a JSON file {image id: [objects]}, or a folder with COCO's instances_val2014.json and "
        "captions_val2014.json (and those of train2014, if they are used) from cocodataset.org; pictures are COCO "
        "val2014."
    )
    notes: ClassVar[tuple[str, ...]] = (
        "Most papers use 500 random pictures of val2014 and do not name them: compare on the same ids only.",
        "64 and 512 new tokens give different numbers; so does dropping a cut last sentence (whole-sentences).",
        "Lemmatisers in place of the official plural rules move numbers: WordNet by .6 points, simplemma by 3.2.",
        "CHAIR falls when captions get shorter: read it with Recall, Len and the baseline cut to the same recall.",
    )
    headline: ClassVar[tuple[str, ...]] = ("CHAIRs", "CHAIRi", "Recall", "F1", "Len", "Rep")
    lower_is_better: ClassVar[frozenset[str]] = frozenset({"CHAIRs", "CHAIRi", "Rep"})
    neutral: ClassVar[frozenset[str]] = frozenset({"Len"})
    units: ClassVar[Mapping[str, str]] = {"Len": "words"}
    max_new_tokens: ClassVar[int] = 512
    whole: ClassVar[bool] = False
    id_fields: ClassVar[tuple[str, ...]] = ("image_id", "id", "image", "question_id")
    text_fields: ClassVar[tuple[str, ...]] = ("caption", "text", "answer", "response", "output")

    def samples(self, data: Path | None) -> Iterable[Sample]:
        """One item per picture whose objects are known, in the order of their ids."""
        truth = _truth(self, data)
        for id in sorted(truth, key=lambda id: (0, int(id), "") if id.isdecimal() else (1, 0, id)):
            name = f"COCO_val2014_{int(id):012d}.jpg" if id.isdecimal() else None
            yield Sample(id, self.prompt, image=name, extra={"objects": sorted(truth[id])})

    def known_as(self, id: str) -> str:
        """`COCO_val2014_000000000042.jpg` and 42 are the same picture."""
        found = _FILE_NAME.fullmatch(id)
        return found[1] if found else id

    def score(self, sample: Sample, said: Said) -> Row:
        """The objects of one caption against those in the picture."""
        caption = whole_sentences(said.text) if self.protocol == "whole-sentences" else said.text
        found = score_caption(caption, sample.extra["objects"])
        return Row(
            sample.id,
            said.text,
            parsed=", ".join(dict.fromkeys(found.generated)),
            label=", ".join(sample.extra["objects"]),
            correct=not found.chair_s,
            numbers={
                "any_wrong": found.chair_s,
                "mentions": len(found.generated),
                "wrong": len(found.hallucinated),
                "found": found.n_found,
                "truth": found.n_truth,
                "distinct": len(set(found.generated)),
                "words": found.n_words,
                "names_any": float(bool(found.generated)),
                "degenerate": float(degenerate(caption)),
            },
            detail={
                "generated": list(found.generated),
                "hallucinated": [list(pair) for pair in found.hallucinated],
                "CHAIRs": found.chair_s,
                "CHAIRi": found.chair_i,
                "Recall": found.recall,
            },
        )

    def metrics(self, total: Total) -> Mapping[str, Values]:
        """Shares of the sums over captions."""
        precision, recall = ratio(total["found"], total["distinct"]), ratio(total["found"], total["truth"])
        return {
            "CHAIRs": ratio(total["any_wrong"], total["n"]),
            "CHAIRi": ratio(total["wrong"], total["mentions"]),
            "Recall": recall,
            "Precision": precision,
            "F1": ratio(2 * precision * recall, precision + recall),
            "Cover": ratio(total["names_any"], total["n"]),
            "Len": ratio(total["words"], total["n"]),
            "Rep": ratio(total["degenerate"], total["n"]),
        }

    def controls(
        self, samples: Mapping[str, Sample], rows: Sequence[Row], baseline: Sequence[Row]
    ) -> Mapping[str, Json]:
        """The baseline cut to the same recall, by words and by sentences."""
        shared = {row.id for row in rows} & {row.id for row in baseline}
        if not shared:
            return {}
        ours = self.values([row for row in rows if row.id in shared])
        captions = {row.id: row.answer for row in baseline if row.id in shared}
        cut = recall_matched(captions, {id: samples[id].extra["objects"] for id in captions}, ours["Recall"])
        return {
            "n": len(shared),
            "ours": dict(ours),
            "baseline": dict(self.values(_scored(self, samples, captions))),
            **{unit: self._cut(samples, one) for unit, one in cut.items()},
        }

    def _cut(self, samples: Mapping[str, Sample], cut: Cut) -> dict[str, Json]:
        return {"most": cut.most, **self.values(_scored(self, samples, cut.captions))}

    def warnings(self, rows: Sequence[Row]) -> Sequence[str]:
        """Captions that name nothing, and pictures without objects."""
        silent = sum(not row.numbers["names_any"] for row in rows)
        said = [f"{silent} of {len(rows)} captions name no object: they count as free of hallucination."]
        return said if silent > 0.05 * max(1, len(rows)) else []


def _scored(benchmark: Chair, samples: Mapping[str, Sample], captions: Mapping[str, str]) -> list[Row]:
    return [benchmark.score(samples[id], Said(text)) for id, text in captions.items()]


def _truth(benchmark: Chair, data: Path | None) -> dict[str, frozenset[str]]:
    place = benchmark.need(data)
    if place.is_file():
        return load_truth(place)
    instances = sorted([*place.rglob("instances_*2014.json"), *place.rglob("instances_*2014.json.gz")])
    if not instances:
        return load_truth(benchmark.find(place, "*gt_objects*.json", "*truth*.json"))
    truth: dict[str, set[str]] = {}
    for path in instances:
        captions = path.with_name(path.name.replace("instances_", "captions_"))
        for id, objects in ground_truth_from_coco(read_json(path), read_json(captions)).items():
            truth.setdefault(id, set()).update(objects)
    return {id: frozenset(objects) for id, objects in truth.items()}
