"""EventHallusion: does a model see the events that happen, or those that usually happen?"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from vlmtools.benchmarks._files import read_json
from vlmtools.benchmarks.base import Benchmark, Published, Row, Said, Total, Values, ratio
from vlmtools.errors import BadInput
from vlmtools.scoring.eventhallusion import SPLITS, read_answer, read_judgement
from vlmtools.types import Json, Sample

QUESTION_END = "\nPlease answer yes or no:"
DESCRIBE = "Please describe this video in detail."
_JUDGED = (
    "You compare a description of a video with what is known to happen in it.\n\nDescription: {said}\n\n"
    "What happens: {event}\n\n{ask} Judge events and actions only; objects, places and mood do not matter. Begin your "
    "reply with yes or no."
)
_ASK = {
    "entire": "Does the description tell the same event?",
    "interleave": "Does the description mention this event?",
    "misleading": "Does the description agree with this event, and tell no other event?",
}


@dataclass(frozen=True)
class EventHallusion(Benchmark):
    """Questions and descriptions of videos with rare events, or with common ones that a question misleads about.

    `questions` is the share of yes/no questions answered rightly, `descriptions` the share of descriptions that the
    judge accepts; each also per split. `unread_questions` and `unread_judgements` are answers and verdicts that begin
    with neither yes nor no; both count as wrong.

    Reference: arXiv:2409.16597, section 3.

    Args:
        split: One split, or all of them.
        ask: Only the questions, only the descriptions, or both.
    """

    split: Literal["all", "entire", "interleave", "misleading"] = "all"
    ask: Literal["both", "questions", "descriptions"] = "both"

    protocols: ClassVar[Mapping[str, str]] = {
        "official": "an answer is what it begins with, in any case, blanks kept; a verdict without asterisks",
        "lenient": "the same with blanks, quotes and asterisks before the word removed",
    }
    reference: ClassVar[str] = "arXiv:2409.16597"
    checked: ClassVar[str] = (
        "The authors' program on its three published files of answers and verdicts (GPT-4o, Gemini, Video-LLaVA) and "
        "on twenty made-up ones: equal. The judge itself was not run."
    )
    licence: ClassVar[str] = "none named (Stevetich/EventHallusion), for questions and videos"
    get: ClassVar[str] = (
        "Take questions/{entire,interleave,misleading}_questions.json of github.com/Stevetich/EventHallusion into one "
        "folder, and the videos its README links as <split>/<id>.mp4."
    )
    modality: ClassVar[tuple[str, ...]] = ("video",)
    judge: ClassVar[str] = "GPT-4o, for the descriptions; the questions need none"
    published: ClassVar[Mapping[str, Published]] = {
        "entire_questions.json": Published(
            109, "f7116d7ec6d2f51a32d24e4c9d53e23b91f339cfea693b9e23de4f429b4c3a5c"
        ),
        "interleave_questions.json": Published(
            193, "0228137d6b3db8626bbc3b2d561b2c136eb53c791fcddc7912325787b0fd1168"
        ),
        "misleading_questions.json": Published(
            95, "5eae8c84bb8bfd84a0a35640f7b1d09b30ca45e356ed34724c3412f046500b2c"
        ),
    }
    notes: ClassVar[tuple[str, ...]] = (
        "The authors' wording for the judge is not used here; ours asks the same, so judged numbers may differ.",
        "Stored verdicts (field `judgement` of the authors' files) are read as they are.",
        "The overall numbers are over all questions and videos; some papers print the mean of the splits.",
        "The authors show 8 frames.",
        "Comparable: the authors' files, questions / descriptions in %: GPT-4o 84.1 / 56.2, Gemini 80.2 / 49.6, "
        "Video-LLaVA 50.6 / 16.9.",
    )
    headline: ClassVar[tuple[str, ...]] = ("questions", "descriptions")
    lower_is_better: ClassVar[frozenset[str]] = frozenset({"unread_questions", "unread_judgements"})
    max_new_tokens: ClassVar[int] = 512

    def samples(self, data: Path | None) -> Iterable[Sample]:
        """Per video its questions, `id/0`, `id/1`, …, then `id/description`."""
        place = self.need(data)
        for split in SPLITS if self.split == "all" else (self.split,):
            for video in self._videos(place, split):
                yield from self._of_video(split, video)

    def _videos(self, place: Path, split: str) -> Iterator[Mapping[str, Json]]:
        names = (f"{split}_questions.json", f"questions/{split}_questions.json", f"{split}.json", "*.json")
        path = self.find(place, *names)
        content = read_json(path)
        if isinstance(content, dict):
            content = content.get(split, [])
        rows = list(content.values()) if isinstance(content, dict) else content
        if not isinstance(rows, list) or not all(isinstance(row, dict) and "id" in row for row in rows):
            raise BadInput(f"{str(path)!r} does not list videos with an id for {split}. {self.get}")
        yield from (row for row in rows if str(row["id"]).startswith(split))

    def _of_video(self, split: str, video: Mapping[str, Json]) -> Iterator[Sample]:
        id, event = str(video["id"]), dict(video.get("event_info") or {})
        asked = video.get("questions") or video.get("qa") or []
        where = f"{split}/{id}.mp4"
        for number, one in enumerate(asked if self.ask != "descriptions" else []):
            question = str(one.get("question", ""))
            yield Sample(
                f"{id}/{number}",
                f"{question}{QUESTION_END}",
                video=where,
                reference=str(one["answer"]),
                extra={"split": split, "question": question},
            )
        if self.ask != "questions":
            truth = event.get("unexpected" if split == "interleave" else "caption")
            yield Sample(f"{id}/description", DESCRIBE, video=where, extra={"split": split, "event": truth})

    def score(self, sample: Sample, said: Said) -> Row:
        """A question by its beginning, a description by its verdict."""
        split = str(sample.extra["split"])
        if sample.id.endswith("/description"):
            return self._description(sample, said, split)
        read = read_answer(self._clean(said.text))
        right = read == sample.reference
        counted = {"q": 1.0, "q_right": float(right), "q_unread": float(read is None)}
        return Row(
            sample.id,
            said.text,
            parsed=read,
            label=sample.reference,
            correct=right,
            numbers={f"{name}/{split}": value for name, value in counted.items()},
            cluster=sample.video or "",
            detail={"split": split, "question": sample.extra["question"]},
        )

    def _description(self, sample: Sample, said: Said, split: str) -> Row:
        reply = said.verdicts[0] or "" if said.verdicts else said.fields.get("judgement")
        read = None if reply is None else read_judgement(self._clean(str(reply)))
        counted = {"d": 1.0, "d_right": float(read == "yes"), "d_unread": float(read is None)}
        return Row(
            sample.id,
            said.text,
            parsed=read,
            correct=None if reply is None else read == "yes",
            numbers={} if reply is None else {f"{name}/{split}": value for name, value in counted.items()},
            cluster=sample.video or "",
            detail={"split": split, "judgement": reply},
        )

    def _clean(self, text: str) -> str:
        return text.lstrip(" \n\t*\"'`#>-") if self.protocol == "lenient" else text

    def metrics(self, total: Total) -> Mapping[str, Values]:
        """Over everything, then per split."""
        splits = [split for split in SPLITS if f"q/{split}" in total or f"d/{split}" in total]
        pooled = {name: sum((total[f"{name}/{split}"] for split in splits), np.zeros(())) for name in _COUNTS}
        found = _rates(pooled, "")
        for split in splits:
            found |= _rates({name: total[f"{name}/{split}"] for name in _COUNTS}, f"/{split}")
        return found

    def questions(self, sample: Sample, text: str) -> Sequence[Sample]:
        """One verdict on a description, in our own wording; nothing for questions."""
        event = sample.extra.get("event")
        if not sample.id.endswith("/description") or not event or not text:
            return ()
        return [
            Sample(sample.id, _JUDGED.format(said=text, event=event, ask=_ASK[str(sample.extra["split"])]))
        ]

    def unpack(
        self, entry: Mapping[str, Json]
    ) -> Sequence[tuple[str, str | None, Mapping[str, Json]]] | None:
        """The official layout: split → videos, each with `qa`, `desc` and `judgement`."""
        split = entry.get("id")
        if split in SPLITS and self.split in ("all", split):
            videos = entry["text"] if isinstance(entry.get("text"), list) else [
                one for one in entry.values() if isinstance(one, dict)
            ]  # fmt: skip
            return [piece for video in videos for piece in self._pieces(video)]
        if split in SPLITS:
            return []
        return self._pieces(entry) if "qa" in entry else None

    def _pieces(self, video: Mapping[str, Json]) -> list[tuple[str, str | None, Mapping[str, Json]]]:
        id = str(video["id"])
        # an answer of null counts as wrong in the authors' program, so it is an answer here
        asked: list[tuple[str, str | None, Mapping[str, Json]]] = [
            (f"{id}/{number}", one["prediction"] or "", {}) for number, one in enumerate(video["qa"])
        ]
        told = (f"{id}/description", video.get("desc") or "", {"judgement": video.get("judgement")})
        return [*(asked if self.ask != "descriptions" else []), *([told] if self.ask != "questions" else [])]

    def warnings(self, rows: Sequence[Row]) -> Sequence[str]:
        """Descriptions nobody judged."""
        n = sum(row.id.endswith("/description") and row.correct is None for row in rows)
        return (
            [f"{n:,} descriptions have no verdict: they are not scored. Name a judge with --judge."]
            if n
            else []
        )


_COUNTS = ("q", "q_right", "q_unread", "d", "d_right", "d_unread")


def _rates(counts: Mapping[str, Values], end: str) -> dict[str, Values]:
    found = {
        f"questions{end}": ratio(counts["q_right"], counts["q"], np.nan),
        f"descriptions{end}": ratio(counts["d_right"], counts["d"], np.nan),
    }
    if end:
        return found
    return {
        **found,
        "unread_questions": ratio(counts["q_unread"], counts["q"]),
        "unread_judgements": ratio(counts["d_unread"], counts["d"]),
    }
