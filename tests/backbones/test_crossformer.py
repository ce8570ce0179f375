import pytest
import torch
from golden_case import assert_close, found, like, read

from vlmtools.backbones.crossformer import CrossFormer
from vlmtools.errors import BadInput
from vlmtools.layers.group_attention import GroupAttention


@pytest.mark.golden
@found("crossformer")
def test_crossformer_gives_the_authors_stages_and_logits(path):
    case = read(path)
    model = CrossFormer(**case.args)
    assert model.load_authors(case.state).whole
    model.eval()
    x = case.inputs["x"]
    maps = model.forward_stages(x)
    ours = {"stem": model.stem(x), "logits": model(x), f"stage{len(maps) - 1}": maps[-1]}
    # the authors' stages end with the merge that opens ours
    ours |= {f"stage{i}": model.stages[i + 1].merge(maps[i]) for i in range(len(maps) - 1)}
    assert set(case.outputs) <= set(ours)
    for name, expected in case.outputs.items():
        assert_close(like(ours[name], expected), expected, name)


def test_a_long_distance_group_holds_tokens_at_equal_steps():
    attention = GroupAttention(16, 2, group=2, interval=4)
    spots = torch.arange(64.0).reshape(1, 8, 8, 1)
    assert attention._grouped(spots)[0, 0, :, 0].tolist() == [0, 4, 32, 36]
    assert torch.equal(attention._ungrouped(attention._grouped(spots), 8, 8), spots)


@pytest.mark.parametrize("padding", [0, 1])
def test_padded_tokens_are_not_seen(padding):
    torch.manual_seed(0)
    attention = GroupAttention(16, 2, group=4, padding=padding)
    unmasked = GroupAttention(16, 2, group=4, padding=padding, masked=False)
    unmasked.load_state_dict(attention.state_dict())
    x = torch.randn(1, 6, 5, 16)
    assert attention(x).shape == x.shape
    assert not torch.allclose(attention(x), unmasked(x))


def test_an_odd_map_is_refused():
    with pytest.raises(BadInput, match="multiple of 32"):
        CrossFormer.tiny(img_size=120)


@pytest.mark.parametrize("kind", ["linear", "linear_div", "alter", "7_14"])
def test_groups_that_grow_with_depth_run(kind):
    model = CrossFormer.tiny(group_type=kind, group_size=(4, 4, 8, 4)).eval()
    assert model(torch.zeros(1, 3, 128, 128)).shape == (1, 10)
