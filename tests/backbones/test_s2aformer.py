import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from vlmtools.backbones.s2aformer import S2AFormer, local_interaction
from vlmtools.errors import BadInput
from vlmtools.layers.strip_attention import StripAttention


def cost(module, x):
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(x)
    return counter.get_total_flops() // 2  # a multiplication and an addition as one


def test_attention_costs_positions_times_pooled_positions_times_heads():
    dim, heads, side, few = 32, 4, 16, 4
    n, n_few = side**2, (side // few) ** 2
    with torch.device("meta"):
        layer = StripAttention(dim, heads, narrow=1, reduction=few)
        total = cost(layer, torch.empty(1, dim, side, side))
    # queries and keys have one channel per head; pooling reads every position once; values are mixed at full width
    projections = n * dim * heads + n_few * dim * heads + n_few * dim**2 + n * dim**2
    assert total == n * n_few * heads + n * n_few * dim + projections + n * dim


@pytest.mark.parametrize(
    ("name", "params", "gmac"),
    [("mini", 5.02, 0.43), ("t", 5.8, 0.655), ("xs", 6.54, 0.786), ("s", 10.69, 1.38), ("m", 24.87, 4.12)],
)
def test_parameters_and_flops_are_the_published_ones_within_three_percent(name, params, gmac):
    with torch.device("meta"):
        model = S2AFormer(**S2AFormer.variants[f"s2aformer_{name}"].args).eval()
        counted = cost(model, torch.empty(1, 3, 224, 224))
    assert sum(weight.numel() for weight in model.parameters()) == pytest.approx(params * 1e6, rel=0.03)
    assert counted == pytest.approx(gmac * 1e9, rel=0.03)


@pytest.mark.parametrize(
    ("name", "gmac"), [("mini", 0.56), ("t", 0.855), ("xs", 1.03), ("s", 1.8), ("m", 5.38)]
)
def test_flops_at_256_pixels_are_the_published_ones_within_three_percent(name, gmac):
    with torch.device("meta"):
        model = S2AFormer(**S2AFormer.variants[f"s2aformer_{name}"].args).eval()
        counted = cost(model, torch.empty(1, 3, 256, 256))
    assert counted == pytest.approx(gmac * 1e9, rel=0.03)


def test_pooled_keys_make_large_maps_cheaper():
    with torch.device("meta"):
        models = [S2AFormer(depths=(1, 1, 1, 1), reductions=few) for few in ((8, 4, 2, 1), (2, 2, 2, 1))]
        pooled, finer = (cost(model, torch.empty(1, 3, 224, 224)) for model in models)
    assert pooled < finer


def test_the_local_interaction_sees_five_by_five_positions_of_its_own_channel():
    torch.manual_seed(0)
    module = local_interaction(3).eval()
    x = torch.zeros(1, 3, 9, 9, requires_grad=True)
    module(x)[0, 1, 4, 4].backward()
    reached = (x.grad[0] != 0).nonzero()
    assert reached[:, 0].unique().tolist() == [1]
    assert reached[:, 1:].min().item() == 2 and reached[:, 1:].max().item() == 6


def test_every_position_is_seen_by_every_other():
    torch.manual_seed(0)
    model = S2AFormer.tiny().eval()
    x = torch.randn(1, 3, 64, 64, requires_grad=True)
    model.forward_stages(x)[0][0, :, 0, 0].sum().backward()
    assert (x.grad[0, :, -8:, -8:] != 0).any()


def test_images_smaller_than_the_pooling_are_refused():
    with pytest.raises(BadInput, match="pooled over 32 pixels"):
        S2AFormer.tiny()(torch.zeros(1, 3, 32, 24))
