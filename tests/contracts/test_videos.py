"""Every patch on prompts that show a video, for the families whose videos have tokens of their own."""

import itertools
from typing import Any

import pytest
import torch
from matrix import PAIR, PATCHES, answer, attached, family, hooks, inputs, logits, patch, scores, tiny
from torch import Tensor

from vlmtools.errors import CannotAttach
from vlmtools.families._counterfactual import without_image
from vlmtools.families._probe import anatomy
from vlmtools.families._prompt import read_prompt
from vlmtools.families.base import noise

WATCHING = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "llava_onevision")
QUICK = ("qwen2_5_vl", "llava_onevision")
EVERY = [
    pytest.param(name, kind, id=f"{name}-{kind}", marks=() if kind in QUICK else pytest.mark.slow)
    for name, kind in itertools.product(PATCHES, WATCHING)
]
every = pytest.mark.parametrize(("name", "kind"), EVERY)


def clip(kind: str, config: Any, seed: int) -> tuple[list[int], dict[str, Tensor]]:
    """Two moments of a video: its tokens with their frames, and its pixels."""
    video = config.video_token_id
    if kind == "llava_onevision":  # nine patches pooled to four per frame, and one line end for all
        return [video] * 9, {"pixel_values_videos": noise((1, 2, 3, 12, 12), seed)}
    start, end = config.vision_start_token_id, config.vision_end_token_id
    pixels = {
        "pixel_values_videos": noise((32, 3 * 2 * 4 * 4), seed),
        "video_grid_thw": torch.tensor([[2, 4, 4]]),
    }
    if kind == "qwen3_vl":  # a time and a frame of its own for every moment
        return [30, start, *[video] * 4, end, 31, start, *[video] * 4, end], pixels
    return [start, *[video] * 8, end], pixels


def watched(kind: str, texts: tuple[tuple[int, ...], ...] = ((5, 6, 7),), seed: int = 0) -> dict[str, Tensor]:
    """A left-padded batch, one video per prompt."""
    config = family(kind).tiny_config()
    clips = [clip(kind, config, seed + n) for n in range(len(texts))]
    rows = [[1, 9, *tokens, *text] for (tokens, _), text in zip(clips, texts, strict=True)]
    width = max(map(len, rows))
    ids = torch.tensor([[0] * (width - len(row)) + row for row in rows])
    real = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
    batch = {"input_ids": ids, "attention_mask": real}
    for key in family(kind).token_inputs:
        batch[key] = 2 * (ids == config.video_token_id).long()
    return batch | {key: torch.cat([pixels[key] for _, pixels in clips]) for key in clips[0][1]}


@every
def test_what_acts_on_a_picture_acts_on_a_video_and_leaves_no_trace(name: str, kind: str) -> None:
    model, batch, still = tiny(kind), watched(kind, PAIR), inputs(kind, PAIR)
    before, before_still, untouched = scores(model, batch), scores(model, still), hooks(model)
    with attached(patch(name), model):
        acts = not torch.equal(scores(model, still), before_still)
        moved = not torch.equal(scores(model, batch), before)
    assert moved or not acts, f"{name} changes answers about pictures and none about videos"
    assert torch.equal(scores(model, batch), before)
    assert hooks(model) == untouched


@every
def test_neutral_strength_leaves_every_logit_of_a_video_bit_identical(name: str, kind: str) -> None:
    model, batch = tiny(kind), watched(kind, PAIR)
    before = logits(model, batch)
    with attached(patch(name, neutral=True), model):
        assert torch.equal(logits(model, batch), before)


@every
def test_a_padded_batch_of_videos_equals_single_runs(name: str, kind: str) -> None:
    model = tiny(kind)
    with attached(patch(name), model):
        together = answer(model, watched(kind, PAIR))
        alone = [answer(model, watched(kind, (text,), seed))[0] for seed, text in enumerate(PAIR)]
    assert together == alone


@pytest.mark.parametrize("kind", WATCHING)
def test_the_tokens_of_a_video_are_visual_and_go_with_it(kind: str) -> None:
    model, batch = tiny(kind), watched(kind, PAIR)
    parts = anatomy(model)
    prompt = read_prompt(batch, parts)
    assert prompt is not None and prompt.has_image
    assert torch.equal(prompt.image, batch["input_ids"] == model.config.video_token_id)
    bare = without_image(prompt, parts)
    assert not torch.isin(bare["input_ids"], torch.tensor(parts.visual_ids)).any()
    assert not any(key.startswith("pixel") for key in bare)
    assert bare["input_ids"][0, -3:].tolist() == [5, 6, 7]


@pytest.mark.parametrize("kind", WATCHING)
def test_one_patch_at_least_acts_on_videos_of_every_family(kind: str) -> None:
    model, batch = tiny(kind), watched(kind)
    before = scores(model, batch)
    acting = 0
    for name in ("pai", "vhr", "vcd"):
        try:
            on = patch(name).attach(model)
        except CannotAttach:
            continue
        with on:
            acting += not torch.equal(scores(model, batch), before)
    assert acting == 3
