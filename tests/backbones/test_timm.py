from importlib.util import find_spec

import pytest
import torch

from vlmtools import registry
from vlmtools.backbones import create, find
from vlmtools.backbones.base import Backbone
from vlmtools.errors import BadInput, NotInstalled

WRAPPED = [
    name
    for name in registry.names("vlmtools.backbones")
    if registry.load("vlmtools.backbones", name, Backbone).needs == "timm"
]
needs_timm = pytest.mark.skipif(find_spec("timm") is None, reason="timm is not installed")
"""A fresh environment with timm and without torchvision's compiled part is described in docs/backbones.md."""


@pytest.mark.skipif(find_spec("timm") is not None, reason="timm is installed")
@pytest.mark.parametrize("name", WRAPPED)
def test_without_timm_the_error_says_what_to_install(name):
    with pytest.raises(NotInstalled, match=r"vlmtools\[backbones\]"):
        create(name)


@pytest.mark.parametrize("name", WRAPPED)
def test_the_variants_are_listed_without_timm(name):
    cls, args = find(name)
    assert args["model"] == next(iter(cls.variants))


@needs_timm
@pytest.mark.parametrize("name", WRAPPED)
def test_a_wrapped_model_gives_what_timms_own_gives(name):
    model = find(name)[0].tiny().eval()
    torch.manual_seed(0)
    x = torch.randn(2, 3, model.tiny_sizes[0], model.tiny_sizes[0])
    with torch.no_grad():
        assert torch.equal(model(x), model.net(x))


@needs_timm
def test_weights_under_timms_names_are_loaded():
    model, other = (find("convnext")[0].tiny() for _ in range(2))
    assert model.load_authors(other.net.state_dict()).whole
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))


@needs_timm
def test_a_size_is_refused_where_any_fits():
    with pytest.raises(BadInput, match="any size"):
        find("convnext")[0].tiny(img_size=64)
