"""FIT's causal form."""

import pytest
import torch

from vlmtools.layers.causal_interleaved import CausalInterleaved, hidden_chunks

LAYERS = [((1, 1), (1, 0)), ((1, 1), (1, 2), (2, 0))]


def _module(layers: tuple[tuple[int, int], ...] = LAYERS[0]) -> CausalInterleaved:
    torch.manual_seed(0)
    module = CausalInterleaved(32, 16, 8, layers, n_latents=2, d_latent=24, n_heads=2, ratio=2.0).eval()
    with torch.no_grad():
        for one in module.parameters():
            one.add_(torch.randn_like(one) * 0.1)
    return module


def _leak(module: CausalInterleaved, n: int) -> float:
    x = torch.randn(2, 32, 16, generator=torch.Generator().manual_seed(1))
    return float((module(x[:, :n]) - module(x)[:, :n]).detach().abs().max())


@pytest.mark.parametrize("layers", LAYERS)
@pytest.mark.parametrize("n", [1, 8, 13, 24, 31])
def test_the_outputs_of_a_prefix_are_the_prefix_of_the_outputs(
    layers: tuple[tuple[int, int], ...], n: int
) -> None:
    assert _leak(_module(layers), n) <= 1e-4


def test_without_the_shift_by_one_group_the_prefix_test_sees_a_leak(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CausalInterleaved, "_of_groups_before", lambda _, latents, __: latents)
    assert _leak(_module(), 13) > 1e-3


def test_a_group_hears_of_all_groups_before_it_and_of_none_after() -> None:
    module, x = _module(), torch.randn(1, 32, 16, requires_grad=True)
    (gradient,) = torch.autograd.grad(module(x)[0, 27].sum(), x)
    heard = gradient[0].abs().sum(-1) > 0
    assert heard[:28].all() and not heard[28:].any()


def test_in_the_first_stage_a_token_hears_of_its_own_group_only() -> None:
    module, x = _module(((2, 0),)), torch.randn(1, 32, 16, requires_grad=True)
    (gradient,) = torch.autograd.grad(module(x)[0, 20].sum(), x)
    assert (gradient[0].abs().sum(-1) > 0).nonzero().flatten().tolist() == list(range(16, 21))


def test_chunks_see_themselves_and_what_came_before() -> None:
    assert (~hidden_chunks(2, 2)).int().tolist() == [[1, 1, 0, 0], [1, 1, 0, 0], [1, 1, 1, 1], [1, 1, 1, 1]]
