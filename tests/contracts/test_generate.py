"""Every patch inside `generate`: caches, batches, beams, sampling."""

import pytest
import torch
from matrix import PAIR, answer, attached, inputs, patch, single, tiny, varied

from vlmtools.errors import BadInput


@varied
def test_neutral_strength_leaves_every_token_alone(name: str, kind: str) -> None:
    model, batch = tiny(kind), inputs(kind, PAIR)
    before = answer(model, batch), answer(model, batch, num_beams=2)
    with attached(patch(name, neutral=True), model):
        assert (answer(model, batch), answer(model, batch, num_beams=2)) == before


@varied
def test_a_padded_batch_equals_single_runs(name: str, kind: str) -> None:
    model = tiny(kind)
    with attached(patch(name), model):
        together = answer(model, inputs(kind, PAIR))
        assert together == [*answer(model, single(kind, 0)), *answer(model, single(kind, 1))]


@varied
def test_the_cache_changes_nothing(name: str, kind: str) -> None:
    model, batch = tiny(kind), inputs(kind, PAIR)
    with attached(patch(name), model):
        dynamic = answer(model, batch)
        assert answer(model, batch, use_cache=False) == dynamic
        if kind != "mllama":  # has no static cache for its cross-attention
            assert answer(model, batch, cache_implementation="static") == dynamic


@varied
def test_beams_of_a_batch_equal_beams_of_single_runs(name: str, kind: str) -> None:
    model = tiny(kind)
    with attached(patch(name), model):
        together = answer(model, inputs(kind, PAIR), num_beams=3)
        alone = [answer(model, single(kind, i), num_beams=3)[0] for i in (0, 1)]
    assert together == alone


@varied
def test_sampling_is_drawn_from_the_patched_model_and_repeats_with_its_seed(name: str, kind: str) -> None:
    model, batch = tiny(kind), inputs(kind, PAIR)

    def drawn() -> list[list[int]]:
        torch.manual_seed(3)
        return answer(model, batch, do_sample=True, temperature=1e-7, top_k=0, num_return_sequences=2)

    with attached(patch(name), model):
        greedy = answer(model, batch)
        first = drawn()
        assert drawn() == first
    # so cold, sampling is greedy
    assert first[::2] == first[1::2] == greedy


@varied
def test_a_second_prompt_is_answered_as_if_it_were_the_first(name: str, kind: str) -> None:
    model = tiny(kind)
    with attached(patch(name), model):
        fresh = answer(model, single(kind, 1))
    with attached(patch(name), model):
        answer(model, single(kind, 0))
        assert answer(model, single(kind, 1)) == fresh


@varied
def test_a_prompt_cut_into_chunks_is_refused(name: str, kind: str) -> None:
    model = tiny(kind)
    with attached(patch(name), model), pytest.raises(BadInput, match="prefill_chunk_size"):
        answer(model, single(kind, 0), prefill_chunk_size=2)
