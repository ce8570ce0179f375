"""Controls before a run: is the picture seen, does the batch matter, how many tokens does a picture take."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import tiny_models

from vlmtools.evaluate.controls import probe
from vlmtools.responders.hf import HF
from vlmtools.types import Decoding, Reply, Request, Sample


class Fake(HF):
    """A local model that answers what a function says of the request and of how many were asked together."""

    def __init__(self, say: Callable[[Request, int], str]) -> None:
        super().__init__("fake")
        self.say = say

    def answer(self, requests: Sequence[Request]) -> Iterator[tuple[Request, Reply]]:
        for request in requests:
            read = 20 if request.show_media else 4
            yield (
                request,
                Reply(self.say(request, len(requests)), n_prompt_tokens=read, first_token={"Yes": 0.5}),
            )


@pytest.fixture
def samples(tmp_path: Path) -> list[Sample]:
    pictures = [tiny_models.picture(tmp_path, n, size=(30 + n, 20)) for n in range(4)]
    return [Sample(f"{n}-{k}", f"Question {k}?", image=str(pictures[n])) for n in range(4) for k in range(3)]


def probed(samples: list[Sample], say: Callable[[Request, int], str], n: int = 3) -> Any:
    return probe(Fake(say), samples, Decoding(), n)


def test_a_model_that_sees_has_no_warning(samples: list[Sample]) -> None:
    found = probed(samples, lambda request, _n: str(request.sample.image))
    assert found["changed_by_blank_picture"] == found["changed_by_swapped_picture"] == found["n"] == 3
    assert found["warnings"] == [] and "16 to 16 tokens for a picture" in found["lines"][2]
    assert "30×20 to 32×20" in found["lines"][2]


def test_a_blind_model_is_told_before_the_run(samples: list[Sample]) -> None:
    found = probed(samples, lambda request, _n: request.sample.prompt)
    assert found["changed_by_blank_picture"] == 0 and "does not see it" in found["warnings"][0]


def test_a_model_that_only_sees_that_there_is_a_picture_is_told_too(samples: list[Sample]) -> None:
    found = probed(
        samples, lambda request, _n: "grey" if str(request.sample.image).startswith("data:") else "a photo"
    )
    assert "with another item's picture" in found["warnings"][0]


def test_answers_that_depend_on_the_batch_are_told(samples: list[Sample]) -> None:
    found = probed(samples, lambda request, n: f"{request.sample.image} {n}")
    assert found["text_changed_by_batch"] == 3 and "--batch-size 1" in found["warnings"][0]


def test_different_pictures_are_chosen(samples: list[Sample]) -> None:
    asked: list[str] = []
    probed(samples, lambda request, _n: asked.append(request.sample.id) or "x", 9)  # type: ignore[func-returns-value]
    assert {id.partition("-")[2] for id in asked} == {"0"} and len(set(asked)) == 4


def test_servers_and_items_without_pictures_are_not_probed(samples: list[Sample]) -> None:
    assert probe(Fake(lambda _request, _n: ""), [Sample("1", "Why?")], Decoding(), 3) == {}


def films(n: int) -> list[Sample]:
    return [Sample(f"{k}-{q}", f"Question {q}?", video=f"{k}.mp4") for k in range(n) for q in range(2)]


def test_videos_are_swapped_and_not_blanked_and_both_are_said() -> None:
    found = probed(films(3), lambda request, _n: str(request.sample.video))
    assert (found["kind"], found["n"], found["changed_by_swapped_picture"]) == ("video", 3, 3)
    assert found["changed_by_blank_picture"] is None and found["warnings"] == []
    assert "3 of 3 answers change with another item's. Videos are not blanked." in found["lines"][0]
    assert "16 to 16 tokens for a video" in found["lines"][2]


def test_a_model_that_says_the_same_about_every_video_is_told() -> None:
    found = probed(films(3), lambda request, _n: request.sample.prompt)
    assert "with another item's video" in found["warnings"][0]


def test_one_video_cannot_be_swapped_and_no_warning_is_invented() -> None:
    found = probed(films(1), lambda request, _n: "x")
    assert found["changed_by_swapped_picture"] is None and found["warnings"] == []
    assert "not tried, one video" in found["lines"][0]


def test_items_with_picture_and_sound_are_not_probed_and_that_is_said() -> None:
    both = [Sample("1", "Why?", video="a.mp4", audio="a.wav")]
    found = probed(both, lambda _request, _n: "")
    assert found["n"] == 0 and "Not probed" in found["lines"][0]


@pytest.mark.slow
def test_a_real_tiny_model_sees_its_pictures(tmp_path: Path, samples: list[Sample]) -> None:
    model = HF(str(tiny_models.llava(tmp_path / "llava")), offline=True, batch_size=2)
    found = probe(model, samples, Decoding(max_new_tokens=8), 3)
    model.close()
    assert found["changed_by_blank_picture"] > 0 and found["changed_by_swapped_picture"] > 0
    assert all(isinstance(n, int) for n in found["tokens_read"])
