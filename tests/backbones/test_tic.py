import torch

from vlmtools.backbones.tic import TiC, rolled
from vlmtools.layers.msa_conv import MSAConv2d


def test_each_quarter_of_the_channels_rolls_its_own_way():
    x = torch.arange(9.0).reshape(1, 1, 3, 3).expand(1, 4, 3, 3)
    down, up, right, left = rolled(x, 1)[0]
    assert down.tolist() == [[6, 7, 8], [0, 1, 2], [3, 4, 5]]
    assert up.tolist() == [[3, 4, 5], [6, 7, 8], [0, 1, 2]]
    assert right.tolist() == [[2, 0, 1], [5, 3, 4], [8, 6, 7]]
    assert left.tolist() == [[1, 2, 0], [4, 5, 3], [7, 8, 6]]


def test_rolling_back_undoes_rolling():
    x = torch.randn(2, 10, 5, 7)
    assert torch.equal(rolled(rolled(x, 2), -2), x) and rolled(x, 0) is x


def test_opposite_borders_meet_only_when_channels_are_rolled():
    torch.manual_seed(0)
    for shift, meets in ((1, True), (0, False)):
        model = TiC.tiny(depths=(1, 1, 1, 1), shift=shift).eval()
        x = torch.randn(1, 3, 64, 64, requires_grad=True)
        model.forward_stages(x, 1)[0][0, :, 0, 0].sum().backward()
        assert bool(x.grad[0, :, -4:].abs().sum() > 0) is meets


def test_a_block_is_the_published_convolution_beside_the_way_round():
    torch.manual_seed(0)
    block = TiC.tiny(shift=0).eval().stages[0][1]
    x = torch.randn(1, 8, 6, 6)
    with torch.no_grad():
        torch.testing.assert_close(block(x), x + block.proj(block.conv(block.norm(x))))


def test_heads_attend_apart_and_dilated_neighbours_are_farther():
    torch.manual_seed(0)
    layer = MSAConv2d(4, 4, 3, 2, n_heads=2, dilation=2)
    x = torch.randn(1, 4, 5, 5)
    q, k, v = (one[0].reshape(2, 2, 5, 5) for one in layer.qkv_conv(x).chunk(3, dim=1))
    with torch.no_grad():
        # the middle sees the nine positions two steps apart, all of them inside the map
        keys, values = (one[:, :, ::2, ::2].flatten(2) for one in (k, v))
        weights = (torch.einsum("hc,hcn->hn", q[..., 2, 2], keys) * 2**-0.5).softmax(-1)
        expected = torch.einsum("hn,hcn->hc", weights, values).flatten() + x[0, :, 2, 2]
        layer.mlp.weight.zero_()
        layer.mlp.weight[:, :, 1, 1] = torch.eye(4)
        torch.testing.assert_close(layer(x)[0, :, 2, 2], expected.relu())


def test_a_depthwise_convolution_has_one_kernel_per_channel():
    with torch.device("meta"):
        whole, apart = (TiC.tiny(depthwise=depthwise) for depthwise in (False, True))
    weights = [model.stages[3][1].conv.mlp.weight.shape for model in (whole, apart)]
    assert weights == [(32, 32, 3, 3), (32, 1, 3, 3)]


def test_weights_do_not_know_the_size_of_the_picture():
    model = TiC.tiny().eval()
    with torch.no_grad():
        for height, width in ((32, 32), (64, 96), (100, 52)):
            assert model(torch.randn(1, 3, height, width)).shape == (1, 10)


def test_parameters_are_those_of_the_parts():
    with torch.device("meta"):
        model = TiC()
    whole, before = 0, 3
    for stage, (dim, depth) in enumerate(zip((48, 96, 192, 384), (2, 2, 4, 2), strict=True)):
        embed = (before + 1) * dim if stage else (3 * 16 + 1) * dim
        block = 2 * dim + (dim + 1) * 3 * dim + 9 * dim**2 + (dim + 1) * dim
        whole, before = whole + embed + depth * block, dim
    whole += 2 * 384 + 385 * 1000
    assert sum(weight.numel() for weight in model.parameters()) == whole
