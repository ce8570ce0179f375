"""A language model says Yes or No: is the sentence supported by the evidence? CrossCheck-explicit as published."""

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from vlmtools.crosscheck.judges._ask import Ballot, Slot, about, ask, blocks, fill, needed
from vlmtools.crosscheck.judges._yes_no import numbered, starts_with, starts_with_lenient, yes_share
from vlmtools.crosscheck.judges.base import Judge, Question, Vote
from vlmtools.errors import BadInput, ResponderError
from vlmtools.types import Decoding, Json, Reply, Request, Responder

OFFICIAL = (
    "Context: {context}\n\nSentence: {sentence}\n\n"
    "Is the sentence supported by the context above? Answer Yes or No.\n\nAnswer: "
)
"""The published template, to the letter."""

SEVERAL = (
    "Context: {context}\n\nSentences:\n{sentences}\n\n"
    "Is each sentence supported by the context above? Answer with one line per sentence: "
    "its number, then Yes or No, and nothing else.\n\nAnswers:\n"
)
"""Our template for several sentences per call."""


@dataclass(frozen=True)
class Prompt(Judge):
    """Asks a language model whether each sentence is supported by the passage.

    The evidence stands first and the sentences of an answer follow one another, so that servers can reuse what they
    computed for the common beginning. Equal questions are asked once. Decoding is greedy, 5 new tokens at most.

    Args:
        responder: Who is asked.
        model: How it was named, such as `hf:…` or `server:…`; opened by the crosscheck, not here.
        read: `text` reads the reply: Yes → 1, No → 0, anything else .5 and counted as unparsed. `first_token` takes
            P(Yes) / (P(Yes) + P(No)) of the first token, which is not a published variant and has no undecided mass.
        per_call: Sentences per call, at least 1; 1 is as published. With more, a reply that is not exactly a
            numbered list of verdicts is thrown away and its sentences are asked one by one.
        lenient: Read Yes and No behind asterisks, quotes and "Answer:" too; False is as published.
        template: Question with {context} and {sentence}; the default is the published one.
        raw: Local models read the question without their chat template, as published; False (the default) writes it as
            a user turn, which most models of today understand better. Servers always get a user turn.

    Reference: arXiv:2405.13684, CrossCheck-explicit.
    """

    responder: Responder | None = None
    model: str | None = None
    read: Literal["text", "first_token"] = "text"
    per_call: int = 1
    lenient: bool = False
    template: str = OFFICIAL
    raw: bool = False

    def identity(self) -> Mapping[str, Json]:
        """Name, version, the model's own identity, templates and rules."""
        self._check()
        responder = needed(self.responder, self.model, self.name)
        shared: dict[str, Json] = {"judge": self.name, "version": 1, "responder": dict(responder.identity())}
        rules: dict[str, Json] = {"read": self.read, "lenient": self.lenient, "template": self.template}
        several: dict[str, Json] = (
            {"per_call": self.per_call, "several": SEVERAL} if self.per_call > 1 else {}
        )
        return {**shared, **rules, **several, **({"raw": True} if self.raw else {})}

    def judge(self, questions: Sequence[Question]) -> Iterator[tuple[int, tuple[Vote, ...]]]:
        """Yield each question as soon as all its sentences are judged.

        Raises:
            BadInput: No model was given, or the fields contradict each other.
            ResponderError: Some calls failed (after everything else was yielded), or the model gives no
                probabilities although `read="first_token"`.
        """
        self._check()
        return self._judged(questions, needed(self.responder, self.model, self.name))

    def close(self) -> None:
        """Close the responder if it was opened from the name in `model`; one given as an object stays open."""
        if self.model is not None and self.responder is not None:
            self.responder.close()

    def _check(self) -> None:
        if self.read not in ("text", "first_token"):
            raise BadInput(
                f"The judge 'prompt' was given read={self.read!r}. There is: text, first_token. Choose one."
            )
        if self.per_call < 1:
            raise BadInput(
                f"The judge 'prompt' was given per_call={self.per_call}. Give 1 (as published) or more."
            )
        if self.per_call > 1 and self.read == "first_token":
            raise BadInput(
                f"The judge 'prompt' was given per_call={self.per_call} with read='first_token'. A first token answers "
                "one sentence. Use per_call=1, or read='text'."
            )
        if "{context}" not in self.template or "{sentence}" not in self.template:
            raise BadInput(
                "The template of the judge 'prompt' lacks a placeholder. "
                "There are {context} and {sentence}; write both."
            )

    def _judged(
        self, questions: Sequence[Question], responder: Responder
    ) -> Iterator[tuple[int, tuple[Vote, ...]]]:
        ballot = Ballot(questions)
        for block in blocks(len(questions)):
            slots = [
                slot
                for index in block
                for slot in _groups(index, len(questions[index].claims), self.per_call)
            ]
            again = yield from self._several(
                questions, [slot for slot in slots if len(slot[1]) > 1], responder, ballot
            )
            alone = [slot for slot in slots if len(slot[1]) == 1] + again
            for slot, reply in ask(responder, [(slot, self._single(questions, slot)) for slot in alone]):
                if reply.text is None:
                    ballot.fail(slot, reply.error or "an empty reply")
                else:
                    yield from ballot.cast(slot, [self._read(reply, reply.text)])
        ballot.check(self.name)

    def _several(
        self, questions: Sequence[Question], slots: list[Slot], responder: Responder, ballot: Ballot
    ) -> Generator[tuple[int, tuple[Vote, ...]], None, list[Slot]]:
        """Ask groups of sentences; returns the sentences to ask again one by one."""
        again: list[Slot] = []
        for slot, reply in ask(responder, [(slot, self._group(questions, slot)) for slot in slots]):
            verdicts = None if reply.text is None else numbered(reply.text, len(slot[1]))
            if reply.text is None:
                ballot.fail(slot, reply.error or "an empty reply")
            elif verdicts is None:
                again += [(slot[0], (claim,)) for claim in slot[1]]
            else:
                yield from ballot.cast(slot, [Vote(float(yes), raw=reply.text) for yes in verdicts])
        return again

    def _single(self, questions: Sequence[Question], slot: Slot) -> Request:
        question = questions[slot[0]]
        text = fill(self.template, context=_context(question), sentence=question.claims[slot[1][0]])
        first = self.read == "first_token"
        decoding = Decoding(max_new_tokens=1 if first else 5)
        sample = about(question.sample, text, media=False)
        return Request(sample, decoding, first_token=first, show_media=False, raw=self.raw)

    def _group(self, questions: Sequence[Question], slot: Slot) -> Request:
        question = questions[slot[0]]
        lines = [f"{n}. {_one_line(question.claims[claim])}" for n, claim in enumerate(slot[1], 1)]
        text = fill(SEVERAL, context=_context(question), sentences="\n".join(lines))
        decoding = Decoding(max_new_tokens=6 * len(lines) + 4)
        return Request(about(question.sample, text, media=False), decoding, show_media=False, raw=self.raw)

    def _read(self, reply: Reply, text: str) -> Vote:
        if self.read == "text":
            return starts_with_lenient(text) if self.lenient else starts_with(text)
        if reply.first_token is None:
            raise ResponderError(
                "The judge 'prompt' was asked to read the first token, but the model gives no probabilities. Use "
                "read=text, or a model that does."
            )
        return yes_share(reply.first_token, text)


def _groups(index: int, n_claims: int, size: int) -> list[Slot]:
    return [(index, tuple(range(start, min(start + size, n_claims)))) for start in range(0, n_claims, size)]


def _context(question: Question) -> str:
    return (question.evidence or "").replace("\n", " ")


def _one_line(text: str) -> str:
    return " ".join(text.split())
