import pytest
import torch
from golden_case import assert_close, found, read

from vlmtools.backbones.shvit import SHViT
from vlmtools.layers.single_head_attention import SingleHeadAttention


@pytest.mark.golden
@found("shvit", "shvit*")
def test_shvit_gives_the_authors_stages_and_logits(path):
    case = read(path)
    model = SHViT(**case.args)
    assert model.load_authors(case.state).whole
    model.eval()
    x = case.inputs["x"]
    ours = {"stem": model.stem(x), "logits": model(x)}
    ours |= {f"s{index}": one for index, one in enumerate(model.forward_stages(x), start=1)}
    for what, expected in case.outputs.items():
        assert_close(ours[what], expected, what)


@pytest.mark.golden
@found("shvit", "shsa*")
def test_attention_with_a_single_head(path):
    case = read(path)
    layer = SingleHeadAttention(*case.args).eval()
    layer.load_state_dict(case.state)
    assert_close(layer(case.inputs["x"]), case.outputs["y"])


def test_the_second_classifier_counts_as_much_as_the_first():
    torch.manual_seed(0)
    model = SHViT.tiny(distillation=True).eval()
    pooled = torch.randn(2, model.num_features)
    assert model.head_dist is not None
    expected = (model.head(pooled) + model.head_dist(pooled)) / 2
    torch.testing.assert_close(model.classify(pooled), expected)
