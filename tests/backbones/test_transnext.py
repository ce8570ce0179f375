import pytest
import torch
from golden_case import assert_close, found, like, read

from vlmtools.backbones.transnext import TransNeXt


@pytest.mark.golden
@found("transnext")
def test_transnext_gives_the_authors_stages_and_logits(path):
    case = read(path)
    model = TransNeXt(**case.args)
    assert model.load_authors(case.state).whole
    model.eval()
    for index, stage in enumerate(model.forward_stages(case.inputs["x"]), start=1):
        expected = case.outputs[f"stage{index}"]
        assert_close(like(stage, expected), expected, f"stage{index}")
    assert_close(model(case.inputs["x"]), case.outputs["logits"], "logits")


def test_a_size_met_later_gives_what_the_prepared_size_gives():
    torch.manual_seed(0)
    prepared = TransNeXt.tiny(img_size=96, pretrain_size=64).eval()
    other = TransNeXt.tiny(img_size=64, pretrain_size=64).eval()
    other.load_state_dict(prepared.state_dict())
    x = torch.randn(1, 3, 96, 96)
    torch.testing.assert_close(other(x), prepared(x))
