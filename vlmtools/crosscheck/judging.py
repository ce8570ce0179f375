"""Work for an engine whose calls are questions to a judge."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from vlmtools.crosscheck.judges.base import Judge, Vote
from vlmtools.engine.answering import absolute
from vlmtools.engine.base import Engine, Failed
from vlmtools.engine.local import Local
from vlmtools.errors import ResponderError
from vlmtools.types import Json

FEW = 50_000
"""Questions that a judge without a model answers in this process whatever the engine: it takes seconds."""


@dataclass(frozen=True)
class Judging:
    """A judge is asked; a call is a key and what has a `question` (a `VoteCall`).

    Args:
        judge: Who judges.
    """

    judge: Judge

    @property
    def name(self) -> str:
        """The judge's name."""
        return self.judge.name

    @property
    def loads_a_model(self) -> bool:
        """Whether the judge, or the responder behind it, is a model of the machine itself."""
        behind = getattr(self.judge, "responder", None)
        return hasattr(self.judge, "model") if behind is None else behind.identity().get("kind") == "hf"

    def identity(self) -> Mapping[str, Json]:
        """The judge's own."""
        return self.judge.identity()

    def travelling(self, call: tuple[str, Any]) -> tuple[str, Any]:
        """The call with absolute paths to the item's media.

        Args:
            call: A key and its call.
        """
        key, asked = call
        question = replace(asked.question, sample=absolute(asked.question.sample))
        return key, replace(asked, question=question)

    def do(self, calls: Sequence[tuple[str, Any]]) -> Iterator[tuple[int, tuple[Vote, ...] | Failed]]:
        """Judge; when the judge gives up, the questions it left have failed.

        Args:
            calls: Keys and calls.
        """
        left = dict.fromkeys(range(len(calls)))
        try:
            for index, votes in self.judge.judge([asked.question for _, asked in calls]):
                del left[index]
                yield index, votes
        except ResponderError as problem:
            for index in left:
                yield index, Failed(str(problem))

    def close(self) -> None:
        """Close the judge and what is behind it."""
        self.judge.close()
        if (behind := getattr(self.judge, "responder", None)) is not None:
            behind.close()


def worth_it(engine: Engine | None, judge: Judge, n_calls: int) -> Engine:
    """The engine, or this process: workers take longer to start than a judge without a model takes for few questions.

    Args:
        engine: What was chosen; None is this process.
        judge: Who is asked.
        n_calls: Questions.
    """
    cheap = not judge.costs and not Judging(judge).loads_a_model and n_calls < FEW
    return Local() if engine is None or cheap else engine
