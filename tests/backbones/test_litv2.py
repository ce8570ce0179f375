import re

import pytest
import torch
from golden_case import assert_close, found, like, read

from vlmtools.backbones.litv2 import LITv2
from vlmtools.layers.deform_conv import deform_conv2d
from vlmtools.layers.hilo import HiLo


@pytest.mark.golden
@found("litv2", "litv2*")
def test_litv2_gives_the_authors_stages_and_logits(path):
    case = read(path)
    model = LITv2(**case.args)
    assert model.load_authors(case.state).whole
    model.eval()
    x = case.inputs["x"]
    maps = model.forward_stages(x)
    ours = {"stem": model.stem(x), "logits": model(x), f"layer{len(maps) - 1}": maps[-1]}
    ours |= {f"layer{i}": model.stages[i + 1].merge(maps[i]) for i in range(len(maps) - 1)}
    assert set(case.outputs) <= set(ours)
    for name, expected in case.outputs.items():
        assert_close(like(ours[name], expected), expected, name)


@pytest.mark.golden
@found("litv2", "hilo*")
def test_hilo_gives_the_authors_tokens_for_every_share_and_window(path):
    case = read(path)
    for name, expected in case.outputs.items():
        alpha, window = re.fullmatch(r"a([\d.]+)_w(\d+)", name).groups()
        state = {k.removeprefix(name + "."): v for k, v in case.state.items() if k.startswith(name + ".")}
        layer = HiLo(
            case.stated("dim"),
            case.stated("heads"),
            int(window),
            float(alpha),
            qkv_bias="qkv_bias" in case.args,
        )
        layer.load_state_dict(state)
        batch, n_tokens, dim = case.inputs["x"].shape
        side = int(n_tokens**0.5)
        out = layer(case.inputs["x"].reshape(batch, side, side, dim)).flatten(1, 2)
        assert_close(out, expected, name)


@pytest.mark.parametrize(("kernel", "stride", "padding"), [(2, 2, 0), (3, 1, 1)])
def test_deformable_convolution_without_offsets_is_convolution(kernel, stride, padding):
    torch.manual_seed(0)
    x, weight, bias = torch.randn(2, 4, 8, 6), torch.randn(5, 4, kernel, kernel), torch.randn(5)
    plain = torch.nn.functional.conv2d(x, weight, bias, stride, padding)
    offset = torch.zeros(2, 2 * kernel**2, *plain.shape[-2:])
    torch.testing.assert_close(deform_conv2d(x, offset, weight, bias, stride, padding), plain)


def test_an_offset_of_one_pixel_down_moves_the_map():
    x = torch.randn(1, 1, 5, 4)
    offset = torch.zeros(1, 2, 5, 4)
    offset[:, 0] = 1.0
    moved = deform_conv2d(x, offset, torch.ones(1, 1, 1, 1))
    torch.testing.assert_close(moved[..., :-1, :], x[..., 1:, :])
    assert moved[..., -1, :].abs().max() < 1e-6
