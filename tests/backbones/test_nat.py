import re

import pytest
import torch
from golden_case import assert_close, found, read

from vlmtools.backbones.nat import NAT
from vlmtools.layers.neighborhood_attention import NeighborhoodAttention, neighbours


@pytest.mark.golden
@found("nat", "*nat_*")
def test_nat_and_dinat_give_the_authors_logits(path):
    case = read(path)
    model = NAT(**case.args)
    assert model.load_authors(case.state).whole
    assert_close(model.eval()(case.inputs["x"]), case.outputs["logits"], "logits")


@pytest.mark.golden
@found("nat", "na2d*")
def test_neighborhood_attention_gives_the_map_of_the_dense_operator(path):
    case = read(path)
    numbers = {name: int(value) for name, value in re.findall(r"(\w+) (\d+)", case.args)}
    layer = NeighborhoodAttention(
        numbers["dim"], numbers["heads"], numbers["kernel"], numbers.get("dilation", 1)
    )
    layer.load_state_dict(case.state)
    (x,) = case.inputs.values()
    assert_close(layer(x), case.outputs["y_nhwc"])


def test_windows_are_shifted_inwards_and_keep_to_their_remainder():
    near, away = neighbours(7, kernel=3, dilation=2)
    assert near.tolist() == [[0, 2, 4], [1, 3, 5], [0, 2, 4], [1, 3, 5], [2, 4, 6], [1, 3, 5], [2, 4, 6]]
    assert away[0].tolist() == [2, 3, 4] and away[6].tolist() == [0, 1, 2]


def test_a_window_as_large_as_the_map_is_full_attention():
    torch.manual_seed(0)
    layer = NeighborhoodAttention(16, 2, kernel=5, rel_pos_bias=False)
    x = torch.randn(2, 5, 5, 16)
    q, k, v = layer.qkv(x).reshape(2, 25, 3, 2, 8).permute(2, 0, 3, 1, 4)
    full = torch.nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(x.shape)
    torch.testing.assert_close(layer(x), layer.proj(full))


def test_patches_may_be_merged_as_in_swin():
    model = NAT.tiny(layout="swin").eval()
    with torch.no_grad():
        assert model(torch.randn(1, 3, 66, 62)).shape == (1, 10)
