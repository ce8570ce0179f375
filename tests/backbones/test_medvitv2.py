import pytest
import torch
from golden_case import assert_close, found, read

from vlmtools.backbones.medvitv2 import MedViTV2, _channels_first, _channels_last
from vlmtools.layers.faster_kan import FasterKAN


@pytest.mark.golden
@found("medvitv2", "medvitv2*")
def test_medvitv2_gives_the_authors_blocks_and_logits(path):
    case = read(path)
    model = MedViTV2(**case.args)
    assert model.load_authors(case.state).whole
    model.eval()
    with torch.no_grad():
        x = model.stem(case.inputs["x"])
        for index, block in enumerate(model.features):
            expected = case.outputs[f"block{index}"]
            assert_close(block(x), expected, f"block{index}")
            # values grow a hundredfold on the way, and rounding with them: each block starts from the published map
            x = expected
        assert_close(model(case.inputs["x"]), case.outputs["logits"], "logits")


@pytest.mark.golden
@found("medvitv2", "fasterkan*")
def test_fasterkan_gives_the_authors_numbers(path):
    case = read(path)
    layer = FasterKAN(case.args[0])
    state = {key.removeprefix("layers.").replace("rbf.grid", "grid"): v for key, v in case.state.items()}
    layer.load_state_dict(state)
    (x,) = case.inputs.values()
    assert_close(layer(x), case.outputs["y"])


def test_without_the_published_reshapes_positions_are_not_mixed_with_channels():
    x = torch.randn(1, 3, 4, 5)
    assert torch.equal(_channels_last(x, scrambled=False)[0, 1, 2], x[0, :, 1, 2])
    assert not torch.equal(_channels_last(x, scrambled=True)[0, 1, 2], x[0, :, 1, 2])
    for scrambled in (True, False):
        assert torch.equal(_channels_first(_channels_last(x, scrambled), scrambled), x)


def test_the_model_without_the_published_reshapes_runs_on_oblong_pictures():
    with torch.no_grad():
        assert MedViTV2.tiny(scrambled=False).eval()(torch.randn(1, 3, 64, 96)).shape == (1, 10)
