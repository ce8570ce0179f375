"""Captions and yes-or-no questions about drawn scenes whose truth is known exactly; nothing is downloaded.

Meant for the bundled reference models, and as a quick check of any other model: it proves mechanics, not how a model
does on photographs.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal

from vlmtools.benchmarks._captions import Cut, degenerate, recall_matched
from vlmtools.benchmarks.base import Benchmark, Row, Said, Total, Values, ratio
from vlmtools.errors import BadInput
from vlmtools.reference.pictures import as_sample
from vlmtools.reference.truth import SAMPLINGS, Probe, by_frequency, caption_truth, named, probes
from vlmtools.reference.world import Scene, World
from vlmtools.scoring.yes_no import lenient
from vlmtools.types import Json, Sample


@dataclass(frozen=True)
class Scenes(Benchmark):
    """One caption per drawn scene, and balanced questions with random, popular and adversarial absent things.

    Args:
        n: Scenes, at least 1.
        split: `test` has the pairs of things training could show; `novel` has in every scene a pair it never showed.
        start: Number of the first scene, from 0.
        pairs: Questions per scene and sampling: this many about things that are there, as many about others; 0 to 3. 0
            leaves the captions alone.
        captions: Whether captions are asked for.
    """

    n: int = 200
    split: Literal["test", "novel"] = "test"
    start: int = 0
    pairs: int = 1
    captions: bool = True

    protocols: ClassVar[Mapping[str, str]] = {
        "exact": "things are matched by name; yes and no are read as words"
    }
    checked: ClassVar[str] = "Own benchmark: examples worked out by hand."
    licence: ClassVar[str] = "Apache-2.0; the sprites are Noto Color Emoji, SIL Open Font License 1.1"
    get: ClassVar[str] = "Nothing to get: the pictures are drawn on first use."
    headline: ClassVar[tuple[str, ...]] = ("CHAIRi", "CHAIRs", "Recall", "accuracy", "yes_rate")
    lower_is_better: ClassVar[frozenset[str]] = frozenset({"CHAIRi", "CHAIRs", "Rep"})
    neutral: ClassVar[frozenset[str]] = frozenset({"yes_rate", "Len"})
    units: ClassVar[Mapping[str, str]] = {"Len": "words"}
    max_new_tokens: ClassVar[int] = 128
    notes: ClassVar[tuple[str, ...]] = (
        "Drawn scenes of 32 things; numbers say nothing about photographs.",
        "Interval and comparison treat everything asked about one scene as one cluster.",
    )

    def samples(self, data: Path | None) -> Iterator[Sample]:
        """The caption of each scene, then its questions; pictures are kept in `data`, or in the user's cache.

        Raises:
            BadInput: There is nothing to ask.
        """
        if self.n < 1 or not 0 <= self.pairs <= 3 or not (self.pairs or self.captions):
            raise BadInput(
                f"scenes was given n={self.n}, pairs={self.pairs}, captions={self.captions}. Choose n from 1, pairs "
                "from 0 to 3, and captions or at least one pair."
            )
        scenes = list(World(split=self.split).scenes(self.n, self.start))
        popular = by_frequency(scenes)
        for scene in scenes:
            yield from self._asked(scene, as_sample(scene, data), popular)

    def score(self, sample: Sample, said: Said) -> Row:
        """By the scene's own truth."""
        cluster = str(sample.extra["scene"])
        row = _caption(sample, said) if sample.extra["task"] == "caption" else _answer(sample, said)
        return replace(row, id=sample.id, answer=said.text, cluster=cluster)

    def metrics(self, total: Total) -> Mapping[str, Values]:
        """CHAIR beside recall and length; accuracy beside the share of yes, whole and by sampling."""
        found: dict[str, Values] = {}
        if self.captions:
            found_things = total["named"] - total["invented"]
            precision, recall = ratio(found_things, total["named"]), ratio(found_things, total["there"])
            found |= {
                "CHAIRi": ratio(total["invented"], total["named"]),
                "CHAIRs": ratio(total["with_invented"], total["captions"]),
                "Recall": recall,
                "F1": ratio(2 * precision * recall, precision + recall),
                "Len": ratio(total["words"], total["captions"]),
                "Rep": ratio(total["degenerate"], total["captions"]),
            }
        if self.pairs:
            found |= {
                "accuracy": ratio(total["right"], total["asked"]),
                "yes_rate": ratio(total["yes"], total["asked"]),
            }
            for sampling in SAMPLINGS:
                found[f"accuracy/{sampling}"] = ratio(total[f"right {sampling}"], total[f"asked {sampling}"])
        return found

    def controls(
        self, samples: Mapping[str, Sample], rows: Sequence[Row], baseline: Sequence[Row]
    ) -> Mapping[str, Json]:
        """The baseline's captions cut to the same recall, by words and by sentences."""
        ours = {row.id for row in rows if samples[row.id].extra["task"] == "caption"}
        captions = {row.id: row.answer for row in baseline if row.id in ours}
        if not captions:
            return {}
        truth = {id: samples[id].extra["objects"] for id in captions}
        recall = self.values([row for row in rows if row.id in captions])["Recall"]
        cut = recall_matched(captions, truth, recall, named)
        return {unit: {"most": one.most, **self._captions_alone(samples, one)} for unit, one in cut.items()}

    def _captions_alone(self, samples: Mapping[str, Sample], cut: Cut) -> Mapping[str, float]:
        rows = [self.score(samples[id], Said(text)) for id, text in cut.captions.items()]
        values = replace(self, pairs=0).values(rows)
        return {name: values[name] for name in ("CHAIRi", "CHAIRs", "Recall", "Len")}

    def _asked(self, scene: Scene, shown: Sample, popular: Sequence[str]) -> Iterator[Sample]:
        about: dict[str, Json] = {**shown.extra, "scene": scene.id}
        if self.captions:
            yield replace(shown, id=f"{scene.id}-caption", extra=about | {"task": "caption"})
        for sampling in SAMPLINGS if self.pairs else ():
            for number, probe in enumerate(list(probes(scene, sampling, popular))[: 2 * self.pairs]):
                yield _question(shown, probe, about, f"{scene.id}-{sampling}-{number}")


def _question(shown: Sample, probe: Probe, about: Mapping[str, Json], id_: str) -> Sample:
    extra = {**about, "task": "question", "thing": probe.name, "sampling": probe.sampling}
    return replace(
        shown, id=id_, prompt=probe.question, reference="yes" if probe.present else "no", extra=extra
    )


def _caption(sample: Sample, said: Said) -> Row:
    truth = caption_truth(said.text, sample.extra["objects"])
    numbers = {
        "captions": 1.0,
        "named": float(len(truth.named)),
        "invented": float(len(truth.invented)),
        "with_invented": float(bool(truth.invented)),
        "there": float(len(sample.extra["objects"])),
        "words": float(truth.n_words),
        "degenerate": float(degenerate(said.text)),
    }
    detail = {"invented": list(truth.invented), "missed": list(truth.missed)}
    there = ", ".join(sample.extra["objects"])
    return Row(
        parsed=", ".join(truth.named), label=there, correct=not truth.invented, numbers=numbers, detail=detail
    )


def _answer(sample: Sample, said: Said) -> Row:
    read, sampling = lenient(said.text), sample.extra["sampling"]
    right = float(read == sample.reference)
    numbers = {"asked": 1.0, "right": right, "yes": float(read == "yes")}
    numbers |= {f"asked {sampling}": 1.0, f"right {sampling}": right}
    detail = {"thing": sample.extra["thing"]}
    return Row(parsed=read, label=sample.reference, correct=bool(right), numbers=numbers, detail=detail)
