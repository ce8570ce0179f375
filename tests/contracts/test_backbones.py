"""What every backbone promises, checked on the tiny model of every architecture."""

import copy
import re
from importlib.util import find_spec

import pytest
import torch

from vlmtools import registry
from vlmtools.backbones import create, list_backbones
from vlmtools.backbones._features_only import FeaturesOnly
from vlmtools.backbones.base import Backbone
from vlmtools.errors import BadInput, UnknownName

PACKAGE = "vlmtools.backbones"
ARCHITECTURES = registry.names(PACKAGE)


def cls_of(name):
    return registry.load(PACKAGE, name, Backbone)


def entry(name):
    needs = cls_of(name).needs
    absent = bool(needs) and find_spec(needs) is None
    return pytest.param(name, marks=pytest.mark.skipif(absent, reason=f"{needs} is not installed"))


every_backbone = pytest.mark.parametrize("name", [entry(name) for name in ARCHITECTURES])


def tiny(name, **changes):
    torch.manual_seed(0)
    return cls_of(name).tiny(**changes).eval()


def images(name, n=2, channels=3, size=None):
    torch.manual_seed(1)
    side = size or cls_of(name).tiny_sizes[0]
    return torch.randn(n, channels, side, side)


@every_backbone
def test_logits_and_features_have_the_promised_shapes(name):
    model, x = tiny(name), images(name)
    with torch.no_grad():
        logits, vector = (
            model(x),
            model.forward_head(model.forward_features(x), pre_logits=True),
        )
    assert logits.shape == (2, model.num_classes)
    assert vector.shape == (2, model.num_features)
    assert torch.isfinite(logits).all()


@every_backbone
def test_gradients_reach_every_parameter(name):
    model = tiny(name).train()
    model(images(name)).square().sum().backward()
    forgotten = {
        key for key, weight in model.named_parameters() if weight.requires_grad and weight.grad is None
    }
    assert not {key for key in forgotten if not any(part in key for part in model.training_only)}


SILENT = {
    "crossformer": r"stages\.0\.blocks\.\d\.attn\.pos\.",  # a norm over the one channel of the tiny model is constant
    "crossvit": r"fusion\.\d\.1\.attn\.w[qk]\.",  # a class token alone: the softmax of one number
    "efficientvit_m": r"stages\.2\..*attn\.",  # one position in the last map of the tiny model
}
"""Weights that cannot change the tiny model's logits, by architecture."""


@every_backbone
def test_gradients_are_zero_nowhere(name):
    model = tiny(name).train()
    with torch.no_grad():  # away from gates that start at 0
        for weight in model.parameters():
            weight.add_(0.05 * torch.randn_like(weight))
    logits = model(images(name, n=4))
    (logits * torch.randn_like(logits)).sum().backward()
    zero = [key for key, weight in model.named_parameters() if weight.requires_grad and not _moved(weight)]
    zero = [key for key in zero if not any(part in key for part in model.training_only)]
    assert not [key for key in zero if not re.search(SILENT.get(name, "^$"), key)]


def _moved(weight):
    return weight.grad is not None and bool(weight.grad.abs().sum() > 0)


@every_backbone
def test_oblong_images_work_or_are_refused_in_words(name):
    model, (short, long) = tiny(name), cls_of(name).tiny_sizes
    x = torch.randn(1, 3, short, long)
    with torch.no_grad():
        if model.fixed_size:
            with pytest.raises(BadInput):
                model(x)
        else:
            assert model(x).shape == (1, model.num_classes)


@every_backbone
def test_intermediates_are_maps_of_the_promised_width_and_reduction(name):
    model, x = tiny(name), images(name)
    with torch.no_grad():
        features, maps = model.forward_intermediates(x)
        assert torch.allclose(features, model.forward_features(x), atol=1e-6)
    assert len(maps) == len(model.feature_info)
    for one, info in zip(maps, model.feature_info, strict=True):
        side = -(-x.shape[-1] // info["reduction"])
        assert one.shape == (2, info["num_chs"], side, side)


@every_backbone
def test_intermediates_can_be_chosen_and_given_as_tokens(name):
    model, x = tiny(name), images(name)
    with torch.no_grad():
        maps = model.forward_intermediates(x, intermediates_only=True)
        tokens = model.forward_intermediates(
            x, [0], stop_early=True, output_fmt="NLC", intermediates_only=True
        )
        last = model.forward_intermediates(x, 1, intermediates_only=True)
    assert torch.allclose(tokens[0], maps[0].flatten(2).transpose(1, 2), atol=1e-5)
    assert torch.allclose(last[0], maps[-1], atol=1e-5)


@every_backbone
def test_a_stage_that_is_not_there_is_refused(name):
    model = tiny(name)
    with pytest.raises(BadInput, match="there are 0 to"):
        model.forward_intermediates(images(name), indices=[99])


@every_backbone
def test_images_of_another_size_work_or_are_refused_in_words(name):
    cls = cls_of(name)
    size = cls.tiny_sizes[1]
    model = tiny(name, img_size=size) if cls.fixed_size else tiny(name)
    with torch.no_grad():
        assert model(images(name, size=size)).shape == (2, model.num_classes)
    if cls.fixed_size:
        with pytest.raises(BadInput):
            tiny(name)(images(name, size=size))


@every_backbone
def test_other_numbers_of_channels_and_classes_work(name):
    model = tiny(name, in_chans=5, num_classes=3)
    with torch.no_grad():
        assert model(images(name, channels=5)).shape == (2, 3)
        model.reset_classifier(7)
        assert model(images(name, channels=5)).shape == (2, 7)
        model.reset_classifier(0)
        assert model(images(name, channels=5)).shape == (2, model.num_features)


@every_backbone
def test_bfloat16_stays_bfloat16_and_finite(name):
    model = tiny(name).to(torch.bfloat16)
    with torch.no_grad():
        logits = model(images(name).to(torch.bfloat16))
    assert logits.dtype == torch.bfloat16 and torch.isfinite(logits).all()


@every_backbone
def test_a_state_dict_makes_an_equal_model(name, tmp_path):
    from safetensors.torch import save_file

    model, other, x = tiny(name), cls_of(name).tiny().eval(), images(name)
    save_file(
        {key: value.contiguous() for key, value in model.state_dict().items()}, tmp_path / "a.safetensors"
    )
    torch.save({"model": model.state_dict()}, tmp_path / "b.pth")
    with torch.no_grad():
        for file in ("a.safetensors", "b.pth"):
            loaded = copy.deepcopy(other)
            assert loaded.load_checkpoint(tmp_path / file).whole
            assert torch.equal(loaded(x), model(x))


@every_backbone
def test_an_image_does_not_see_its_neighbours_in_the_batch(name):
    model, x = tiny(name), images(name)
    with torch.no_grad():
        assert torch.allclose(model(x)[:1], model(x[:1]), atol=1e-4, rtol=1e-3)


@every_backbone
def test_names_that_do_not_fit_are_all_listed(name):
    model = tiny(name)
    state = dict(model.state_dict())
    gone = next(iter(state))
    state["not.ours"] = state.pop(gone)
    with pytest.raises(BadInput) as problem:
        model.load_authors(state)
    assert gone in str(problem.value) and "not.ours" in str(problem.value)


@every_backbone
def test_every_variant_says_its_licence_and_source(name):
    for variant in cls_of(name).variants.values():
        assert variant.licence and variant.source


@pytest.mark.slow
@every_backbone
def test_compiling_meets_no_graph_break(name):
    cls, model = cls_of(name), tiny(name)
    if cls.not_compiled:
        pytest.skip(cls.not_compiled)
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    x = images(name)
    with torch.no_grad():
        assert torch.allclose(compiled(x), model(x), atol=1e-5)


def test_create_makes_a_feature_extractor():
    model = create("smt", num_classes=0, features_only=True, out_indices=(1, 3), depths=(1, 1, 1, 1))
    assert isinstance(model, FeaturesOnly)
    with torch.no_grad():
        maps = model.eval()(torch.zeros(1, 3, 64, 64))
    assert [one.shape[1] for one in maps] == [info["num_chs"] for info in model.feature_info]


def test_weights_are_never_fetched():
    with pytest.raises(BadInput, match="checkpoint=path"):
        create("smt-t", pretrained=True)


def test_an_unknown_name_is_met_with_the_known_ones():
    with pytest.raises(UnknownName, match="smt_t"):
        create("smt_tt")


def test_variants_can_be_filtered():
    assert "smt_t" in list_backbones("smt_*") and not list_backbones("nothing*")
