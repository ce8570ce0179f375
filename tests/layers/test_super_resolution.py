"""Super-resolution nets against the numbers of the authors' own modules."""

import pytest
import torch
from golden_case import assert_close, found, read

from vlmtools.layers.catanet import CATANet
from vlmtools.layers.dlgsanet import DLGSANet
from vlmtools.layers.hat import HAT
from vlmtools.layers.token_aggregation import TokenAggregation, moved_centres
from vlmtools.layers.transposed_attention import window_starts


def _without_tables(state):
    """Tables of positions are computed here."""
    return {key: value for key, value in state.items() if "relative_position_index" not in key}


@pytest.mark.golden
@found("hat")
def test_hat_gives_the_authors_picture(path):
    case = read(path)
    net = HAT(**case.args).eval()
    net.load_state_dict(_without_tables(case.state))
    with torch.no_grad():
        assert_close(net(case.inputs["x"]), case.outputs["sr"])


@pytest.mark.golden
@found("catanet", "catanet*")
def test_catanet_gives_the_authors_maps_and_picture_with_a_stable_sort(path):
    case = read(path)
    net = CATANet(**case.args, **case.meta.get("class_setting", {})).eval()
    net.load_state_dict(case.state)
    x = case.inputs["x"]
    with torch.no_grad():
        far = net.blocks[0][0](net.first_conv(x))
        ours = {"tab0": far, "lrsa0": net.blocks[0][1](far), "sr_stable_sort": net(x)}
    compared = set(ours) & set(case.outputs)
    assert "sr_stable_sort" in compared
    for name in sorted(compared):
        assert_close(ours[name], case.outputs[name], name)


@pytest.mark.golden
@found("catanet", "center_iter*")
def test_a_step_of_the_centres(path):
    case = read(path)
    assert_close(moved_centres(case.inputs["x"], case.inputs["means"]), case.outputs["new_means"])


def test_a_centre_without_tokens_stays():
    x = torch.tensor([[[1.0, 0.0], [0.8, 0.6]]])
    centres = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    moved = moved_centres(x, centres)
    assert torch.equal(moved[1], centres[1])
    torch.testing.assert_close(moved[0], torch.tensor([1.8, 0.6]) / torch.tensor([1.8, 0.6]).norm())


def test_centres_are_learned_in_training_and_kept_afterwards():
    torch.manual_seed(0)
    layer, x = TokenAggregation(8, 8, 2, n_centres=3, group_size=4), torch.randn(2, 8, 5, 4)
    layer.train()(x).sum().backward()
    assert bool(layer.initted) and layer.irca_attn.to_k.weight.grad is not None
    learned = layer.means.clone()
    layer.eval()(x)
    assert torch.equal(layer.means, learned)


@pytest.mark.golden
@found("dlgsanet")
def test_dlgsanet_gives_the_authors_picture_with_local_windows_and_without(path):
    case = read(path)
    flags = {"sr_tlc": True, "sr_global": False, "sr": case.args.get("tlc_flag", True)}
    for name, expected in case.outputs.items():
        net = DLGSANet(**{**case.args, "tlc_flag": flags[name]}).eval()
        net.load_state_dict(case.state)
        with torch.no_grad():
            assert_close(net(case.inputs["x"]), expected, name)


@pytest.mark.parametrize("kind", ["edge", "sparseedge", "idynamic", "restormer"])
def test_every_kind_of_block_and_upsampling_gives_a_picture(kind):
    x = torch.rand(2, 3, 9, 8)
    for upsampler, scale in (("pixelshuffledirect", 3), ("pixelshuffle", 4), ("", 1)):
        net = DLGSANet(dim=12, groups=1, blocks=1, buildblock_type=kind, upscale=scale, upsampler=upsampler,
                       idynamic=upsampler != "", idynamic_ffn_type="BaseFFN", body_norm=True)  # fmt: skip
        assert net.eval()(x).shape == (2, 3, 9 * scale, 8 * scale)


def test_windows_cover_every_pixel_and_end_with_the_map():
    assert (
        window_starts(16, 12) == [0, 4] and window_starts(10, 10) == [0] and window_starts(7, 3) == [0, 2, 4]
    )


def test_a_scale_that_was_not_published_is_refused():
    for net, scale in ((HAT, 5), (CATANet, 5)):
        with pytest.raises(ValueError, match="upscale=5"):
            net(upscale=scale)
