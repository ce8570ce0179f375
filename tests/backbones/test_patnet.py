import pytest
import torch
from waves import filled, picture

from vlmtools.backbones._checkpoint import renamed
from vlmtools.backbones.patnet import PATNet
from vlmtools.layers.partial_attention import (
    GaussianChannelAttention,
    PartialAttention,
    PartialSpatialAttention,
    distance_buckets,
)

# what haiduo/PartialNet at 679cfc0 gave for the same weights and picture, first image
AUTHORS = {
    ("gelu", True, 96): [
        -0.14901, 0.47545, 0.84778, 0.71911, 0.14083, -0.55376, -0.94501, -0.78306, -0.14696, 0.59429,
    ],
    ("relu", False, 160): [
        0.046, 0.23695, 0.23206, 0.0552, -0.14914, -0.22262, -0.10679, 0.11424, 0.27215, 0.23423,
    ],
}  # fmt: skip


@pytest.mark.golden
@pytest.mark.parametrize("setting", AUTHORS)
def test_patnet_gives_the_logits_of_the_authors_program(setting):
    act, spatial, side = setting
    model = filled(PATNet.tiny(act_layer=act, spatial=spatial))
    with torch.no_grad():
        logits = model(picture(side))[0]
    torch.testing.assert_close(logits, torch.tensor(AUTHORS[setting]), rtol=1e-4, atol=2e-5)


def test_the_authors_names_become_ours():
    theirs = ["patch_embed.norm.bias", "stages.0.blocks.0.mlp.0.weight", "stages.3.reduction.weight",
              "stages.6.blocks.1.spatial_mixing.attn.rpe_k.lookup_table_bias", "avgpool_pre_head.1.weight"]  # fmt: skip
    ours = ["stages.0.embed.norm.bias", "stages.0.blocks.0.mlp.0.weight", "stages.2.embed.proj.weight",
            "stages.3.blocks.1.spatial_mixing.attn.bias", "pre_head.weight"]  # fmt: skip
    assert list(renamed(dict.fromkeys(theirs, torch.zeros(1)), PATNet.renames)) == ours
    assert set(ours) <= set(PATNet.tiny().state_dict())


def test_distances_share_a_bias_and_far_ones_are_told_apart_coarsely():
    table = distance_buckets(2, 2)
    assert table.tolist() == [[40, 41, 41, 41], [41, 40, 41, 41], [41, 41, 40, 41], [41, 41, 41, 40]]
    row = distance_buckets(1, 200)[0]
    # 20 + ln(40 / 20) / ln 8 x 20 = 26.67; from eight times 20 on all are one
    assert row[20] == 60 and row[40] == 40 + 27 and row[160] == row[199] == 80


def test_a_channel_is_weighed_by_its_mean_and_spread():
    layer = GaussianChannelAttention(2).eval()
    with torch.no_grad():
        layer.cfc1.weight.zero_()
        layer.cfc1.weight[0, 0, 0] = torch.tensor([1.0, 0.0])
        layer.cfc1.weight[1, 1, 0] = torch.tensor([0.0, 1.0])
    x = torch.tensor([[[[1.0, 3.0]], [[2.0, 2.0]]]])
    scale = (1 + 1e-5) ** -0.5
    # mean 2 of the first channel, no spread in the second; the gate is x / 6 + 1 / 2
    expected = torch.stack([x[0, 0] * (2 * scale / 6 + 0.5), x[0, 1] * 0.5])[None]
    torch.testing.assert_close(layer(x), expected)


def test_a_constant_channel_has_a_finite_gradient():
    layer = GaussianChannelAttention(2).eval()
    x = torch.ones(1, 2, 3, 3, requires_grad=True)
    layer(x).sum().backward()
    assert torch.isfinite(x.grad).all()


def test_a_position_is_weighed_and_the_other_channels_pass_a_matrix():
    layer = PartialSpatialAttention(2).eval()
    with torch.no_grad():
        layer.conv_attn.weight.fill_(6.0)
        layer.conv.weight.fill_(2.0)
    x = torch.tensor([[[[0.25, -1.0]], [[1.0, 3.0]]]])
    # gates 6 x 0.25 / 6 + 0.5 and 0
    expected = torch.tensor([[[[0.25 * 0.75, 0.0]], [[2.0, 6.0]]]])
    torch.testing.assert_close(layer(x), expected * (1 + 1e-5) ** -0.5)


def test_the_convolution_touches_its_share_of_the_channels_only():
    layer = PartialAttention(8, 4, n_heads=2).eval()
    x = torch.randn(1, 8, 5, 5)
    other = x.clone()
    other[:, 2:] += 1 + torch.randn(1, 6, 5, 5)
    with torch.no_grad():
        assert torch.equal(layer(x)[:, :2], layer(other)[:, :2])
        assert not torch.allclose(layer(x)[:, 2:], layer(other)[:, 2:])
