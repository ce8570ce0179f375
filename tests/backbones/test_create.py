import pytest
import torch

from vlmtools.backbones import create
from vlmtools.backbones._checkpoint import load_into, renamed
from vlmtools.errors import BadInput

SMALL = {
    "embed_dims": (16, 24, 32, 48),
    "sa_num_heads": (-1, -1, 4, 8),
    "mlp_ratios": (2,) * 4,
    "depths": (1,) * 4,
}


def test_a_checkpoint_of_another_number_of_classes_leaves_the_classifier_fresh(tmp_path):
    whole = create("smt_t", num_classes=5, **SMALL)
    torch.save({"model": whole.state_dict()}, tmp_path / "a.pth")
    other = create("smt_t", checkpoint=tmp_path / "a.pth", num_classes=3, **SMALL)
    assert other.get_classifier().weight.shape == (3, 48)
    assert torch.equal(other.stages[0].norm.weight, whole.stages[0].norm.weight)


def test_a_checkpoint_of_another_variant_is_refused_with_both_shapes(tmp_path):
    torch.save(create("smt_t", **SMALL).state_dict(), tmp_path / "a.pth")
    with pytest.raises(BadInput, match="other shape"):
        create("smt_t", checkpoint=tmp_path / "a.pth", **{**SMALL, "embed_dims": (16, 24, 32, 64)})


def test_a_missing_file_is_named():
    with pytest.raises(BadInput, match="no such"):
        create("smt_t", checkpoint="no such.pth", **SMALL)


def test_names_are_rewritten_in_order_and_a_wrapper_is_taken_off():
    state = {"module.block1.0.x": torch.zeros(1)}
    assert list(renamed(state, ((r"^block(\d)\.", r"stages.\1."), (r"\.x$", ".y")))) == ["stages.1.0.y"]


def test_a_convolution_of_one_pixel_loads_into_a_linear_layer():
    layer = torch.nn.Linear(4, 3)
    weight = torch.randn(3, 4, 1, 1)
    assert load_into(layer, {"weight": weight, "bias": torch.zeros(3)}, ()).whole
    assert torch.equal(layer.weight, weight[:, :, 0, 0])
