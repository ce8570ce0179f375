"""Theory of the saving: known ratios and known cache sizes."""

import pytest
from transformers import LlamaConfig, LlavaConfig

from vlmtools.pruning._cost import Shape, cache_bytes, prefill_flops, saving

VICUNA = Shape(32, 4096, 32, 32, 128, 11008)
MIB = 2**20


def small() -> LlavaConfig:
    text = LlamaConfig(
        num_hidden_layers=16, hidden_size=1024, num_attention_heads=16, num_key_value_heads=16,
        intermediate_size=2816, vocab_size=1000,
    )  # fmt: skip
    return LlavaConfig(text_config=text, image_token_index=999)


@pytest.mark.parametrize(
    ("n_kept", "ratio", "megabytes"),
    [(576, 1.0, 80.7), (192, 2.73, 30.4), (128, 3.80, 22.0), (64, 6.16, 13.6)],
)
def test_a_language_model_of_sixteen_layers_saves_the_known_share(
    n_kept: int, ratio: float, megabytes: float
) -> None:
    found = saving(small(), n_text=40, n_visual=576, n_kept=n_kept, bytes_per_number=4)
    assert found.flops_ratio == pytest.approx(ratio, abs=0.006)
    assert found.cache_after / 1e6 == pytest.approx(megabytes, abs=0.05)
    assert found.cache_before / 1e6 == pytest.approx(80.7, abs=0.05)


def test_visual_tokens_of_a_7b_model_fill_half_a_mebibyte_each() -> None:
    assert cache_bytes(VICUNA, 1) == MIB // 2
    assert [cache_bytes(VICUNA, n) // MIB for n in (576, 192, 128, 64)] == [288, 96, 64, 32]


def test_shared_keys_make_the_cache_smaller_and_leave_the_queries() -> None:
    shared = Shape(32, 4096, 32, 8, 128, 11008)
    assert cache_bytes(shared, 100) * 4 == cache_bytes(VICUNA, 100)
    assert prefill_flops(shared, 100) < prefill_flops(VICUNA, 100)


def test_operations_of_a_7b_model_are_near_two_per_weight_and_token() -> None:
    weights = 32 * (4 * 4096**2 + 3 * 4096 * 11008)
    assert prefill_flops(VICUNA, 1) == pytest.approx(2 * weights, rel=1e-4)


def test_keeping_everything_saves_nothing() -> None:
    found = saving(small(), 40, 576, 576)
    assert found.flops_ratio == 1.0 and found.cache_before == found.cache_after
