import pytest
import torch
from torch import nn

from vlmtools.adapters._tiny import llava
from vlmtools.adapters.linear import Linear
from vlmtools.adapters.mlp import Mlp
from vlmtools.adapters.qformer import Qformer
from vlmtools.adapters.resampler import Resampler
from vlmtools.errors import BadInput, CannotAttach


def test_an_mlp_with_the_hosts_weights_is_the_hosts_connector() -> None:
    model, inputs = llava()
    before, old = model(**inputs).logits, model.model.multi_modal_projector
    with Mlp().attach(model) as mlp:
        for mine, theirs in ((mlp.layers[0], old.linear_1), (mlp.layers[2], old.linear_2)):
            mine.load_state_dict(theirs.state_dict())
        assert torch.equal(model(**inputs).logits, before)
    assert model.model.multi_modal_projector is old


def test_depth_counts_linear_layers() -> None:
    assert [sum(isinstance(one, nn.Linear) for one in Mlp(4, 8, depth=n).layers) for n in (1, 2, 3)] == [
        1,
        2,
        3,
    ]
    assert not any("bias" in name for name, _ in Linear(4, 8, bias=False).named_parameters())
    with pytest.raises(BadInput, match="depth is 0"):
        Mlp(depth=0)


@pytest.mark.parametrize("family", ["qwen2_5_vl", "llava_next", "internvl", "idefics3"])
def test_a_connector_takes_the_place_in_other_families(family: str) -> None:
    model, inputs = llava(family)
    before = model(**inputs).logits
    with Mlp().attach(model):
        after = model(**inputs).logits
        assert after.shape == before.shape and not torch.equal(after, before)
    assert torch.equal(model(**inputs).logits, before)


@pytest.mark.parametrize(
    "connector",
    [Resampler(6, 8, n_latents=5, n_layers=2, n_heads=2), Qformer(6, 8, 5, 2, 2, 8)],
    ids=["resampler", "qformer"],
)
def test_readers_give_the_same_number_of_tokens_for_any_number_of_patches(
    connector: Resampler | Qformer,
) -> None:
    for n in (3, 16):
        assert connector(torch.randn(2, n, 6)).shape == (2, 5, 8) and connector.n_tokens(n) == 5


def test_readers_do_not_care_about_the_order_of_patches() -> None:
    x = torch.randn(1, 7, 6)
    for reader in (Resampler(6, 8, n_latents=5, n_layers=2, n_heads=2), Qformer(6, 8, 5, 2, 2, 8)):
        torch.testing.assert_close(reader(x.flip(1)), reader(x), rtol=1e-4, atol=1e-5)


def test_a_second_connector_in_the_same_seat_is_refused() -> None:
    model, _ = llava()
    with Mlp().attach(model), pytest.raises(CannotAttach, match="already"):
        Linear().attach(model)


def test_heads_that_do_not_divide_the_width_are_refused() -> None:
    with pytest.raises(BadInput, match="n_heads=3"):
        Resampler(8, 8, n_heads=3)
    with pytest.raises(BadInput, match="n_heads=3"):
        Qformer(n_heads=3, d_hidden=8)
