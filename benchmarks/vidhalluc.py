"""VidHalluc: actions that are not there, actions in the wrong order, and scenes that do not change."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from vlmtools.benchmarks._files import read_json
from vlmtools.benchmarks.base import Benchmark, Row, Said, Total, Values, ratio
from vlmtools.errors import BadInput
from vlmtools.scoring import vidhalluc as rules
from vlmtools.types import Json, Sample

FILES = {"mcq": "ach_mcq.json", "bqa": "ach_binaryqa.json", "tsh": "tsh.json", "sth": "sth.json"}
_FOLDERS = {"mcq": "ACH", "bqa": "ACH", "tsh": "TSH", "sth": "STH"}
CHOOSE = " Please select the correct answer (one or more options), only return your answer(s). (e.g., ABCD)\nChoices:\n"
YES_NO = " Only answer with a single word 'Yes' or 'No'."
SORT = (
    "Sort these two actions in the order they occur in the video, and return the order you detect (i.e., AB or BA). If "
    "you only detect one action of these two in the video, return that action."
)
SCENE = (
    "Watch the given video and determine if a scene change occurs. If no change occurs, respond: 'Scene change: No, "
    "Locations: None'. If there is a scene change, respond in the format: 'Scene change: Yes, Locations: from "
    "[location1] to [location2].'"
)
_Piece = tuple[str, str | None, Mapping[str, Json]]


@dataclass(frozen=True)
class VidHalluc(Benchmark):
    """Four tasks on videos that look alike: choose actions, confirm them, order them, notice a change of scene.

    `mcq` and `bqa` are actions by choice and by yes/no over clips, `tsh` the order of two actions, `mcc` and
    `scene_classification` the change of scene. The places a model names in the scene task are compared by embeddings
    in the authors' program; that half, and the overall scene score, are not computed here (`vlmtools.scoring.vidhalluc.
    score_sth` takes any similarity).

    Reference: arXiv:2412.03735, sections 3 and 4.

    Args:
        task: One task, or all of them.
    """

    task: Literal["all", "mcq", "bqa", "tsh", "sth"] = "all"

    protocols: ClassVar[Mapping[str, str]] = {
        "official": "as the authors' four programs read and count",
        "lenient": "the order of actions also from AB. and A, B, and from names followed by a full stop",
    }
    reference: ClassVar[str] = "arXiv:2412.03735"
    checked: ClassVar[str] = (
        "The authors' functions that read answers (choices, yes/no, order, scene change), on 100,000 made-up answers: "
        "equal. SimCSE similarities were not computed, and no real model's answers were tried."
    )
    licence: ClassVar[str] = (
        "none named (Vid-Halluc/VidHalluc); videos from ActivityNet, YouCook2 and VALOR-32K"
    )
    get: ClassVar[str] = (
        "Download the data set chaoyuli/VidHalluc from the hub: ach_mcq.json, ach_binaryqa.json, tsh.json and sth.json "
        "in one folder, the unpacked videos in data/ACH, data/TSH and data/STH below it."
    )
    modality: ClassVar[tuple[str, ...]] = ("video",)
    notes: ClassVar[tuple[str, ...]] = (
        "Multiple choice: the article A counts as the letter A.",
        "A yes/no question counts only when the answers about all its clips are right; the authors leave out questions "
        "without any answer, here they are asked for.",
        "The scene score of the paper adds .4 x the likeness of places by SimCSE; it is not part of these numbers.",
        "Some clips of the published archive cannot be opened; they are reported as unreadable and not as wrong.",
    )
    headline: ClassVar[tuple[str, ...]] = ("mcq", "bqa", "tsh", "scene_classification")
    lower_is_better: ClassVar[frozenset[str]] = frozenset({"unread"})
    units: ClassVar[Mapping[str, str]] = {"mcc": "correlation, −1 to 1"}
    text_fields: ClassVar[tuple[str, ...]] = (
        "text",
        "Model Answer",
        "answer",
        "response",
        "prediction",
        "output",
    )

    def samples(self, data: Path | None) -> Iterable[Sample]:
        """Ids are `mcq/question/clip`, `bqa/question/number/clip`, `tsh/number`, `sth/video`."""
        place = self.need(data)
        for task in FILES if self.task == "all" else (self.task,):
            if self.task == "all" and place.is_dir() and not any(place.glob(f"{FILES[task]}*")):
                continue
            path = self.find(place, FILES[task])
            content = read_json(path)
            if not isinstance(content, dict):
                raise BadInput(f"{str(path)!r} is no object of questions. {self.get}")
            try:
                yield from _READERS[task](content)
            except (KeyError, TypeError, AttributeError, IndexError) as error:
                raise BadInput(
                    f"{str(path)!r} is not of the published layout of {task} ({error}). {self.get}"
                ) from error

    def score(self, sample: Sample, said: Said) -> Row:
        """One answer by the rule of its task."""
        task = sample.id.partition("/")[0]
        parsed, right = self._read(task, sample, said.text)
        counted = {f"n_{task}": 1.0, f"right_{task}": float(right), "unread": float(parsed is None)}
        scene = _table(sample, parsed) if task == "sth" else {}
        return Row(
            sample.id,
            said.text,
            parsed=parsed,
            label=sample.reference,
            correct=right,
            numbers={"unread": counted["unread"]} | (scene or ({} if task == "bqa" else counted)),
            cluster=str(sample.extra["cluster"]),
            detail={"task": task, "question": sample.extra["question"]},
        )

    def _read(self, task: str, sample: Sample, text: str) -> tuple[str | None, bool]:
        gold = str(sample.reference)
        if task == "mcq":
            one = rules.Choice(text, gold, dict(sample.extra["options"]))
            return "".join(sorted(rules.chosen(text, one.options))) or None, rules.is_right_choice(one)
        if task == "bqa":
            said = rules.said_of_clip(text)
            return (said if said in ("YES", "NO") else None), said == gold.strip().upper()
        if task == "tsh":
            order = rules.read_order(text, lenient=self.protocol == "lenient")
            return (None if order == "None" else order), order == gold
        change = rules.read_scene(text)[0]
        return (change if change in ("yes", "no") else None), (change == "yes") == (gold.lower() == "yes")

    def finish(self, rows: Sequence[Row]) -> Sequence[Row]:
        """A yes/no question counts once, in its first clip."""
        groups: dict[str, list[Row]] = {}
        for row in rows:
            if row.id.startswith("bqa/"):
                groups.setdefault(row.id.rpartition("/")[0], []).append(row)
        first = {group[0].id: float(all(row.correct for row in group)) for group in groups.values()}
        return [
            replace(row, numbers={**row.numbers, "n_bqa": 1.0, "right_bqa": first[row.id]})
            if row.id in first
            else row
            for row in rows
        ]

    def metrics(self, total: Total) -> Mapping[str, Values]:
        """The tasks there are."""
        found = {
            task: ratio(total[f"right_{task}"], total[f"n_{task}"])
            for task in ("mcq", "bqa", "tsh")
            if f"n_{task}" in total
        }
        if "n_sth" in total:
            mcc = _correlation(total)
            found |= {"scene_classification": ((mcc + 1) / 2) ** 2, "mcc": mcc}
        return {**found, "unread": ratio(total["unread"], total["n"])}

    def unpack(self, entry: Mapping[str, Json]) -> Sequence[_Piece] | None:
        """The layouts of the authors' four programs."""
        id, text = str(entry.get("id", "")), entry.get("text")
        if id.partition("/")[0] in FILES:
            return None
        if isinstance(text, list):
            return [
                (f"bqa/{id}/{number}/{clip}", answer, {})
                for number, one in enumerate(text)
                for clip, answer in one["a"].items()
            ]
        if "Model Answer" in entry:
            return [(f"tsh/{id}", entry["Model Answer"], {})]
        clips = [
            (clip, one) for clip, one in entry.items() if isinstance(one, dict) and "Model Answer" in one
        ]
        if clips:
            return [(f"mcq/{id}/{clip}", one["Model Answer"], {}) for clip, one in clips]
        return [(f"sth/{id}", text, {})] if isinstance(text, str) else None


def _sample(task: str, id: str, clip: str, prompt: str, gold: str, **more: Json) -> Sample:
    where = f"data/{_FOLDERS[task]}/{clip}.mp4"
    return Sample(f"{task}/{id}", prompt, video=where, reference=gold, extra={"cluster": clip, **more})


def _mcq(content: Mapping[str, Json]) -> Iterator[Sample]:
    for key, clips in content.items():
        for clip, one in clips.items():
            options = {str(letter): str(text) for letter, text in one["Choices"].items()}
            listed = "".join(f"{letter}. {text}\n" for letter, text in options.items())
            more = {"options": options, "question": one["Question"], "cluster": str(key)}
            prompt, gold = one["Question"] + CHOOSE + listed, str(one["Correct Answer"])
            yield replace(_sample("mcq", f"{key}/{clip}", str(clip), prompt, gold), extra=more)


def _bqa(content: Mapping[str, Json]) -> Iterator[Sample]:
    for key, questions in content.items():
        for number, one in enumerate(questions):
            for clip, gold in one["a"].items():
                made = _sample("bqa", f"{key}/{number}/{clip}", str(clip), one["q"] + YES_NO, str(gold))
                yield replace(made, extra={"cluster": str(key), "question": one["q"]})


def _tsh(content: Mapping[str, Json]) -> Iterator[Sample]:
    for key, one in content.items():
        asked = str(one["Question"])
        yield _sample(
            "tsh", str(key), str(one["video"]), asked + SORT, str(one["Correct Answer"]), question=asked
        )


def _sth(content: Mapping[str, Json]) -> Iterator[Sample]:
    for video, one in content.items():
        yield _sample("sth", str(video), str(video), SCENE, str(one["Scene change"]), question=SCENE,
                      places=str(one["Locations"]))  # fmt: skip


_READERS: Mapping[str, Callable[[Mapping[str, Json]], Iterator[Sample]]] = {
    "mcq": _mcq, "bqa": _bqa, "tsh": _tsh, "sth": _sth,
}  # fmt: skip


def _table(sample: Sample, parsed: str | None) -> dict[str, float]:
    truth, said = str(sample.reference).lower() == "yes", parsed == "yes"
    cell = {(True, True): "tp", (False, False): "tn", (False, True): "fp", (True, False): "fn"}[truth, said]
    return {"n_sth": 1.0, cell: 1.0}


def _correlation(total: Total) -> Values:
    tp, tn, fp, fn = (total[name] for name in ("tp", "tn", "fp", "fn"))
    return ratio(tp * tn - fp * fn, np.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)))
