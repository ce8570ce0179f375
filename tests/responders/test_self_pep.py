from collections.abc import Iterator, Sequence

from vlmtools.responders._self_pep import SelfPep
from vlmtools.types import Decoding, Json, Reply, Request, Responder, Sample


class Parrot:
    """Remembers what it was asked, answers in reverse order, and fails for broken films."""

    name = "parrot"

    def __init__(self) -> None:
        self.asked: list[Request] = []

    def identity(self) -> dict[str, Json]:
        return {"kind": "parrot"}

    def answer(self, requests: Sequence[Request]) -> Iterator[tuple[Request, Reply]]:
        self.asked += requests
        for request in reversed(requests):
            if request.sample.video == "broken.mp4":
                yield request, Reply(None, error="unreadable")
            else:
                text = request.sample.prompt
                kind = "seen {x}" if text.startswith("Describe") else "no" if "verify" in text else "yes"
                yield request, Reply(kind, modality=("video",))

    def close(self) -> None:
        self.asked.clear()


def asked(number: int, video: str = "a.mp4") -> Request:
    sample = Sample(str(number), f"{number}?\nyes or no", video=video, extra={"question": f"{number}?"})
    return Request(sample, Decoding(max_new_tokens=9))


def test_a_film_is_described_once_and_every_question_takes_two_more_calls() -> None:
    parrot = Parrot()
    pep: Responder = SelfPep(parrot)
    answered = list(pep.answer([asked(1), asked(2), asked(3, "b.mp4")]))
    assert [(request.sample.id, reply.text) for request, reply in answered] == [
        ("1", "no"),
        ("2", "no"),
        ("3", "no"),
    ]
    prompts = [request.sample.prompt for request in parrot.asked]
    assert sum(prompt == "Describe the video: " for prompt in prompts) == 2
    assert len(prompts) == 2 + 3 + 3
    assert all(reply.modality == ("video",) for _, reply in answered)


def test_each_step_is_pasted_into_the_next_in_the_published_words() -> None:
    parrot = Parrot()
    list(SelfPep(parrot, description_tokens=77).answer([asked(1)]))
    describe, first, checked = parrot.asked
    assert first.sample.prompt.startswith("Description: seen {x}\n Please provide a clear response")
    assert first.sample.prompt.endswith("Question: 1?\n Answer the question using 'yes' or 'no': ")
    assert checked.sample.prompt.endswith(
        "Question: 1?\n Answer: yes\n Answer the question using 'yes' or 'no': "
    )
    assert [one.decoding.max_new_tokens for one in (describe, first, checked)] == [77, 9, 77]


def test_a_film_that_cannot_be_read_fails_alone_and_is_not_asked_about() -> None:
    parrot = Parrot()
    both = [asked(1, "broken.mp4"), asked(2)]
    answered = {request.sample.id: reply for request, reply in SelfPep(parrot).answer(both)}
    assert answered["1"].error == "unreadable" and answered["1"].text is None
    assert answered["2"].text == "no"
    assert sum(one.sample.video == "broken.mp4" for one in parrot.asked) == 1


def test_answers_in_three_steps_are_stored_under_an_identity_of_their_own() -> None:
    pep = SelfPep(Parrot())
    assert pep.name == "parrot+self-pep"
    assert pep.identity()["of"] == {"kind": "parrot"} != pep.identity()
