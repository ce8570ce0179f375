"""SinkLoRA and the heavy-hitter cache in a decoder."""

from pathlib import Path
from typing import Any

import pytest
import torch

from vlmtools.adapters.sinklora import SinkLora
from vlmtools.errors import BadInput
from vlmtools.families._cache import cache_argument
from vlmtools.layers.heavy_hitters import HeavyHitterCache, watch


def _llama(kernel: str = "eager") -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=50, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, attn_implementation=kernel, pad_token_id=0,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def _ids(n: int = 24, rows: int = 1) -> torch.Tensor:
    return torch.randint(1, 50, (rows, n), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("kernel", ["eager", "sdpa"])
def test_in_training_the_outputs_of_a_prefix_are_the_prefix_of_the_outputs(kernel: str) -> None:
    model, ids = _llama(kernel), _ids()
    with SinkLora(group=8, n_sinks=2, shifted=0.5).attach(model.train()):
        torch.testing.assert_close(model(ids[:, :13]).logits, model(ids).logits[:, :13], rtol=0, atol=1e-4)


@pytest.mark.parametrize("kernel", ["eager", "sdpa"])
def test_the_mask_acts_in_training_and_in_training_only(kernel: str) -> None:
    model, ids = _llama(kernel), _ids()
    before = model(ids).logits
    with SinkLora(group=4, n_sinks=0).attach(model):
        torch.testing.assert_close(model(ids).logits, before, rtol=0, atol=1e-6)
        model.train()
        assert (model(ids).logits - before).abs().max() > 1e-3
        model.eval()
        torch.testing.assert_close(model(ids).logits, before, rtol=0, atol=1e-6)


def test_both_kernels_agree_on_padded_rows_under_the_mask() -> None:
    ids, mask = _ids(rows=2), torch.ones(2, 24, dtype=torch.long)
    mask[1, :5] = 0
    found = []
    for kernel in ("eager", "sdpa"):
        model = _llama(kernel).train()
        with SinkLora(group=8).attach(model):
            found.append(model(ids, attention_mask=mask).logits[mask.bool()])
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-4)


def test_a_share_that_is_none_is_refused() -> None:
    with pytest.raises(BadInput, match="ratio"):
        SinkLora(ratio=0)


def test_a_cache_of_heavy_hitters_stays_in_its_budget_and_the_answer_goes_on() -> None:
    model, ids = _llama(), _ids(20)
    cache = HeavyHitterCache(heavy=4, recent=6, n_layers=2)
    lengths = []
    with watch(cache, [layer.self_attn for layer in model.model.layers]):
        handle = model.register_forward_hook(lambda *_: lengths.append(cache.layers[0].keys.shape[2]))
        model.generate(
            ids, max_new_tokens=8, min_new_tokens=8, do_sample=False, **cache_argument(model, cache)
        )
        handle.remove()
    assert set(lengths) == {10} and len(lengths) == 8
    assert cache.get_seq_length() == 27


def test_a_cache_with_room_for_all_changes_nothing() -> None:
    model, ids = _llama(), _ids(12)
    plain = model.generate(ids, max_new_tokens=6, do_sample=False)
    cache = HeavyHitterCache(heavy=4, recent=100, n_layers=2)
    with watch(cache, [layer.self_attn for layer in model.model.layers]):
        assert torch.equal(
            model.generate(ids, max_new_tokens=6, do_sample=False, **cache_argument(model, cache)), plain
        )


def test_saved_norms_come_back(tmp_path: Path) -> None:
    model, ids = _llama(), _ids()
    with SinkLora().attach(model) as part:
        with torch.no_grad():
            model.model.norm.weight.mul_(2)
        wanted = model(ids).logits
        part.save_pretrained(tmp_path)
    with SinkLora.from_pretrained(tmp_path, model):
        assert torch.equal(model(ids).logits, wanted)
