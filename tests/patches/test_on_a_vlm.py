"""Patches on a VLM as users load it: answers change inside the block and are the old ones behind it."""

from pathlib import Path
from typing import Any

import pytest
import tiny_models
import torch

from vlmtools.errors import BadInput
from vlmtools.patches.base import Patch
from vlmtools.patches.pai import PAI
from vlmtools.patches.vhr import VHR
from vlmtools.types import Decoding, Request, Sample
from vlmtools.vlm import VLM, load


@pytest.fixture(scope="module", params=["llava", "qwen2_5_vl"])
def vlm(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> VLM:
    folder = tmp_path_factory.mktemp(request.param)
    getattr(tiny_models, request.param)(folder)
    found = load(folder, device_map=None)
    with torch.no_grad():
        for part in found.model.model.parameters():
            if part.ndim > 1:
                part.mul_(8)
    return found


@pytest.fixture
def picture(tmp_path: Path) -> str:
    return str(tiny_models.picture(tmp_path))


def test_a_vlm_knows_its_family(vlm: VLM) -> None:
    assert vlm.family is not None
    assert vlm.family.model_type == vlm.model.config.model_type


@pytest.mark.parametrize("patch", [VHR(), PAI(strength=1.0, first_layer=0, contrast=2.0)], ids=["vhr", "pai"])
def test_answers_change_inside_the_block_only(vlm: VLM, picture: str, patch: Patch) -> None:
    before = vlm.answer(picture, "What is this?", max_new_tokens=12)
    with patch.attach(vlm) as on:
        inside = vlm.answer(picture, "What is this?", max_new_tokens=12)
        assert on.status().modules
    assert inside != before
    assert vlm.answer(picture, "What is this?", max_new_tokens=12) == before


def test_draws_of_a_batch_are_those_of_single_requests(vlm: VLM, picture: str) -> None:
    requests = [
        Request(
            Sample(str(i), "dog " * i, image=picture), Decoding(temperature=1.0, max_new_tokens=8), draw=1
        )
        for i in (1, 2, 3)
    ]
    with PAI(first_layer=0, contrast=1.5).attach(vlm):
        together = [reply.text for reply in vlm.generate(requests)]
        alone = [vlm.generate([one])[0].text for one in requests]
    assert None not in together
    assert together == alone


def test_frame_tokens_go_with_the_picture_when_the_tokenizer_knows_them(vlm: VLM, picture: str) -> None:
    seen: list[Any] = []
    with VHR().attach(vlm) as on:
        text = on.live.anatomy.decoder.register_forward_pre_hook(
            lambda _, args, kwargs: seen.append(kwargs["inputs_embeds"].shape[1]), with_kwargs=True
        )
        vlm.answer(picture, "What?", max_new_tokens=1)
        text.remove()
    n_frames = 0 if vlm.model.config.model_type == "llava" else 2
    n_image = int(
        (
            vlm.inputs([vlm.chat("What?", True)], [tiny_models.Image.open(picture)])["input_ids"]
            == vlm.model.config.image_token_id
        ).sum()
    )
    assert seen[1] - seen[0] == n_image + n_frames


def test_what_is_no_model_is_refused() -> None:
    with pytest.raises(BadInput, match="not to str"):
        VHR().attach("llava-hf/llava-1.5-7b-hf")
