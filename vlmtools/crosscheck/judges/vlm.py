"""A model looks at the picture itself and says whether the sentence has errors: CrossCheck-implicit."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from vlmtools.crosscheck.judges._ask import Ballot, Slot, about, ask, blocks, fill, needed
from vlmtools.crosscheck.judges._yes_no import errors_by_substring, errors_by_word
from vlmtools.crosscheck.judges.base import Judge, Question, Vote
from vlmtools.errors import BadInput
from vlmtools.types import Decoding, Json, Request, Responder, Sample

_FORMAT = 'Your answer should be in the following format:\n{"Answer": <YES_or_NO>}'

OFFICIAL_TEXT = (
    "You are given the following sentence about {topic}:\n{claim}\n"
    "Determine if the sentence contains any factual errors. "
    "Answer YES if it has errors, and NO if it does not. " + _FORMAT
)
"""The published wording, used for items without any medium or passage."""

OURS = (
    "You are given the following statement about {medium}:\n{claim}\n"
    "Determine if the statement says anything that is not true of {medium}. "
    "Answer YES if it has errors, and NO if it does not. " + _FORMAT
)
"""Our wording for items with a medium or a passage; no published one is known."""

LIST_ERRORS = (
    "You are given the following statement about {medium}:\n{claim}\n"
    "List everything the statement says that is not true of {medium}. If there is nothing, say so."
)
"""Our wording of the first of two steps."""

AFTER_LIST = "This is an analysis of the statement below:\n{analysis}\n\n{question}"
"""Our wording of the second of two steps: the analysis, then the one-step question."""

_MEDIA = {"image": "the image", "video": "the video", "audio": "the audio", "text": "the text above"}


@dataclass(frozen=True)
class VLM(Judge):
    """Shows a model the item and one sentence, and asks whether the sentence has errors; yes is support 0.

    Args:
        responder: Who looks; in implicit mode every evidence model in turn.
        model: How it was named, such as `hf:…` or `server:…`; opened by the crosscheck, not here.
        rule: `word` reads the `Answer` field or the only one of the words yes and no. `official` searches letters,
            as the published code does, and so takes "cannot", "know" and "another" for no: choose it to repeat
            published numbers.
        two_step: Ask for the list of errors first, then for the verdict with that list at hand.
        template: Question with {claim} and, if wanted, {medium} ("the image") and {topic}; empty takes the published
            wording for items without media and ours for the others.
        list_template: First question of two steps, with the same placeholders.
        yes_means: What a yes says of the claim: `wrong` for questions about errors, as the two wordings above; `true`
            for templates such as "Is there a {claim} in the image?", which go with `unit="object"`.
        max_new_tokens: Length limit of the verdict in tokens; 8 is as published.
        list_tokens: Length limit of the list of errors; 128 is as published.

    Reference: arXiv:2405.13684, CrossCheck-implicit.
    """

    looks_at: ClassVar[Literal["evidence", "media"]] = "media"

    responder: Responder | None = None
    model: str | None = None
    rule: Literal["word", "official"] = "word"
    two_step: bool = False
    template: str = ""
    list_template: str = LIST_ERRORS
    yes_means: Literal["wrong", "true"] = "wrong"
    max_new_tokens: int = 8
    list_tokens: int = 128

    def identity(self) -> Mapping[str, Json]:
        """Name, version, the model's own identity, wording and rules."""
        self._check()
        responder = needed(self.responder, self.model, self.name)
        wording: dict[str, Json] = {"template": self.template or [OFFICIAL_TEXT, OURS], "rule": self.rule}
        steps: dict[str, Json] = {"two_step": [self.list_template, AFTER_LIST, self.list_tokens]}
        return {
            "judge": self.name,
            "version": 1,
            "responder": dict(responder.identity()),
            **wording,
            "max_new_tokens": self.max_new_tokens,
            **({"yes_means": self.yes_means} if self.yes_means != "wrong" else {}),
            **(steps if self.two_step else {}),
        }

    def judge(self, questions: Sequence[Question]) -> Iterator[tuple[int, tuple[Vote, ...]]]:
        """Yield each question as soon as all its sentences are judged; evidence in a question is not used.

        Raises:
            BadInput: No model was given, or a field cannot be used.
            ResponderError: Some calls failed; raised after everything else was yielded.
        """
        self._check()
        return self._judged(questions, needed(self.responder, self.model, self.name))

    def close(self) -> None:
        """Close the responder if it was opened from the name in `model`; one given as an object stays open."""
        if self.model is not None and self.responder is not None:
            self.responder.close()

    def _check(self) -> None:
        if self.rule not in ("word", "official"):
            raise BadInput(
                f"The judge 'vlm' was given rule={self.rule!r}. There is: word, official. Choose one."
            )
        if self.yes_means not in ("wrong", "true") or (self.yes_means == "true" and not self.template):
            raise BadInput(
                f"The judge 'vlm' was given yes_means={self.yes_means!r} with template={self.template[:60]!r}. There "
                "is: wrong, true; and true needs a template of your own, such as 'Is there a {claim} in the image?'."
            )
        for template in (self.template or OURS, self.list_template):
            if "{claim}" not in template:
                raise BadInput(
                    f"The template {template[:60]!r} of the judge 'vlm' does not say where the sentence goes. "
                    "There are {claim}, {medium} and {topic}; write at least {claim}."
                )

    def _judged(
        self, questions: Sequence[Question], responder: Responder
    ) -> Iterator[tuple[int, tuple[Vote, ...]]]:
        ballot = Ballot(questions)
        for block in blocks(len(questions)):
            slots: list[Slot] = [
                (index, (claim,)) for index in block for claim in range(len(questions[index].claims))
            ]
            texts = {slot: self._question(questions[slot[0]], slot[1][0]) for slot in slots}
            if self.two_step:
                texts = self._with_lists(questions, texts, responder, ballot)
            wanted = [
                (slot, _request(questions[slot[0]].sample, text, self.max_new_tokens))
                for slot, text in texts.items()
            ]
            for slot, reply in ask(responder, wanted):
                if reply.text is None:
                    ballot.fail(slot, reply.error or "an empty reply")
                else:
                    yield from ballot.cast(slot, [self._read(reply.text)])
        ballot.check(self.name)

    def _with_lists(
        self, questions: Sequence[Question], texts: Mapping[Slot, str], responder: Responder, ballot: Ballot
    ) -> dict[Slot, str]:
        """Step one: every question followed by the model's own list of errors; failed ones are left out."""
        wanted = []
        for slot in texts:
            question = questions[slot[0]]
            text = _filled(self.list_template, question.sample, question.claims[slot[1][0]])
            wanted.append((slot, _request(question.sample, text, self.list_tokens)))
        followed: dict[Slot, str] = {}
        for slot, reply in ask(responder, wanted):
            if reply.text is None:
                ballot.fail(slot, reply.error or "an empty reply")
            else:
                followed[slot] = fill(AFTER_LIST, question=texts[slot], analysis=reply.text.strip())
        return followed

    def _read(self, text: str) -> Vote:
        vote = errors_by_word(text) if self.rule == "word" else errors_by_substring(text)
        return vote if self.yes_means == "wrong" else replace(vote, support=1 - vote.support)

    def _question(self, question: Question, claim: int) -> str:
        default = OURS if question.sample.modality else OFFICIAL_TEXT
        return _filled(self.template or default, question.sample, question.claims[claim])


def medium(sample: Sample) -> str:
    """How the item is called in the question, such as "the image", "the video and the audio".

    Args:
        sample: The item; without any medium its topic is named.
    """
    return " and ".join(_MEDIA[kind] for kind in sample.modality) or topic(sample)


def topic(sample: Sample) -> str:
    """What a text item is about: its field `topic` or `person`, else the prompt in quotes, else its id.

    Args:
        sample: The item.
    """
    named = sample.extra.get("topic") or sample.extra.get("person")
    return str(named) if named else f'"{sample.prompt}"' if sample.prompt else sample.id


def _filled(template: str, sample: Sample, claim: str) -> str:
    return fill(template, claim=claim, medium=medium(sample), topic=topic(sample))


def _request(sample: Sample, text: str, max_new_tokens: int) -> Request:
    return Request(about(sample, text, media=True), Decoding(max_new_tokens=max_new_tokens))
