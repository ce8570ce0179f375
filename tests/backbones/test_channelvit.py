import pytest
import torch
from golden_case import assert_close, found, read

from vlmtools.backbones.channelvit import ChannelViT


@pytest.mark.golden
@found("channelvit")
def test_channelvit_gives_the_authors_tokens_for_all_and_for_some_channels(path):
    case = read(path)
    args = {"num_classes": 0, **case.args}
    args["img_size"] = args["img_size"][0] if isinstance(args["img_size"], list) else args["img_size"]
    model = ChannelViT(**args)
    assert model.load_authors(case.state).whole
    model.eval()
    ins = case.inputs
    with torch.no_grad():
        tokens = model.forward_tokens(ins["x"], ins["channels"])
        assert_close(tokens, case.outputs["tokens_all"], "tokens_all")
        assert_close(tokens[:, 0], case.outputs["cls_all"], "cls_all")
        some = model.forward_tokens(ins["x_subset"], ins["channels_subset"])
        assert_close(some[:, 0], case.outputs["cls_subset"], "cls_subset")
        bigger = model.forward_tokens(ins["x_bigger"])
        assert_close(bigger[:, 0], case.outputs["cls_bigger"], "cls_bigger")


def test_training_may_hide_channels_and_evaluation_never_does():
    torch.manual_seed(0)
    model = ChannelViT.tiny(in_chans=4, sample_channels=True).train()
    x = torch.randn(2, 4, 64, 64)
    lengths = {model.embed(x).shape[1] for _ in range(30)}
    assert lengths == {1 + 16 * n for n in range(1, 5)}
    assert model.eval().embed(x).shape[1] == 65
