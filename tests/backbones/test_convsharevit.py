import pytest
import torch
from torch.nn import functional as F

from vlmtools.backbones.convsharevit import ConvShareViT
from vlmtools.errors import BadInput
from vlmtools.layers.shared_conv import SharedProjection


def test_tiles_of_one_position_make_a_linear_layer():
    torch.manual_seed(0)
    layer, x = SharedProjection(4, 3, 1), torch.randn(2, 5, 16)
    expected = F.linear(x, layer.conv.weight.reshape(9, 16), layer.conv.bias)
    torch.testing.assert_close(layer(x), expected)


def test_maps_of_kernels_become_tiles_of_the_next_image():
    layer = SharedProjection(3, 4, 2)
    with torch.no_grad():
        layer.conv.weight.zero_()
        layer.conv.bias.copy_(torch.tensor([1.0, 2.0, 3.0, 4.0]))
        layer.conv.weight[0, 0, 0, 0] = 1.0
    x = torch.arange(9.0).reshape(1, 1, 9)
    # the first kernel copies the upper left of each window; the others give their bias
    expected = [[1.0, 2, 2, 2], [4, 5, 2, 2], [3, 3, 4, 4], [3, 3, 4, 4]]
    assert layer(x).reshape(4, 4).tolist() == expected


def test_with_tiles_of_one_position_the_block_is_a_transformer_block():
    torch.manual_seed(0)
    block = ConvShareViT.tiny(tile=1, num_heads=4).eval().blocks[0]
    x = torch.randn(2, 5, 64)

    def linear(layer, value):
        weight = layer.conv.weight.flatten(1)
        return F.linear(value, weight, layer.conv.bias)

    with torch.no_grad():
        normed = block.norm1(x)
        q, k, v = (
            linear(one, normed).reshape(2, 5, 4, 16).transpose(1, 2) for one in (block.q, block.k, block.v)
        )
        seen = (q @ k.transpose(-2, -1) / 4).softmax(-1) @ v
        y = x + linear(block.proj, seen.transpose(1, 2).reshape(2, 5, 64))
        y = y + linear(block.fc2, F.gelu(linear(block.fc1, block.norm2(y))))
        torch.testing.assert_close(block(x), y)


def test_heads_are_split_and_joined_tile_by_tile():
    block = ConvShareViT.tiny(side=4, tile=2, num_heads=2).blocks[0]
    x = torch.arange(16.0).reshape(1, 1, 16)
    heads = block._heads(x)
    assert heads[0, 0, 0].tolist() == [0, 1, 4, 5, 2, 3, 6, 7]
    assert torch.equal(block._joined(heads), x)


def test_larger_tiles_need_fewer_weights():
    counts = [
        sum(weight.numel() for weight in ConvShareViT.tiny(tile=tile, num_heads=1).blocks.parameters())
        for tile in (1, 2, 4)
    ]
    # per projection 64 x (64 + 1), 16 x (49 + 1) and 4 x (25 + 1) weights; six projections and two norms in two blocks
    assert counts == [2 * (6 * one + 256) for one in (64 * 65, 16 * 50, 4 * 26)]


def test_tiles_that_do_not_fill_the_image_are_refused():
    with pytest.raises(BadInput, match="tiles have to fill"):
        ConvShareViT(side=16, tile=5)
