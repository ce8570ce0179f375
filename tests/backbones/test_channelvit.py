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
    with torch.no_grad():
        for name, expected in case.outputs.items():
            kind, which = name.split("_", 1)
            suffix = "" if which == "all" else f"_{which}"
            tokens = model.forward_tokens(case.inputs[f"x{suffix}"], case.inputs.get(f"channels{suffix}"))
            assert_close(tokens[:, 0] if kind == "cls" else tokens, expected, name)


def test_training_may_hide_channels_and_evaluation_never_does():
    torch.manual_seed(0)
    model = ChannelViT.tiny(in_chans=4, sample_channels=True).train()
    x = torch.randn(2, 4, 64, 64)
    lengths = {model.embed(x).shape[1] for _ in range(30)}
    assert lengths == {1 + 16 * n for n in range(1, 5)}
    assert model.eval().embed(x).shape[1] == 65
