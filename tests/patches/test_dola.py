"""DoLa: the result equals one computed step by step from a decoder written out in full."""

from typing import Any

import pytest
import torch
from straight import embedded, hidden_states, patched, question, read_out, tiny_llava
from torch import Tensor

from vlmtools.errors import BadInput
from vlmtools.patches.dola import Divergence, DoLa, bucket, farthest_layer, layer_contrast


def _apart(last: Tensor, early: Tensor, divergence: Divergence) -> float:
    p, q = last.double().softmax(-1), early.double().softmax(-1)
    m = (p + q) / 2
    pairs = ((m, p), (m, q)) if divergence == "released" else ((p, m), (q, m))
    return float(sum((a * (a / b).log()).sum() for a, b in pairs))


@pytest.mark.parametrize(("divergence", "normed"), [("released", False), ("jensen_shannon", True)])
@pytest.mark.parametrize(("layers", "passed"), [("low", (0, 2)), ("high", (4, 6)), ((1, 5, 7), (1, 5, 7))])
def test_tokens_equal_a_contrast_computed_step_by_step(
    divergence: Divergence, normed: bool, layers: Any, passed: tuple[int, ...]
) -> None:
    model, batch, tokens = tiny_llava(4), question(), []
    x = embedded(model, batch)
    for _ in range(8):
        stream = hidden_states(model, x)
        last = read_out(model, stream[-1][-1])
        read = (lambda state: read_out(model, state)) if normed else model.lm_head
        early = {n: read(stream[n][-1]).detach() for n in passed}
        far = max(passed, key=lambda n: _apart(last, early[n], divergence))
        moved = last.log_softmax(-1) - early[far].log_softmax(-1)
        likely = last.softmax(-1) >= 0.1 * last.softmax(-1).max()
        tokens.append(int(moved.masked_fill(~likely, float("-inf")).argmax()))
        x = torch.cat([x, model.get_input_embeddings()(torch.tensor([[tokens[-1]]]))], 1)
    plain = patched(model, batch, 8)[0]
    with DoLa(layers=layers, divergence=divergence, normed=normed).attach(model):
        found = patched(model, batch, 8)[0]
    assert found == tokens
    assert found != plain, "the contrast changed nothing"


def test_the_two_divergences_can_choose_different_layers() -> None:
    draw = torch.Generator().manual_seed(0)
    scores = 4 * torch.randn(200, 8, generator=draw)
    early = 4 * torch.randn(5, 200, 8, generator=draw)
    chosen = [farthest_layer(scores, early, one) for one in ("released", "jensen_shannon")]  # type: ignore[arg-type]
    assert 0 < int((chosen[0] != chosen[1]).sum()) < 200


@pytest.mark.parametrize("divergence", ["released", "jensen_shannon"])
def test_a_token_that_the_caller_forbade_does_not_decide_the_layer(divergence: Divergence) -> None:
    scores = torch.tensor([[0.0, 1.0, float("-inf")]])
    early = torch.tensor([[[0.0, 1.0, 9.0]], [[1.0, 0.0, 0.0]]])
    assert farthest_layer(scores, early, divergence).tolist() == [1]


def test_a_token_that_grew_between_the_layers_wins_over_the_likeliest() -> None:
    last, early = torch.tensor([[0.5, 0.4, 0.1]]).log(), torch.tensor([[0.8, 0.1, 0.1]]).log()
    found = layer_contrast(last, early, 1.0, 0.3)
    assert int(found.argmax()) == 1
    assert found[0, 2] == float("-inf")
    assert float(found.exp().sum()) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("which", "n", "tied", "expected"),
    [
        ("low", 32, False, tuple(range(0, 16, 2))),
        ("high", 32, False, tuple(range(16, 32, 2))),
        ("low", 32, True, tuple(range(2, 16, 2))),
        ("low", 60, False, tuple(range(0, 20, 2))),
        ("high", 60, False, tuple(range(40, 60, 2))),
        ("low", 3, True, (2,)),
    ],
)
def test_candidate_layers_are_every_second_one_of_a_half(
    which: Any, n: int, tied: bool, expected: tuple[int, ...]
) -> None:
    assert bucket(which, n, tied) == expected


def test_no_cutoff_at_all_is_an_error() -> None:
    with pytest.raises(BadInput, match="cutoff"):
        DoLa(cutoff=0.0).attach(tiny_llava(4))
