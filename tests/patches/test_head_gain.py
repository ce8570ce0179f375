"""Head gains: exact at 1, in every dtype, per row of the batch, per part of the prompt, under compile."""

from typing import Any

import pytest
import torch
from matrix import answer, build, inputs, tiny

from vlmtools.families._session import Session
from vlmtools.patches._head_gain import HeadGain, device_of, scale_heads


def gained(model: Any, layer: int = 1, **options: Any) -> tuple[Session, HeadGain, Any]:
    session = Session.open(model)
    gain = HeadGain(session.anatomy.attention[layer], session, **options)
    return session, gain, gain.install()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_a_gain_of_one_is_exact_and_keeps_the_dtype(dtype: torch.dtype) -> None:
    heads = torch.randn(2, 3, 32).to(dtype)
    if dtype != torch.float64:
        assert torch.equal(scale_heads(heads, torch.ones(1, 1, 4, 1)), heads)
    assert scale_heads(heads, torch.ones(1, 1, 4, 1)).dtype == dtype


def test_each_head_is_multiplied_by_its_own_gain() -> None:
    found = scale_heads(torch.ones(1, 1, 8), torch.tensor([1.0, 2, 0, -1])[None, None, :, None])
    assert found.tolist() == [[[1, 1, 2, 2, 0, 0, -1, -1]]]


def test_half_precision_rounds_once_as_a_python_number_does() -> None:
    heads = torch.randn(64, 1, 32).bfloat16()
    assert torch.equal(scale_heads(heads, torch.full((1, 1, 4, 1), 1.1)), heads * 1.1)


def test_gains_may_differ_between_prompts_and_are_repeated_for_beams() -> None:
    model = tiny("llava")
    session, gain, handle = gained(model)
    batch = inputs("llava", ((5, 6, 7), (8, 9)))
    plain = answer(model, batch, num_beams=3)
    gain.set(torch.tensor([[1.0] * 4, [0.0] * 4]))
    first, second = answer(model, batch, num_beams=3)
    handle.remove()
    session.close()
    assert first == plain[0]
    assert second != plain[1]


def test_the_answer_alone_can_be_scaled() -> None:
    model, batch = tiny("llava"), inputs("llava")
    session, gain, handle = gained(model, layer=2, answer_only=True)
    gain.set(torch.zeros(1, 4))
    with torch.no_grad():
        changed = model(**batch).logits
        cached, whole = (answer(model, batch, use_cache=cache) for cache in (True, False))
    handle.remove()
    session.close()
    with torch.no_grad():
        plain = model(**batch).logits
    assert torch.equal(changed[:, :-1], plain[:, :-1])
    assert not torch.equal(changed[:, -1], plain[:, -1])
    assert cached == whole


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_a_projection_compiled_afterwards_is_one_graph_and_follows_the_gain_in_place() -> None:
    torch.compiler.reset()
    session, gain, handle = gained(build("llava"))
    graphs = []

    def counting(graph: Any, _examples: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    o_proj, heads = gain.attention.o_proj, torch.randn(1, 5, 32)
    compiled = torch.compile(o_proj, backend=counting, fullgraph=True)
    with torch.no_grad():
        for factor in (1.0, 2.0, 3.0):
            gain.set(torch.full((1, 4), factor))
            torch.testing.assert_close(compiled(heads), o_proj(heads))
    handle.remove()
    session.close()
    torch.compiler.reset()
    assert len(graphs) == 1


def test_offloaded_modules_say_where_they_compute() -> None:
    layer = torch.nn.Linear(2, 2, device="meta")
    assert device_of(layer) == torch.device("cpu")
    layer._hf_hook = type("Hook", (), {"execution_device": "cuda:1"})()  # type: ignore[assignment]
    assert device_of(layer) == torch.device("cuda:1")
    assert device_of(torch.nn.Identity()) == torch.device("cpu")
