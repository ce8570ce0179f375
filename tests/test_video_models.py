"""Models that watch: frames reach the tower, without torchvision, and the answer says what was shown."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny_models
import torch
from clips import write_clip, write_tone
from tiny_video_models import BUILD, built

from vlmtools.families._processors import takes_video, video_on_pillow
from vlmtools.responders.hf import HF
from vlmtools.types import Decoding, Request, Sample
from vlmtools.video import read_frames
from vlmtools.vlm import VLM, load

SHORT = Decoding(max_new_tokens=6)
QUICK = ("qwen2_vl", "llava_onevision")
"""The two that differ most; the others are left to the slow run."""
every = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in BUILD]
)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="session")
def loaded(root: Path) -> Callable[[str], VLM]:
    models: dict[str, VLM] = {}
    return lambda name: models.setdefault(name, load(built(root, name), local_files_only=True))


@pytest.fixture(scope="session")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("film") / "film.mp4", n_frames=24, tone_hz=440)


def asked(
    film: Path | str, prompt: str = "Is there a baby?\nAnswer the question using 'yes' or 'no'."
) -> Request:
    return Request(Sample("obj_rel/1/basic", prompt, video=str(film)), SHORT)


@every
def test_a_question_about_a_film_is_answered_and_the_answer_says_it_was_watched(
    loaded: Callable[[str], VLM], film: Path, name: str
) -> None:
    reply = loaded(name).generate([asked(film)])[0]
    assert reply.error is None
    assert reply.text is not None and reply.n_new_tokens
    assert reply.modality == ("video",)
    assert (reply.n_prompt_tokens or 0) > 30


@every
def test_another_film_gives_other_probabilities(
    loaded: Callable[[str], VLM], tmp_path: Path, film: Path, name: str
) -> None:
    vlm = loaded(name)
    text = vlm.chat("A dog?", False, with_video=True)
    seen = read_frames(film, 4)
    dark = replace(seen, images=tuple(image.point(lambda _: 0) for image in seen.images))
    backwards = replace(seen, images=seen.images[::-1])
    logits = [
        vlm.model(**vlm.inputs([text], videos=[clip])).logits[0, -1] for clip in (seen, dark, backwards)
    ]
    assert not torch.allclose(logits[0], logits[1], atol=1e-4)
    assert not torch.allclose(logits[0], logits[2], atol=1e-5)


@every
def test_a_batch_of_films_pictures_and_words_is_answered_as_one_by_one(
    loaded: Callable[[str], VLM], tmp_path: Path, film: Path, name: str
) -> None:
    short = write_clip(tmp_path / "short.mp4", n_frames=3)
    picture = Request(Sample("p", "A dog?", image=str(tiny_models.picture(tmp_path))), SHORT)
    words = Request(Sample("w", "A dog?"), SHORT)
    several = [asked(film), picture, asked(short), words, asked(film, "Why?")]
    together = loaded(name).generate(several)
    assert [reply.error for reply in together] == [None] * 5
    alone = [loaded(name).generate([one])[0] for one in several]
    assert [reply.text for reply in together] == [reply.text for reply in alone]
    assert [reply.modality for reply in together] == [("video",), ("image",), ("video",), (), ("video",)]


@every
def test_without_torchvision_the_video_half_is_the_one_written_here(
    loaded: Callable[[str], VLM], name: str
) -> None:
    processor = loaded(name).processor
    assert takes_video(processor)
    assert video_on_pillow(processor) or "torchvision" in str(type(processor.video_processor).__mro__)


def test_more_frames_are_more_tokens(loaded: Callable[[str], VLM], film: Path) -> None:
    vlm = loaded("qwen2_vl")
    before, vlm.n_frames = vlm.generate([asked(film)])[0].n_prompt_tokens, 16
    try:
        assert (vlm.generate([asked(film)])[0].n_prompt_tokens or 0) > (before or 0)
    finally:
        vlm.n_frames = 8


def test_a_broken_film_is_an_error_of_its_own_and_not_an_answer(
    loaded: Callable[[str], VLM], tmp_path: Path, film: Path
) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no film")
    replies = loaded("qwen2_vl").generate([asked(broken), asked(film), asked(tmp_path / "none.mp4")])
    assert [reply.text is None for reply in replies] == [True, False, True]
    assert "unreadable" in str(replies[0].error)
    assert "does not exist" in str(replies[2].error)
    assert replies[0].modality == ()


def test_sound_is_refused_by_a_model_that_hears_nothing(
    loaded: Callable[[str], VLM], tmp_path: Path, film: Path
) -> None:
    tone = write_tone(tmp_path / "tone.wav", 440, 0.2)
    sample = Sample("x", "What sounds?", video=str(film), audio=str(tone))
    reply = loaded("qwen2_vl").generate([Request(sample, SHORT)])[0]
    assert reply.text is None
    assert "hears nothing" in str(reply.error)


def test_a_model_without_a_video_half_says_so(tmp_path: Path, film: Path) -> None:
    reply = load(tiny_models.llava(tmp_path / "llava"), local_files_only=True).generate([asked(film)])[0]
    assert "no videos" in str(reply.error)


def test_the_responder_watches_too_and_its_frames_are_part_of_its_identity(root: Path, film: Path) -> None:
    source = HF(str(built(root, "qwen2_vl")), offline=True, n_frames=4)
    (request, reply), *none = source.answer([asked(film)])
    assert not none and reply.text is not None
    assert source.identity()["n_frames"] == 4
    assert "n_frames" not in HF(str(built(root, "qwen2_vl")), offline=True).identity()
    assert request.sample.video == str(film)
    source.close()


def plain_patches(frames: np.ndarray, patch: int, merge: int, at_once: int) -> np.ndarray:
    """Patch by patch in the order of merging, written out in loops."""
    n, _, height, width = frames.shape
    rows = []
    for time in range(n // at_once):
        for y in range(0, height // patch, merge):
            for x in range(0, width // patch, merge):
                for dy in range(merge):
                    for dx in range(merge):
                        top, left = (y + dy) * patch, (x + dx) * patch
                        block = frames[
                            time * at_once : (time + 1) * at_once, :, top : top + patch, left : left + patch
                        ]
                        rows.append(block.transpose(1, 0, 2, 3).ravel())
    return np.stack(rows)


def test_patches_lie_in_the_order_in_which_the_tower_merges_them(loaded: Callable[[str], VLM]) -> None:
    half = loaded("qwen2_vl").processor.video_processor
    clip = np.random.default_rng(0).integers(0, 256, (4, 24, 32, 3), dtype=np.uint8)
    found = half.tensors([clip])
    height, width = half.sides(4, 24, 32)
    assert (height, width) == (24, 32)
    assert found["video_grid_thw"].tolist() == [[2, 6, 8]]
    expected = plain_patches(half.pixels(clip, height, width), 4, 2, 2)
    assert np.array_equal(found["pixel_values_videos"], expected)


def test_two_equal_frames_are_the_patches_of_a_picture(loaded: Callable[[str], VLM]) -> None:
    processor = loaded("qwen2_vl").processor
    picture = np.random.default_rng(1).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    image = processor.image_processor([picture], return_tensors="np")
    film = processor.video_processor.tensors([np.stack([picture, picture])])
    assert film["video_grid_thw"].tolist() == image["image_grid_thw"].tolist()
    assert np.allclose(film["pixel_values_videos"], image["pixel_values"], atol=1e-5)


def test_an_odd_number_of_frames_is_filled_up_with_the_last(loaded: Callable[[str], VLM]) -> None:
    half = loaded("qwen2_vl").processor.video_processor
    clip = np.random.default_rng(2).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
    found, filled = half.tensors([clip]), half.tensors([np.concatenate([clip, clip[-1:]])])
    assert np.array_equal(found["pixel_values_videos"], filled["pixel_values_videos"])


@pytest.mark.parametrize("sides", [(16, 16), (400, 30), (1080, 1920), (5, 9)])
@pytest.mark.parametrize("name", ["qwen2_vl", pytest.param("qwen3_vl", marks=pytest.mark.slow)])
def test_scaled_frames_are_whole_patches_within_the_limits(
    loaded: Callable[[str], VLM], name: str, sides: tuple[int, int]
) -> None:
    half = loaded(name).processor.video_processor
    height, width = half.sides(8, *sides)
    assert height % 8 == width % 8 == 0
    assert (8 if name == "qwen3_vl" else 1) * height * width <= half.size["longest_edge"]
