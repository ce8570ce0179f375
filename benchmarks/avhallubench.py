"""AVHalluBench: how much of a description of a video, its sound, or both does a human description support?"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from vlmtools.benchmarks._files import read_entries
from vlmtools.benchmarks.base import Benchmark, Row, Said, Total, Values, ratio
from vlmtools.errors import BadInput
from vlmtools.scoring._punkt import sentence_spans
from vlmtools.types import Sample

PROMPTS = {
    "visual": "Describe the video in one paragraph.",
    "audio": "Describe the audio in one paragraph.",
    "audio-visual": "Describe the video (visual and audio) in one paragraph.",
}
"""The last two are published; the first is ours."""
_JUDGED = (
    "Context: {context}\n\nSentence: {sentence}\n\nIs the sentence supported by the context above? "
    "Answer Yes or No.\n\nAnswer: "
)


@dataclass(frozen=True)
class AvHalluBench(Benchmark):
    """Descriptions of 175 short videos, compared sentence by sentence with a human description.

    `refcheck` is the share of a description's sentences that the judge does not find in the human one, averaged over
    descriptions, an unreadable verdict counting half; `words` is how long descriptions are. Without a judge only the
    length is given. Ranking systems against each other, with local judges, is `scripts/avhallubench.py`.

    Reference: arXiv:2405.13684, section 5.

    Args:
        task: What is described, from what is shown: the silent video, the sound, or both.
    """

    task: Literal["visual", "audio", "audio-visual"] = "visual"

    protocols: ClassVar[Mapping[str, str]] = {
        "refcheck": "a sentence is unsupported if the judge begins with no; neither yes nor no counts half",
    }
    reference: ClassVar[str] = "arXiv:2405.13684"
    checked: ClassVar[str] = (
        "References were read from the published items; whether the rankings agree with the published ones "
        "was not checked for want of the judges."
    )
    licence: ClassVar[str] = (
        "descriptions Apache-2.0 (scb10x/avhallubench on the hub); videos their uploaders'"
    )
    get: ClassVar[str] = (
        "Download data.json of the data set scb10x/avhallubench from the hub (video_id, visual_description, "
        "audio_description), and the videos as <video_id>.mp4."
    )
    modality: ClassVar[tuple[str, ...]] = ("video", "audio")
    judge: ClassVar[str] = "Mistral-7B-Instruct-v0.2, asked yes or no in the published wording"
    notes: ClassVar[tuple[str, ...]] = (
        "Systems given different inputs must not be ranked in one list: the published audio table does it, and its "
        "order agrees with RefCheck at Spearman .36 only.",
        "The published file called 175 has 176 rows.",
        "The prompt for silent video is ours; those for sound and for both are published.",
        "Comparable (RefCheck in %, visual): Gemini-1.5-pro 24.2, Chat-UniVi 25.7, Video-LLaVA 31.7, Valley 51.8.",
    )
    headline: ClassVar[tuple[str, ...]] = ("refcheck",)
    lower_is_better: ClassVar[frozenset[str]] = frozenset({"refcheck", "unread"})
    neutral: ClassVar[frozenset[str]] = frozenset({"words"})
    units: ClassVar[Mapping[str, str]] = {"words": "words"}
    max_new_tokens: ClassVar[int] = 256
    whole: ClassVar[bool] = False
    id_fields: ClassVar[tuple[str, ...]] = ("id", "video_id")
    text_fields: ClassVar[tuple[str, ...]] = ("text", "description", "caption", "answer", "response")

    def samples(self, data: Path | None) -> Iterable[Sample]:
        """One item per video, called by its id; the reference is the human description of what is shown."""
        path = self.find(data, "data.json", "annotations_dedup_clean_175.json", "*.json", "*.jsonl")
        kinds = {"visual": ("video",), "audio": ("audio",), "audio-visual": ("video", "audio")}[self.task]
        for row in read_entries(path):
            seen, heard = row.optional("visual_description"), row.optional("audio_description")
            wanted = {"visual": (seen,), "audio": (heard,), "audio-visual": (seen, heard)}[self.task]
            id = row.optional("video_id")
            if id is None or None in wanted:
                raise BadInput(
                    f"{row.where}: an item has video_id, visual_description and audio_description. {self.get}"
                )
            shown: dict[str, Any] = dict.fromkeys(kinds, f"{id}.mp4")
            yield Sample(id, PROMPTS[self.task], reference=" ".join(filter(None, wanted)), **shown)

    def score(self, sample: Sample, said: Said) -> Row:
        """The share of sentences the judge refuses, and the length."""
        n_words = float(len(said.text.split()))
        values = [_value(reply) for reply in said.verdicts]
        judged = {"judged": 1.0, "unsupported": float(np.mean(values))} if values else {}
        unread = {"verdicts": float(len(values)), "unread": float(values.count(0.5))} if values else {}
        return Row(
            sample.id,
            said.text,
            parsed=said.text or None,
            numbers={"words": n_words, **judged, **unread},
            detail={"reference": sample.reference, "verdicts": list(said.verdicts)},
        )

    def metrics(self, total: Total) -> Mapping[str, Values]:
        """The mean over judged descriptions."""
        return {
            "refcheck": ratio(total["unsupported"], total["judged"], np.nan),
            "unread": ratio(total["unread"], total["verdicts"]),
            "words": ratio(total["words"], total["n"]),
        }

    def questions(self, sample: Sample, text: str) -> Sequence[Sample]:
        """One question per sentence, in the published wording."""
        context = str(sample.reference).replace("\n", " ")
        low = text.lower()
        whole = text if len(low) == len(text) else low  # a few capitals become two letters
        sentences = [whole[start:stop].strip() for start, stop in sentence_spans(low)]
        return [
            Sample(f"{sample.id}/{number}", _JUDGED.format(context=context, sentence=sentence))
            for number, sentence in enumerate(sentences)
            if sentence
        ]

    def warnings(self, rows: Sequence[Row]) -> Sequence[str]:
        """No judge."""
        judged = any("judged" in row.numbers for row in rows)
        return (
            []
            if judged
            else ["Without a judge only lengths are given; name one, or use scripts/avhallubench.py."]
        )


def _value(reply: str | None) -> float:
    said = (reply or "").strip().lower()
    return 0.0 if said.startswith("yes") else 1.0 if said.startswith("no") else 0.5
