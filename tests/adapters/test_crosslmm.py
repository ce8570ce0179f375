from typing import Any

import pytest
import torch
from torch import Tensor

from vlmtools.adapters._tiny import llava
from vlmtools.adapters.crosslmm import CrossLMM, beside, pool_tokens
from vlmtools.errors import BadInput
from vlmtools.families._cache import cache_argument, held_cache


def _open(part: CrossLMM) -> None:
    torch.manual_seed(0)
    with torch.no_grad():
        for one in part.parameters():
            one.add_(torch.randn(one.shape) * 0.3)


def _pooled(inputs: dict[str, Tensor], n: int) -> dict[str, Tensor]:
    ids = inputs["input_ids"][0]
    image = ids[2]
    rest = ids[ids != image]
    ids = torch.cat([rest[:2], image.repeat(n), rest[2:]])[None]
    return {**inputs, "input_ids": ids, "attention_mask": torch.ones_like(ids)}


@pytest.mark.parametrize("n", [1, 4])
def test_a_closed_gate_gives_the_model_on_pooled_tokens_and_an_open_one_sees_all(n: int) -> None:
    model, inputs = llava()
    with CrossLMM(n_pooled=n, every=2, n_heads=2).attach(model) as part:
        short = _pooled(inputs, n)
        closed = model(**short).logits
        assert closed.shape[1] == short["input_ids"].shape[1]
        features = model.model.get_image_features(inputs["pixel_values"])
        seen = part.seen.tokens
        assert seen is not None and seen.shape[1] == 9 and features is not None
        _open(part)
        assert not torch.allclose(model(**short).logits, closed, atol=1e-4)


def test_words_see_every_patch_through_the_gate() -> None:
    model, inputs = llava()
    with CrossLMM(n_pooled=1, every=1, n_heads=2).attach(model) as part:
        short = _pooled(inputs, 1)
        _open(part)
        before = model(**short).logits[:, -1]
        moved = {**short, "pixel_values": inputs["pixel_values"].roll(4, -1)}
        assert not torch.allclose(model(**moved).logits[:, -1], before, atol=1e-5)


def test_steps_equal_a_full_pass_and_a_prompt_without_picture_sees_none() -> None:
    model, inputs = llava()
    words = {"input_ids": torch.tensor([[1, 5, 6]])}
    plain = model(**words).logits
    with CrossLMM(n_pooled=0, every=2, n_heads=2).attach(model) as part:
        _open(part)
        cache = held_cache(model(**inputs))
        token = torch.tensor([[8]])
        step = model(input_ids=token, **cache_argument(model, cache)).logits[:, -1]
        ids = torch.cat([inputs["input_ids"], token], 1)
        full = model(**{**inputs, "input_ids": ids, "attention_mask": torch.ones_like(ids)}).logits[:, -1]
        torch.testing.assert_close(step, full, rtol=0, atol=1e-5)
        assert torch.equal(model(**words).logits, plain)
    assert part.seen.tokens is None


def test_rows_of_different_numbers_of_pictures_are_padded() -> None:
    frames = torch.arange(6.0).reshape(3, 2, 1)
    tokens, real = beside(frames, [2, 0, 1])
    assert tokens.shape == (3, 4, 1) and real.sum(1).tolist() == [4, 0, 2]
    assert tokens[0, :, 0].tolist() == [0, 1, 2, 3] and tokens[2, :2, 0].tolist() == [4, 5]


def test_beams_share_what_was_seen() -> None:
    model, inputs = llava()
    with CrossLMM(n_pooled=0, every=2, n_heads=2).attach(model) as part:
        _open(part)
        new: Any = model.generate(**inputs, num_beams=2, max_new_tokens=3, do_sample=False)
    assert new.shape[0] == 1


def test_pooling_needs_a_square_grid_and_a_square_number() -> None:
    assert pool_tokens(torch.ones(2, 9, 3), 4).shape == (2, 4, 3)
    with pytest.raises(BadInput, match="square grid"):
        pool_tokens(torch.ones(2, 8, 3), 4)
    with pytest.raises(BadInput, match="square number"):
        CrossLMM(n_pooled=5)


def test_a_prompt_with_other_counts_of_image_tokens_is_refused_in_plain_words() -> None:
    model, inputs = llava()
    with CrossLMM(n_pooled=4, n_heads=2).attach(model), pytest.raises(BadInput, match="choose n_pooled"):
        model(**inputs)
