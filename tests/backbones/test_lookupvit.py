import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from vlmtools.backbones.lookupvit import LookupViT
from vlmtools.errors import BadInput
from vlmtools.layers.lookup import LookupBlock, spread


def tiny(**changes):
    torch.manual_seed(0)
    return LookupViT.tiny(**changes).eval()


def flops(module, *inputs):
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(*inputs)
    return counter.get_total_flops() // 2  # a multiplication and an addition as one


def test_a_block_costs_what_its_parts_sum_to():
    n, m, dim = 196, 25, 64
    with torch.device("meta"):
        block = LookupBlock(dim, 4, 4.0, 0.5)
        cost = flops(block, torch.empty(1, m, dim), torch.empty(1, n, dim))
    # there and back: 3 N M D; own attention: 2 M² D; N: key, value, out and a feed-forward part of 2 x 1/2; M: query,
    # out, four for itself, eight to feed, one value
    assert cost == 3 * n * m * dim + 2 * m**2 * dim + (3 + 2 * 0.5) * n * dim**2 + 15 * m * dim**2


def test_fewer_compressed_tokens_cost_less_with_the_same_weights():
    with torch.device("meta"):
        models = [LookupViT(depth=2, embed_dim=64, num_heads=4, sides=(side,)) for side in (3, 5, 10)]
        costs = [flops(model, torch.empty(1, 3, 224, 224)) for model in models]
    assert costs == sorted(costs) and costs[0] < costs[-1]
    assert len({sum(weight.numel() for weight in model.parameters()) for model in models}) == 1


def test_five_by_five_compressed_tokens_halve_the_cost_of_vit_b():
    from vlmtools.backbones import create

    with torch.device("meta"):
        image = torch.empty(1, 3, 224, 224)
        plain, ours = (
            flops(create(name).eval(), image) for name in ("deit_base_patch16_shrink_base", "lookupvit_b16_5")
        )
    assert plain == pytest.approx(17.6e9, rel=0.01) and 2 < plain / ours < 2.3


def test_compressed_tokens_start_as_the_shrunk_map():
    model = tiny(sides=(4,))
    few, many = model.embed(torch.randn(2, 3, 64, 64), 4)
    # half the side: bilinear resizing is then the mean of each two by two
    expected = (
        torch.nn.functional.avg_pool2d(many.transpose(1, 2).reshape(2, 32, 8, 8), 2)
        .flatten(2)
        .transpose(1, 2)
    )
    torch.testing.assert_close(few, expected)


def test_one_model_serves_several_sides():
    model, x = tiny(sides=(2, 4)), torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert model.forward_tokens(x)[0].shape[1] == 16
        assert model.forward_tokens(x, 2)[0].shape[1] == 4
        assert {model.train().forward_tokens(x)[0].shape[1] for _ in range(20)} == {4, 16}


def test_a_side_of_none_is_refused():
    with pytest.raises(BadInput, match="sides start at 1"):
        tiny().forward_tokens(torch.randn(1, 3, 64, 64), 0)


def test_normalised_anew_every_patch_gets_a_mean_of_the_compressed_tokens():
    attention = torch.tensor([[[[0.9, 0.1, 0.0], [0.3, 0.3, 0.4]]]])
    v = torch.tensor([[[[4.0], [8.0]]]])
    # 0.9 x 4 + 0.3 x 8 = 6.0 of a weight of 1.2, and so on
    torch.testing.assert_close(spread(attention, v).flatten(), torch.tensor([6.0, 2.8, 3.2]))
    torch.testing.assert_close(spread(attention, v, anew=True).flatten(), torch.tensor([5.0, 7.0, 8.0]))
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert not torch.allclose(tiny()(x), tiny(anew=True)(x))


def test_without_a_way_back_the_patches_stay():
    block, patches = LookupBlock(8, 2, writes=False), torch.randn(1, 9, 8)
    assert block(torch.randn(1, 4, 8), patches)[1] is patches


def test_a_last_block_that_writes_changes_the_last_map_but_not_the_logits():
    writing, x = tiny(last_writes=True), torch.randn(2, 3, 64, 64)
    plain = tiny()
    plain.load_state_dict(
        {key: value for key, value in writing.state_dict().items() if key in plain.state_dict()}
    )
    with torch.no_grad():
        assert torch.equal(writing(x), plain(x))
        maps, others = writing.forward_stages(x), plain.forward_stages(x)
    assert torch.equal(maps[1], others[1]) and not torch.equal(maps[2], others[2])
    assert torch.equal(others[1], others[2])
