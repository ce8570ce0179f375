import pytest
import torch

from vlmtools.backbones.fit import FIT, layer_counts
from vlmtools.errors import BadInput
from vlmtools.layers.interleaved import Reading


def tiny(**changes):
    torch.manual_seed(0)
    return FIT.tiny(**changes).eval()


def test_reading_weighs_by_the_softmax_and_adds():
    layer = Reading(2, 2, 2, 1)
    with torch.no_grad():
        for linear in (layer.q, layer.kv, layer.proj):
            linear.weight.zero_()
            linear.bias.zero_()
        layer.kv.weight[2:] = torch.eye(2)  # values as they are, equal scores
        layer.proj.weight.copy_(torch.eye(2))
    x, read = torch.tensor([[[5.0, 7.0]]]), torch.tensor([[[1.0, 3.0], [2.0, 8.0]]])
    # two channels are normalised to −1 and 1
    torch.testing.assert_close(layer(x, read), torch.tensor([[[4.0, 8.0]]]), rtol=1e-5, atol=1e-5)


def test_layers_are_read_as_the_authors_write_them():
    assert layer_counts("(2)3(1)12") == [(2, 3), (1, 12)]
    for wrong in ("", "2(3)", "(2)", "(2)3(1)", "(2)0"):
        with pytest.raises(BadInput, match="local layers in brackets"):
            layer_counts(wrong)


def test_groups_are_tiles_of_the_picture_and_maps_put_them_back():
    model, x = tiny(), torch.randn(2, 3, 64, 96)
    cut = model.patch_embed_norm(model.patch_embed(x).permute(0, 2, 3, 1))
    tokens = model.embed(x)
    assert tokens.shape == (2 * 2 * 3, 16, 16)
    torch.testing.assert_close(tokens[4], cut[0, 4:8, 4:8].reshape(16, 16) + model.pos_embed)
    torch.testing.assert_close(model._to_map(tokens - model.pos_embed, 2, 3), cut.permute(0, 3, 1, 2))


def test_before_the_first_global_layer_groups_do_not_see_each_other_and_afterwards_they_do():
    model, x = tiny(), torch.randn(1, 3, 64, 64)
    changed = x.clone()
    changed[..., 32:, 32:] += 1 + torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        first, second = model.forward_stages(x)
        first_changed, second_changed = model.forward_stages(changed)
    assert torch.equal(first[..., :4, :4], first_changed[..., :4, :4])
    assert not torch.allclose(second[..., :4, :4], second_changed[..., :4, :4])


def test_the_last_stage_writes_nothing_back():
    stages = tiny(layers="(1)1(1)1(1)1").stages
    assert [stage.write is None for stage in stages] == [False, False, True]


def test_latents_of_more_groups_are_interpolated():
    model = tiny()
    assert model._latents(2, 2) is model.latents
    with torch.no_grad():
        model.latents.copy_(model.latents[:1].expand_as(model.latents).clone())
        torch.testing.assert_close(model._latents(3, 4), model.latents[:1].expand(12, -1, -1))


def test_sides_that_cut_a_group_are_refused():
    with pytest.raises(BadInput, match="a group is 32 pixels wide"):
        tiny()(torch.zeros(1, 3, 64, 72))


def test_parameters_are_those_of_the_parts():
    def layers(n, dim):
        return n * (
            4 * dim + (dim + 1) * 3 * dim + (dim + 1) * dim + (dim + 1) * 4 * dim + (4 * dim + 1) * dim
        )

    def reading(dim, dim_read, width):
        return 2 * dim + 2 * dim_read + (dim + 1) * width + (dim_read + 1) * 2 * width + (width + 1) * dim

    with torch.device("meta"):
        model = FIT()
    x, z = 256, 512
    start = (3 * 64 + 1) * x + 2 * x + 49 * x + 16 * 8 * z
    body = 2 * (layers(2, x) + layers(3, z) + reading(z, x, 256)) + reading(x, z, 256)
    assert (
        sum(weight.numel() for weight in model.parameters()) == start + body + 2 * x + 2 * z + (z + 1) * 1000
    )
