import pytest
import torch
from waves import filled, picture

from vlmtools.backbones._checkpoint import renamed
from vlmtools.backbones._resnet import ResNet
from vlmtools.backbones.duoformer import DuoFormer
from vlmtools.errors import BadInput
from vlmtools.layers.scale_region_attention import region_index, region_tokens

# what the program of AliSerwat/duoformer_TCGA at 69b7441, over torchvision's residual networks, gave for the same
# weights and picture, first image; its table of scale positions needs 6 rows for two scales where the copy says 21
R18 = [-0.52088, 0.38297, 0.36272, -0.55518, -0.76318, 0.29703, 1.13792, 0.50203, -0.67265, -0.71227]
R50_CHANNEL = [-53026816.0, -844299264.0, 1616332288.0, -2148484608.0, 2361797632.0, -2224604672.0,
               1757276416.0, -1029156864.0, 148307456.0, 754554368.0]  # fmt: skip


@pytest.mark.golden
def test_duoformer_gives_the_logits_of_the_authors_program():
    model = filled(
        DuoFormer(
            depth=2,
            embed_dim=16,
            num_heads=4,
            mlp_ratio=2,
            resnet_depths=(2, 2, 2, 2),
            bottleneck=False,
            num_classes=10,
        )
    )
    with torch.no_grad():
        logits = model(picture(224))[0]
    torch.testing.assert_close(logits, torch.tensor(R18), rtol=1e-4, atol=5e-5)


@pytest.mark.slow
@pytest.mark.golden
def test_duoformer_gives_the_logits_of_the_authors_program_with_a_channel_token():
    model = filled(DuoFormer(depth=1, mlp_ratio=1, n_scales=2, scale_token="channel", num_classes=10))
    with torch.no_grad():
        logits = model(picture(224))[0]
    torch.testing.assert_close(logits, torch.tensor(R50_CHANNEL), rtol=1e-3, atol=1e5)


def test_the_authors_names_become_ours():
    theirs = ["channel_token", "resnet_projector.1.running_mean", "resnet_projector.5.0.downsample.0.weight",
              "vision_transformer.scaleBlocks.1.mlp.fc2.bias", "vision_transformer.blocks.0.attn.qkv.weight",
              "vision_transformer.fc_norm.bias", "projection.proj_heads2.weight"]  # fmt: skip
    ours = ["first.token", "resnet.stem.1.running_mean", "resnet.stages.1.0.downsample.0.weight",
            "scale_blocks.1.mlp.2.bias", "region_blocks.0.qkv.weight", "norm.bias", "projections.2.weight"]  # fmt: skip
    assert list(renamed(dict.fromkeys(theirs, torch.zeros(1)), DuoFormer.renames)) == ours
    assert set(ours) <= set(DuoFormer.tiny().state_dict())


@pytest.mark.parametrize("by_column", [False, True])
def test_tokens_of_regions_are_those_that_the_published_index_names(by_column):
    x = torch.randn(2, 5, 14, 14)
    expected = x.flatten(2)[:, :, region_index(14, 7, by_column)].permute(0, 2, 3, 1)
    assert torch.equal(region_tokens(x, 2, by_column), expected)


def test_regions_need_not_be_square():
    tokens = region_tokens(torch.arange(8.0).reshape(1, 1, 2, 4), 2)
    assert tokens[0, :, :, 0].tolist() == [[0, 1, 4, 5], [2, 3, 6, 7]]


def test_scales_of_one_region_do_not_see_another():
    torch.manual_seed(0)
    model = DuoFormer.tiny(n_scales=2).eval()
    maps = [
        torch.randn(1, width, 64 // 2**level, 64 // 2**level)
        for level, width in enumerate((8, 16, 32, 64), 2)
    ]
    changed = [one.clone() for one in maps]
    changed[3][..., 0, 0] += 1
    with torch.no_grad():
        x, y = model.region_scales(maps), model.region_scales(changed)
        for block in model.scale_blocks:
            x, y = block(x), block(y)
    assert not torch.allclose(x[:, 0], y[:, 0]) and torch.equal(x[:, 1:], y[:, 1:])


@pytest.mark.parametrize(("n_scales", "n_tokens"), [(2, 6), (3, 22), (4, 86)])
def test_a_region_holds_four_times_as_many_tokens_at_each_finer_scale(n_scales, n_tokens):
    model = DuoFormer.tiny(n_scales=n_scales, scale_token="channel").eval()
    assert model.scale_pos_embed.shape[2] == n_tokens
    with torch.no_grad():
        assert model(torch.randn(2, 3, 64, 96)).shape == (2, 10)


def test_the_norm_before_the_head_is_used_only_when_asked_for():
    plain, normed = DuoFormer.tiny().eval(), DuoFormer.tiny(norm_before_head=True).eval()
    normed.load_state_dict(plain.state_dict())
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        features = plain.forward_features(x)
        assert torch.equal(plain.pool(features), features[:, 0])
        torch.testing.assert_close(normed.pool(features), plain.norm(features[:, 0]))


def test_sides_that_cut_a_region_are_refused():
    with pytest.raises(BadInput, match="multiples of 32"):
        DuoFormer.tiny()(torch.zeros(1, 3, 64, 80))


@pytest.mark.parametrize(
    ("depths", "bottleneck", "params"), [((2, 2, 2, 2), False, 11_176_512), ((3, 4, 6, 3), True, 23_508_032)]
)
def test_the_residual_networks_have_as_many_parameters_as_torchvisions_without_classifier(
    depths, bottleneck, params
):
    with torch.device("meta"):
        assert sum(weight.numel() for weight in ResNet(3, depths, 64, bottleneck).parameters()) == params
