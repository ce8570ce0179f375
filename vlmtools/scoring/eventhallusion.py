"""EventHallusion: yes/no questions about rare events, and descriptions judged by another model, as officially counted.

Traps worth knowing before numbers are compared:

* A reading is by how the answer begins, in any case, blanks not removed: "Not sure" and "nothing" are no, " Yes" with
  a leading blank is nothing. What is nothing is wrong, and its share is printed.
* Descriptions are not scored here: a judge's reply to each is read, asterisks taken away. An empty reply is what a
  judge that failed leaves behind; it is wrong too.
* The overall numbers are over all questions and all videos; splits of different size do not count alike.

Reference: arXiv:2409.16597, section 3; the official `eval.py`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from vlmtools.errors import BadInput

SPLITS = ("entire", "interleave", "misleading")
"""Rare events throughout, a rare event between common ones, and common events that a question misleads about."""


@dataclass(frozen=True, slots=True)
class Video:
    """What a model said about one video.

    Args:
        answers: (right answer, the model's answer or None) of every question.
        judgement: The judge's reply to the description; None when nobody judged it.
    """

    answers: Sequence[tuple[str, str | None]] = ()
    judgement: str | None = None


@dataclass(frozen=True, slots=True)
class SplitScore:
    """One split, or all of them; shares are in [0, 1].

    Args:
        questions: Share of questions answered rightly; None without questions.
        descriptions: Share of judged descriptions that the judge accepts; None without a judgement.
        n_questions: Questions counted.
        n_questions_right: Those of them answered rightly.
        n_questions_unread: Answers that begin with neither yes nor no; they count as wrong.
        n_videos: Videos counted.
        n_judged: Videos with a reply of the judge, empty ones included.
        n_accepted: Descriptions the judge accepts.
        n_judgements_unread: Replies that begin with neither; they count as refused.
    """

    questions: float | None = None
    descriptions: float | None = None
    n_questions: int = 0
    n_questions_right: int = 0
    n_questions_unread: int = 0
    n_videos: int = 0
    n_judged: int = 0
    n_accepted: int = 0
    n_judgements_unread: int = 0

    @property
    def unread_questions(self) -> float:
        """Share of questions whose answer is neither yes nor no; 0 without questions."""
        return self.n_questions_unread / self.n_questions if self.n_questions else 0.0

    @property
    def unread_judgements(self) -> float:
        """Share of judgements that are neither yes nor no; 0 without judgements."""
        return self.n_judgements_unread / self.n_judged if self.n_judged else 0.0


@dataclass(frozen=True, slots=True)
class EventHallusionScore:
    """EventHallusion of one model.

    Args:
        splits: Split → its numbers.
        overall: Over all questions and videos.
    """

    splits: Mapping[str, SplitScore] = field(default_factory=dict)
    overall: SplitScore = SplitScore()


def read_answer(answer: str | None) -> str | None:
    """`Yes.`, `No.`, or None when the answer begins with neither.

    Args:
        answer: As the model wrote it.
    """
    word = _begins(answer or "")
    return word and f"{word.capitalize()}."


def read_judgement(reply: str) -> str | None:
    """`yes`, `no`, or None when the judge's reply begins with neither.

    Args:
        reply: As the judge wrote it; asterisks do not matter.
    """
    return _begins(reply.replace("*", ""))


def score_split(videos: Iterable[Video]) -> SplitScore:
    """The numbers of one split.

    Args:
        videos: Of the split.
    """
    rows = list(videos)
    read = [(gold, read_answer(answer)) for row in rows for gold, answer in row.answers]
    verdicts = [read_judgement(row.judgement) for row in rows if row.judgement is not None]
    return _shares(
        n_questions=len(read),
        n_questions_right=sum(gold == found for gold, found in read),
        n_questions_unread=sum(found is None for _, found in read),
        n_videos=len(rows),
        n_judged=len(verdicts),
        n_accepted=sum(verdict == "yes" for verdict in verdicts),
        n_judgements_unread=sum(verdict is None for verdict in verdicts),
    )


def score(splits: Mapping[str, Iterable[Video]]) -> EventHallusionScore:
    """EventHallusion over the splits there are.

    Args:
        splits: Split → its videos.

    Raises:
        BadInput: There are no videos.
    """
    rows = {name: list(videos) for name, videos in splits.items()}
    everything = [video for videos in rows.values() for video in videos]
    if not everything:
        raise BadInput(f"There are no videos to score. EventHallusion has the splits {', '.join(SPLITS)}.")
    return EventHallusionScore(
        {name: score_split(videos) for name, videos in rows.items()}, score_split(everything)
    )


def _begins(text: str) -> str | None:
    lower = text.lower()
    return next((word for word in ("yes", "no") if lower.startswith(word)), None)


def _shares(**counts: int) -> SplitScore:
    n_questions, n_judged = counts["n_questions"], counts["n_judged"]
    return SplitScore(
        questions=counts["n_questions_right"] / n_questions if n_questions else None,
        descriptions=counts["n_accepted"] / n_judged if n_judged else None,
        **counts,
    )
