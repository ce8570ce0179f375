"""SF-Attn and S² masks, heavy hitters."""

from pathlib import Path
from typing import Any

import pytest
import torch
from golden_tensors import Case, known, read, same_value
from places import cases, golden_roots
from torch import Tensor

from vlmtools.layers import heavy_hitters as heavy
from vlmtools.layers import shifted_sparse as sparse


def _pattern(config: dict[str, Any], sinks_see_all: bool = True) -> Tensor:
    return sparse.visible(
        config["seq_len"], config["heads"], config["group_size"], config["shifted_head_fraction"],
        config["sink_tokens"], config["causal"], sinks_see_all=sinks_see_all,
    )  # fmt: skip


@pytest.mark.golden
@pytest.mark.parametrize("path", cases(golden_roots(), "adapters/derived-sfattn/*.json"))
def test_the_pattern_of_sf_attn_is_the_derived_one_bit_by_bit(path: Path) -> None:
    case = read(path)
    known(case.config, "causal group_size heads seq_len shifted_head_fraction sink_tokens")
    wanted = case["mask"].bool()
    # without an order in the text there are two readings of what sinks see; their rows tell which one is meant
    n_sinks = case.config["sink_tokens"]
    mask = _pattern(case.config, sinks_see_all=bool(wanted[:, :n_sinks].all()) or case.config["causal"])
    assert torch.equal(mask, wanted)
    assert mask.any(dim=-1).all(), "a query sees nothing"
    same_value(sparse.masked_attention(case["q"], case["k"], case["v"], mask), case["out"])


def _s2(case: Case, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], dim=1) for x in (k, v))
    return sparse.s2_attention(q, k, v, case.config["group_size"])


@pytest.mark.golden
@pytest.mark.parametrize("path", cases(golden_roots(), "adapters/sinklora/s2attn*.json"))
def test_shifted_sparse_attention_gives_the_authors_numbers(path: Path) -> None:
    case = read(path)
    config = case.config
    known(
        config,
        "group_size group_size_ratio hidden_size num_heads num_key_value_heads rope_theta seq_len shift shifted_heads",
    )
    assert config["group_size"] == int(config["seq_len"] * config["group_size_ratio"])
    assert (config["shift"], config["shifted_heads"]) == (-(config["group_size"] // 2), "second half")
    q, k, v = (_projected(case, one) for one in "qkv")
    q, k = (_rotated(one, case["position_ids"], config["rope_theta"]) for one in (q, k))
    for ours, name in ((q, "q_rope"), (k, "k_rope"), (v, "v")):
        stored = case[name]
        same_value(ours.repeat_interleave(stored.shape[1] // ours.shape[1], dim=1), stored)
    mixed = _s2(case, q, k, v).transpose(1, 2).flatten(2)
    same_value(mixed @ case.state["o_proj.weight"].T, case["y"])


def _projected(case: Case, kind: str) -> Tensor:
    width = case.config["hidden_size"] // case.config["num_heads"]
    return (case["x"] @ case.state[f"{kind}_proj.weight"].T).unflatten(-1, (-1, width)).transpose(1, 2)


def _rotated(x: Tensor, positions: Tensor, theta: float) -> Tensor:
    half = x.shape[-1] // 2
    angle = positions[:, None, :, None] / theta ** (torch.arange(half) / half)
    first, second = x.split(half, dim=-1)
    return torch.cat(
        [first * angle.cos() - second * angle.sin(), second * angle.cos() + first * angle.sin()], -1
    )


@pytest.mark.golden
@pytest.mark.parametrize("path", cases(golden_roots(), "adapters/sinklora/s2attn*.json"))
def test_the_wrapped_mask_is_the_same_attention(path: Path) -> None:
    case = read(path)
    q, group = case["q_rope"], case.config["group_size"]
    k, v = (case[name].repeat_interleave(q.shape[1] // case[name].shape[1], 1) for name in ("k_rope", "v"))
    mask = sparse.visible(q.shape[2], q.shape[1], group, 0.5, 0, wrap=True)
    torch.testing.assert_close(sparse.masked_attention(q, k, v, mask), sparse.s2_attention(q, k, v, group))


def _leaks(wrap: bool) -> bool:
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 1, 4, 32, 8)
    out = []
    for n_seq in (32, 20):
        mask = sparse.visible(32, 4, 8, 0.5, 0 if wrap else 4, wrap=wrap)[:, :n_seq, :n_seq]
        out.append(sparse.masked_attention(q[:, :, :n_seq], k[:, :, :n_seq], v[:, :, :n_seq], mask))
    return bool((out[0][:, :, :20] - out[1]).abs().max() > 1e-4)


def test_the_outputs_of_a_prefix_are_the_prefix_of_the_outputs() -> None:
    assert not _leaks(wrap=False)


def test_the_prefix_test_sees_the_leak_of_the_wrapped_form() -> None:
    assert _leaks(wrap=True)


def test_a_shorter_text_has_the_corner_of_the_longer_mask() -> None:
    long, short = sparse.visible(64, 8, 16), sparse.visible(41, 8, 16)
    assert torch.equal(long[:, :41, :41], short)


def test_causal_sinks_are_seen_by_all_and_see_only_the_past() -> None:
    mask = sparse.visible(32, 4, 8, n_sinks=4)
    assert mask[:, 4:, :4].all()
    assert not mask.triu(1).any()


def test_sinks_of_an_encoder_see_all_or_their_group_and_each_other() -> None:
    all_of_it = sparse.visible(32, 4, 8, n_sinks=4, causal=False)
    assert all_of_it[:, :4].all() and all_of_it[:, :, :4].all()
    own = sparse.visible(32, 4, 8, n_sinks=4, causal=False, sinks_see_all=False)
    assert own[:, :, :4].all() and not own[:, :4, 8:].any()
    assert torch.equal(own[:, 4:], all_of_it[:, 4:])


@pytest.mark.golden
@pytest.mark.parametrize("path", cases(golden_roots(), "adapters/sinklora/h2o_local_mask*.json"))
def test_the_heavy_hitter_mask_is_the_authors(path: Path) -> None:
    case = read(path)
    known(case.config, "heavy_budget")
    budget = case.config["heavy_budget"]
    mask = heavy.heavy_mask(case["scores"], budget)
    assert torch.equal(mask, case["mask"].bool())


def test_no_query_sees_more_than_the_budget_and_all_see_themselves() -> None:
    torch.manual_seed(0)
    scores = torch.randn(2, 3, 12, 12).masked_fill(torch.ones(12, 12).triu(1).bool(), -1e9)
    mask = heavy.heavy_mask(scores, 4)
    assert mask.sum(dim=-1).max() <= 4
    assert mask.diagonal(dim1=-2, dim2=-1).all()


@pytest.mark.golden
@pytest.mark.parametrize("path", cases(golden_roots(), "adapters/sinklora/h2o_kvcache*.json"))
def test_the_cache_keeps_the_keys_that_the_authors_keeps(path: Path) -> None:
    case = read(path)
    config = case.config
    known(config, "batch head_dim heads hh_size recent_size steps")
    cache = heavy.HeavyHitterCache(config["hh_size"], config["recent_size"])
    for step in range(config["steps"]):
        here = case.under(f"step{step}.")
        n_new = here["attn"].shape[2]
        cache.update(here["key"][:, :, -n_new:], here["value"][:, :, -n_new:], 0)
        assert torch.equal(cache.layers[0].keys, here["key"])
        cache.observe(here["attn"], 0)
        assert torch.equal(cache.layers[0].keys, here["key_out"])
        assert torch.equal(cache.layers[0].values, here["value_out"])
        same_value(cache.score(0)[0], here["score"])
        assert cache.layers[0].keys.shape[2] <= max(config["hh_size"] + config["recent_size"], 1)
        assert torch.equal(cache.layers[0].keys[:, :, -1], here["key"][:, :, -1]), (
            "the newest key was dropped"
        )
