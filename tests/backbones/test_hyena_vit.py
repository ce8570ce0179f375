import pytest
import torch

from vlmtools.backbones import create
from vlmtools.backbones.hyena_vit import HyenaViT
from vlmtools.errors import BadInput
from vlmtools.layers.hyena_nd import HyenaND


def tiny(**changes):
    torch.manual_seed(0)
    return HyenaViT.tiny(**changes).eval()


def test_the_last_blocks_attend_and_the_first_convolve():
    model = create("hyena_vit_cifar_hybrid")
    kinds = [isinstance(block.mixer, HyenaND) for block in model.blocks]
    assert kinds == [True] * 6 + [False] * 3


def test_with_attention_in_every_block_it_is_a_plain_vision_transformer():
    torch.manual_seed(0)
    model = tiny(depth=1, n_attention=1)
    x = torch.randn(2, 3, 64, 64)
    tokens = model.patch_embed(x).flatten(2).transpose(1, 2) + model.pos_embed
    block = model.blocks[0]
    with torch.no_grad():
        tokens = tokens + block.mixer.attn(block.norm1(tokens))
        tokens = tokens + block.mlp(block.norm2(tokens))
        torch.testing.assert_close(model(x), model.head(model.norm(tokens).mean(1)))


def test_a_hyena_block_sees_the_whole_picture():
    model = tiny(depth=1, n_attention=0)
    x = torch.randn(1, 3, 64, 64, requires_grad=True)
    model.forward_stages(x)[0][0, :, 0, 0].sum().backward()
    reached = x.grad[0].abs().sum(0)
    assert (reached.reshape(8, 8, 8, 8).sum((1, 3)) > 0).all()


def test_a_closed_gate_leaves_only_the_way_round():
    model = tiny(depth=1, n_attention=0)
    mixer = model.blocks[0].mixer
    x = torch.randn(1, 32, 4, 4)
    with torch.no_grad():
        mixer.short_filter.weight[:32] = 0  # the gate that is applied last
        mixer.short_filter.bias[:32] = 0
        expected = mixer.out_proj.bias[:, None, None].expand_as(x[0])
        torch.testing.assert_close(mixer(x)[0], expected)


def test_parameters_are_those_of_the_parts():
    with torch.device("meta"):
        model = create("hyena_vit_cifar")
    d, f = 192, 32
    hyena = (d + 1) * 3 * d + 10 * 3 * d + (d + 1) * d + (2 * f + f) + (f * f + f) + (f + 1) * d + d + d
    block = hyena + 4 * d + (d + 1) * 2 * d + (2 * d + 1) * d
    whole = (3 * 16 + 1) * d + 64 * d + 9 * block + 2 * d + (d + 1) * 100
    assert sum(weight.numel() for weight in model.parameters()) == whole


def test_more_attention_than_blocks_is_refused():
    with pytest.raises(BadInput, match="from 0 to 2"):
        HyenaViT.tiny(n_attention=3)
