"""Putting claims to a responder: fill a template, ask each distinct thing once, gather the votes of a question."""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from vlmtools.crosscheck.judges.base import Question, Vote
from vlmtools.errors import BadInput, ResponderError
from vlmtools.types import Reply, Request, Responder, Sample

Slot = tuple[int, tuple[int, ...]]
"""A question and the claims of it that one call is about, both counted from 0."""

BLOCK = 256
"""Questions whose calls are handed to the responder at once."""


def needed(responder: Responder | None, model: str | None, judge: str) -> Responder:
    """The responder behind a judge.

    Raises:
        BadInput: There is none.
    """
    if responder is not None:
        return responder
    given = "no model" if model is None else f"the name {model!r}, which has not been opened"
    raise BadInput(
        f"The judge {judge!r} was given {given}. It asks a model: a local one or a server. On the command line add "
        "--judge-model; in Python give responder=…, for example responder=HF('folder or hub id')."
    )


def fill(template: str, **values: str) -> str:
    """Put values where {name} stands; braces elsewhere, and inside the values, stay as they are.

    Args:
        template: Text with placeholders.
        values: What to put in.
    """
    return re.sub(r"\{(\w+)\}", lambda found: values.get(found[1], found[0]), template)


def about(sample: Sample, prompt: str, *, media: bool) -> Sample:
    """The item as the judge asks about it; equal questions get equal ids, so that they are asked once.

    Args:
        sample: The item.
        prompt: The judge's question.
        media: Show the picture, video, sound and passage of the item too.
    """
    bare = Sample("", prompt)
    shown = replace(sample, id="", prompt=prompt, reference=None, extra={}) if media else bare
    content = json.dumps([prompt, shown.media, shown.text], ensure_ascii=False)
    return replace(shown, id=f"judge-{hashlib.sha256(content.encode()).hexdigest()[:20]}")


def ask(responder: Responder, wanted: Sequence[tuple[Slot, Request]]) -> Iterator[tuple[Slot, Reply]]:
    """Every slot with its reply, as they arrive; requests about equal samples are sent once.

    Args:
        responder: Who answers.
        wanted: What to ask for which slot. All requests must be decoded alike.
    """
    slots: dict[str, list[Slot]] = {}
    distinct: dict[str, Request] = {}
    for slot, request in wanted:
        slots.setdefault(request.sample.id, []).append(slot)
        distinct.setdefault(request.sample.id, request)
    if not distinct:
        return
    for request, reply in responder.answer(list(distinct.values())):
        for slot in slots.get(request.sample.id, ()):
            yield slot, reply


class Ballot:
    """Votes of many questions, cast claim by claim in any order; a question is given out once, when it is complete.

    A question with a failed call is never given out, so that it is not stored and will be asked again.

    Args:
        questions: All questions, by their index.
    """

    def __init__(self, questions: Sequence[Question]) -> None:
        self._votes: list[dict[int, Vote]] = [{} for _ in questions]
        self._sizes = [len(question.claims) for question in questions]
        self._failed: dict[int, str] = {}
        self._given: set[int] = set()

    def cast(self, slot: Slot, votes: Iterable[Vote]) -> Iterator[tuple[int, tuple[Vote, ...]]]:
        """Note the votes of a slot; yields the question if they complete it."""
        index, claims = slot
        self._votes[index].update(zip(claims, votes, strict=True))
        if len(self._votes[index]) == self._sizes[index] and index not in self._given | self._failed.keys():
            self._given.add(index)
            yield index, tuple(self._votes[index][claim] for claim in range(self._sizes[index]))

    def fail(self, slot: Slot, reason: str) -> None:
        """Note that the call for a slot gave nothing."""
        self._failed.setdefault(slot[0], reason)

    def check(self, judge: str) -> None:
        """Complain about questions that were not given out.

        Raises:
            ResponderError: Some were not.
        """
        n_missing = len(self._sizes) - len(self._given)
        if not n_missing:
            return
        reason = next(iter(self._failed.values()), "the model returned no reply for it")
        raise ResponderError(
            f"The model behind the judge {judge!r} left {n_missing} of {len(self._sizes)} questions unanswered; the "
            f"first reason: {reason}. Answered ones are kept. Run again: only the missing ones are asked."
        )


def blocks(n: int) -> Iterator[range]:
    """Ranges of at most `BLOCK` that cover 0 to n - 1."""
    return (range(start, min(start + BLOCK, n)) for start in range(0, n, BLOCK))
