import pytest
import torch
from golden_case import assert_close, found, read

from vlmtools.backbones.crossvit import CrossViT
from vlmtools.errors import BadInput


@pytest.mark.golden
@found("crossvit")
def test_crossvit_gives_the_authors_logits(path):
    case = read(path)
    model = CrossViT(**case.args)
    assert model.load_authors(case.state).whole
    model.eval()
    for name, x in case.inputs.items():
        assert_close(model(x), case.outputs[name.replace("x", "logits", 1)], name)


def test_patches_cut_by_convolutions_are_as_many_as_plain_ones():
    x = torch.randn(1, 3, 64, 64)
    plain, conv = (CrossViT.tiny(multi_conv=one).eval() for one in (False, True))
    assert [one.shape for one in conv.forward_branches(x)[0]] == [
        one.shape for one in plain.forward_branches(x)[0]
    ]


def test_other_patches_cut_by_convolutions_are_refused():
    with pytest.raises(BadInput, match="12 and 16"):
        CrossViT.tiny(patch_size=(8, 16), multi_conv=True)
