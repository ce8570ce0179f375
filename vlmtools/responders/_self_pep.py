"""Self-PEP: a model describes the video, answers, then explains, checks and answers again. Only the last answer counts.

Three calls per question, the description being shared by all questions about one video. The wording is the published
one, a few blanks and slips included, because numbers depend on it.

Reference: arXiv:2406.16338, section 5; the official `evaluation_pep_utils.py`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from vlmtools.types import Json, Reply, Request, Responder

VERSION = 1
"""Raised whenever the calls change."""
AT_ONCE = 16
"""Questions taken through all three steps together: what a killed run loses at most."""
DESCRIBE = "Describe the video: "
_END = "\n Answer the question using 'yes' or 'no': "
_FIRST = (
    "Description: {description}\n Please provide a clear response to the question below by watching the video. If "
    "necessary, you can also use the accompanying Description to help refine your answer. Your response should be a "
    "simple 'yes' or 'no'.\n\n Question: {question}" + _END
)
_CHECKED = (
    "Description: {description}\n Please offer a detailed explanation for your answer to the following question. After "
    "explaining, verify the accuracy of the information you've used in your explanation. Once you've confirmed the "
    "facts, please respond to the question with a simple 'yes' or 'no'.\n\n Question: {question}\n Answer: {answer}"
    + _END
)


class SelfPep:
    """Another responder, asked in three steps.

    Args:
        responder: Who is asked.
        description_tokens: Length limit of the description and of the explanation, at least 1.
    """

    def __init__(self, responder: Responder, description_tokens: int = 512) -> None:
        self.responder, self.description_tokens = responder, description_tokens
        self._told: dict[tuple[tuple[str, str], ...], Reply] = {}

    @property
    def name(self) -> str:
        """The model's own name, marked."""
        return f"{self.responder.name}+self-pep"

    def identity(self) -> Mapping[str, Json]:
        """The model's own, and how it is asked."""
        of = dict(self.responder.identity())
        return {"kind": "self_pep", "version": VERSION, "tokens": self.description_tokens, "of": of}

    def answer(self, requests: Sequence[Request]) -> Iterator[tuple[Request, Reply]]:
        """Yield every request with the last of its answers.

        Args:
            requests: Questions; one whose sample has `question` in `extra` is asked by that, without its usual ending.
        """
        for start in range(0, len(requests), AT_ONCE):
            yield from self._some(requests[start : start + AT_ONCE])

    def close(self) -> None:
        """Free the model and forget the descriptions."""
        self._told.clear()
        self.responder.close()

    def _some(self, requests: Sequence[Request]) -> Iterator[tuple[Request, Reply]]:
        told = self._described(requests)
        first = self._asked([self._step(one, _FIRST, told[i]) for i, one in enumerate(requests)])
        checks = [self._step(one, _CHECKED, told[i], first[i]) for i, one in enumerate(requests)]
        last = self._asked(checks)
        for i, request in enumerate(requests):
            broken = next((step for step in (told[i], first[i]) if step.text is None), None)
            yield request, broken or last[i]

    def _described(self, requests: Sequence[Request]) -> list[Reply]:
        new = {
            one.sample.media: self._step(one, DESCRIBE)
            for one in requests
            if one.sample.media not in self._told
        }
        self._told |= zip(new, self._asked(list(new.values())), strict=True)
        return [self._told[one.sample.media] for one in requests]

    def _step(
        self, request: Request, wording: str, described: Reply | None = None, answered: Reply | None = None
    ) -> Request | None:
        """The next call; None when the one before it failed."""
        before = [reply.text for reply in (described, answered) if reply is not None]
        if None in before:
            return None
        question = str(request.sample.extra.get("question", request.sample.prompt))
        texts = dict(zip(("description", "answer"), before, strict=False))
        # replaced one by one: a description may hold braces of its own
        prompt = wording
        for name, text in {"question": question, **texts}.items():
            prompt = prompt.replace(f"{{{name}}}", str(text))
        short = wording is _FIRST
        decoding = (
            request.decoding if short else replace(request.decoding, max_new_tokens=self.description_tokens)
        )
        return replace(request, sample=replace(request.sample, prompt=prompt), decoding=decoding)

    def _asked(self, steps: Sequence[Request | None]) -> list[Reply]:
        """Replies in the order of the steps, whatever the order in which they come."""
        waiting = {id(step): place for place, step in enumerate(steps) if step is not None}
        replies = [Reply(None, error="an earlier step has no answer")] * len(steps)
        for request, reply in self.responder.answer([step for step in steps if step is not None]):
            replies[waiting[id(request)]] = reply
        return replies
