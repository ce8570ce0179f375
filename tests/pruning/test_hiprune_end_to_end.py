"""HiPrune from pixels to tokens: compat through the seam against the released algorithm done by hand."""

from functools import cache
from typing import Any

import pytest
import torch
from pruning_cases import padded
from released_qwen import Outcome, released
from torch import Tensor
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from vlmtools.families._cache import held_cache
from vlmtools.families.base import noise, tiny_text
from vlmtools.pruning.hiprune import HiPrune

LAYERS = 2, 5
"""The 16th of 32 and the last one, in a tower of six layers of which these and the first see whole pictures."""
N_NEW = 5
GRIDS = ((12, 20), (22, 12), (16, 16))
SHARES = (0.6, 0.334, 0.223, 0.112)
cases = pytest.mark.parametrize(
    ("grid", "retention"), [(grid, share) for grid in GRIDS for share in SHARES], ids=str
)


@cache
def model(attention: str = "sdpa") -> Any:
    """Random, with pictures that matter."""
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]}
    config = Qwen2_5_VLConfig(
        text_config=tiny_text("qwen2_5_vl_text", rope_parameters=rope),
        vision_config={
            "depth": 6, "hidden_size": 32, "intermediate_size": 48, "num_heads": 4, "patch_size": 4,
            "window_size": 24, "out_hidden_size": 32, "fullatt_block_indexes": [0, 2, 5], "spatial_merge_size": 2,
            "temporal_patch_size": 2, "tokens_per_second": 2,
        },
        image_token_id=127, video_token_id=126, vision_start_token_id=125, vision_end_token_id=124,
    )  # fmt: skip
    torch.manual_seed(0)
    made = Qwen2_5_VLForConditionalGeneration._from_config(config, attn_implementation=attention).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for part in made.parameters():
            if part.ndim > 1:
                part.copy_(torch.randn(part.shape, generator=generator) * 1.2 / part.shape[-1] ** 0.5)
        # few patches draw much attention, and the same ones in both layers, as in trained towers
        middle, deep = (made.model.visual.blocks[layer].attn.qkv.weight for layer in LAYERS)
        deep.copy_(middle.mul_(2.5))
        for block in made.model.visual.blocks:
            block.attn.proj.weight *= 0.3
            block.mlp.down_proj.weight *= 0.3
    made.generation_config.eos_token_id, made.generation_config.pad_token_id = None, 0
    return made


def prompt(grid: tuple[int, int]) -> dict[str, Tensor]:
    """One picture with text on both sides."""
    n = grid[0] * grid[1]
    pixels = {"pixel_values": noise((n, 96), 3), "image_grid_thw": torch.tensor([[1, *grid]])}
    return padded("qwen2_5_vl", [[1, 9, 5, 125, *[127] * (n // 4), 124, 8, 6, 11, 40]], pixels)


@cache
def by_hand(grid: tuple[int, int], retention: float) -> Outcome:
    return released(model(), prompt(grid), retention, LAYERS, N_NEW)


def test_the_two_layers_are_those_of_the_program_in_proportion() -> None:
    with HiPrune(keep=0.5, compat=True).attach(model()) as on:
        heard = on.status().modules
    assert [f"blocks.{layer}." in name for layer, name in zip(LAYERS, heard, strict=False)] == [True, True]


@cases
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_one_pass_keeps_the_tokens_positions_and_logits_of_the_program(
    grid: tuple[int, int], retention: float, attention: str
) -> None:
    expected, read = by_hand(grid, retention), list[Tensor]()
    one = model(attention)
    handle = one.get_decoder().register_forward_pre_hook(
        lambda _m, _a, kwargs: read.append(kwargs["position_ids"]), with_kwargs=True
    )
    try:
        with HiPrune(keep=retention, compat=True).attach(one) as on, torch.no_grad():
            logits = one(**prompt(grid)).logits[0]
            (view,) = on.report().views
    finally:
        handle.remove()
    assert view.selection.kept.tolist() == expected.kept
    assert torch.equal(read[0][-3:, 0], expected.positions)
    assert torch.allclose(logits, expected.logits, atol=1e-4)


@cases
def test_generate_writes_the_tokens_of_the_program_from_a_cache_as_short(
    grid: tuple[int, int], retention: float
) -> None:
    expected, batch = by_hand(grid, retention), prompt(grid)
    length = batch["input_ids"].shape[1]
    options = {
        "do_sample": False,
        "max_new_tokens": N_NEW,
        "return_dict_in_generate": True,
        "output_logits": True,
    }
    with HiPrune(keep=retention, compat=True).attach(model()):
        out = model().generate(**batch, **options)
    assert out.sequences[0, length:].tolist() == expected.tokens
    assert torch.allclose(out.logits[0][0], expected.logits[-1], atol=1e-4)
    dropped = grid[0] * grid[1] // 4 - len(expected.kept)
    assert held_cache(out).get_seq_length() == length - dropped + N_NEW - 1


def test_the_cases_show_the_programs_defects_and_pictures_that_matter() -> None:
    every = [by_hand(grid, share) for grid in GRIDS for share in SHARES]
    assert any(len(one.kept) < one.budget for one in every), "some tokens are drawn twice"
    assert all(len(one.kept) <= one.budget for one in every)
    assert len({tuple(one.tokens) for one in every}) > 1
