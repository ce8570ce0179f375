"""Layers of PEM and of PATNet for saliency against the numbers of the authors' own modules."""

import pytest
import torch
from golden_case import assert_close, found, read

from vlmtools.layers.modulated_pyramid import ModulatedPyramid
from vlmtools.layers.prototype_attention import PrototypeAttention, prototypes
from vlmtools.layers.shared_cross_attention import SharedCrossAttention, both_ways


@pytest.mark.golden
@found("pem", "pem_ca*")
def test_prototype_attention_with_masks_and_positions_and_without(path):
    case = read(path)
    layer = case.made(PrototypeAttention).eval()
    layer.load_state_dict(case.state)
    ins = case.inputs
    plain = layer(ins["tgt"], ins["memory"])
    whole = layer(ins["tgt"], ins["memory"], ins["mask"], ins["pos"], ins["query_pos"])
    for name, expected in case.outputs.items():
        assert_close({"y": whole, "y_plain": plain}[name], expected, name)


@pytest.mark.golden
@found("pem", "pixel_decoder*")
def test_the_pyramid_gives_the_authors_mask_features_and_levels(path):
    case = read(path)
    levels = sorted(case.inputs)
    widths = [case.inputs[name].shape[1] for name in levels]
    net = ModulatedPyramid(widths, case.stated("conv_dim"), case.stated("mask_dim")).eval()
    net.load_state_dict(case.state)
    fine, refined = net([case.inputs[name] for name in levels])
    ours = {"mask_features": fine, **{f"ms{index}": one for index, one in enumerate(refined)}}
    for name, expected in case.outputs.items():
        assert_close(ours[name], expected, name)


@pytest.mark.golden
@found("patnet", "share_att*")
def test_one_attention_read_both_ways(path):
    case = read(path)
    layer = case.made(SharedCrossAttention)
    layer.load_state_dict(case.state)
    colour, depth = layer(case.inputs["rgb"], case.inputs["depth"])
    assert_close(colour, case.outputs["out_r"], "out_r")
    assert_close(depth, case.outputs["out_d"], "out_d")


def test_every_head_takes_the_pixel_with_the_largest_product():
    queries = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]]).transpose(0, 1)
    pixels = torch.tensor([[[3.0, 1.0], [2.0, 5.0]]])
    assert prototypes(queries, pixels, n_heads=1).tolist() == [[[3.0, 1.0], [2.0, 5.0]]]
    assert prototypes(queries[:, :1] + 1, pixels, n_heads=2).tolist() == [[[3.0, 5.0]]]


def test_a_hidden_pixel_is_never_a_prototype():
    queries, pixels = torch.tensor([[[1.0]]]), torch.tensor([[[3.0], [2.0]]])
    hidden = torch.tensor([[[True, False]]])
    assert prototypes(queries, pixels, 1, hidden).item() == 2.0


def test_logits_are_normalised_over_keys_for_one_output_and_over_queries_for_the_other():
    torch.manual_seed(0)
    q, k = torch.randn(1, 2, 3, 4), torch.randn(1, 2, 5, 4)
    to_queries, to_keys = both_ways(q, k, torch.ones_like(k), torch.ones_like(q))
    torch.testing.assert_close(to_queries, torch.ones(1, 2, 3, 4))
    torch.testing.assert_close(to_keys, torch.ones(1, 2, 5, 4))


def test_depth_tokens_stay_in_place_where_that_is_asked():
    torch.manual_seed(0)
    x, depth = torch.randn(1, 6, 8), torch.randn(1, 6, 8)
    kept, plain = SharedCrossAttention(8, 2), SharedCrossAttention(8, 2, scrambled=False)
    plain.load_state_dict(kept.state_dict())
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    for layer, moves in ((plain, True), (kept, False)):
        moved = layer(x[:, order], depth[:, order])[1]
        assert torch.allclose(moved, layer(x, depth)[1][:, order], atol=1e-6) is moves
