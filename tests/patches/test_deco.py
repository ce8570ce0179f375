"""DeCo: early layers are read out as the model would on every family; the result equals one computed step by step."""

from typing import Any

import pytest
import torch
from matrix import FAMILIES, PAIR, answer, inputs, tiny
from straight import embedded, hidden_states, patched, question, read_out, tiny_llava
from torch import Tensor

from vlmtools.errors import BadInput
from vlmtools.patches._contrast import EarlyContrast, EarlyLayers, as_model
from vlmtools.patches.deco import DeCo, candidates, correct


class _Last(DeCo):
    """Reads the last layer as if it were an early one, and writes down what it says."""

    def hooks(self, live: Any) -> Any:
        seen: list[tuple[Tensor, Tensor]] = []
        object.__setattr__(self, "seen", seen)
        early = EarlyLayers(live, (len(live.anatomy.layers),))
        yield early.install()

        def note(scores: Tensor, earlier: Tensor) -> Tensor:
            seen.append((scores, earlier[0].log_softmax(-1)))
            return scores

        yield live.session.add_processor(lambda _prompt: EarlyContrast(early, note))


@pytest.mark.parametrize("kind", FAMILIES)
def test_the_last_layer_read_out_says_what_the_model_says(kind: str) -> None:
    model, last = tiny(kind), _Last()
    with last.attach(model):
        answer(model, inputs(kind, PAIR), max_new_tokens=4, num_beams=2)
    seen: list[tuple[Tensor, Tensor]] = last.seen  # type: ignore[attr-defined]
    assert len(seen) == 4
    for scores, read in seen:
        torch.testing.assert_close(scores, read, atol=1e-4, rtol=1e-4)


def test_tokens_equal_a_correction_computed_step_by_step() -> None:
    model, batch, layers, tokens = tiny_llava(4), question(), (5, 6, 7), []
    x = embedded(model, batch)
    for _ in range(12):
        stream = hidden_states(model, x)
        last = read_out(model, stream[-1][-1])
        order = last.softmax(-1).argsort(descending=True).tolist()
        kept: list[int] = []
        while len(kept) < 20 and float(last.softmax(-1)[kept].sum()) < 0.9:
            kept.append(order[len(kept)])
        early = {n: read_out(model, stream[n][-1]) for n in layers}
        best, anchor = max((float(early[n].softmax(-1)[t]), n) for n in layers for t in kept)
        final = last + 0.6 * best * early[anchor]
        tokens.append(max(kept, key=lambda t: float(final[t])))
        x = torch.cat([x, model.get_input_embeddings()(torch.tensor([[tokens[-1]]]))], 1)
    with DeCo(layers=layers).attach(model):
        found = patched(model, batch, 12)[0]
    assert found == tokens


def test_it_changes_an_answer() -> None:
    model, batch = tiny_llava(4), question()
    before = patched(model, batch, 12)[0]
    with DeCo(strength=3.0).attach(model):
        assert patched(model, batch, 12)[0] != before


def test_candidates_stop_with_the_token_that_reaches_the_sum() -> None:
    scores = torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log()
    assert candidates(scores, 0.75, 20).tolist() == [[True, True, False, False]]
    assert candidates(scores, 0.85, 20).tolist() == [[True, True, True, False]]
    assert candidates(scores, 0.85, 1).tolist() == [[True, False, False, False]]


def test_each_row_takes_the_layer_that_is_surest_for_it() -> None:
    scores = torch.zeros(2, 3)
    early = torch.tensor([[[4.0, 0.0, 0.0], [1.0, 0.0, 0.0]], [[0.0, 2.0, 0.0], [0.0, 3.0, 0.0]]])
    found = correct(scores, early, 1.0, 1.0, 20)
    for row, layer in ((0, 0), (1, 1)):
        p = early[layer, row].softmax(-1).max()
        torch.testing.assert_close(found[row], (p * early[layer, row]).log_softmax(-1))


def test_scores_are_capped_as_the_model_caps_them() -> None:
    class Config:
        final_logit_softcapping = 30.0

    assert as_model(torch.tensor([300.0]), Config()).tolist() == [30.0]


def test_layers_20_to_28_of_32_are_the_default() -> None:
    with DeCo().attach(tiny_llava(4, n_layers=32)) as on:
        modules = on.live.anatomy.layers
        hooked = [n + 1 for n, layer in enumerate(modules) if layer._forward_hooks]
    assert hooked == list(range(20, 29))


@pytest.mark.parametrize("wrong", [{"layers": (8,)}, {"layers": ()}, {"top_k": 0}, {"top_p": 0.0}])
def test_settings_that_fit_no_layer_or_token_are_errors(wrong: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        DeCo(**wrong).attach(tiny_llava(4))
