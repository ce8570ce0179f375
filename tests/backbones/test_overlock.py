import copy

import pytest
import torch
from golden_case import assert_close, found, read
from torch.utils.flop_counter import FlopCounterMode

from vlmtools.backbones._checkpoint import load_into
from vlmtools.backbones._overlock import SEEN_AS_LAYER, ContMixBlock
from vlmtools.backbones.overlock import OverLoCK
from vlmtools.layers.dilated_reparam import DilatedReparamConv


@pytest.mark.golden
@found("overlock", "overlock*")
def test_overlock_gives_the_authors_features_and_logits(path):
    case = read(path)
    model = OverLoCK(**case.args)
    assert model.load_authors(case.state).whole
    model.eval()
    with torch.no_grad():
        for name, x in case.inputs.items():
            maps, overview = model.forward_overview(x)
            features = model.forward_focus(maps[2], overview)[-1]
            ours = {"base_ctx": overview, "features": features, "logits": model.forward_head(features)}
            merged = f"{name}_logits_reparam"
            if merged in case.outputs:
                ours["logits_reparam"] = copy.deepcopy(model).merge()(x)
            for what, actual in ours.items():
                assert_close(actual, case.outputs[f"{name}_{what}"], f"{name}_{what}")


@pytest.mark.golden
@found("overlock", "contmix*")
def test_the_contmix_block_gives_the_authors_maps_also_when_smaller_than_its_kernel(path):
    case = read(path)
    block = ContMixBlock(**case.args)
    assert load_into(block, case.state, SEEN_AS_LAYER).whole
    block.eval()
    for name, expected in case.outputs.items():
        assert_close(block(case.inputs[name.replace("y", "x")]), expected, name)


@pytest.mark.parametrize("kernel", [5, 7, 9, 11, 13, 15, 17, 19])
def test_merging_the_helpers_changes_nothing(kernel):
    torch.manual_seed(0)
    conv = DilatedReparamConv(4, kernel)
    for module in conv.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2.0)
            torch.nn.init.normal_(module.weight)
            torch.nn.init.normal_(module.bias)
    x, conv = torch.randn(1, 4, 21, 20), conv.eval()
    before = conv(x)
    conv.merge()
    torch.testing.assert_close(conv(x), before, atol=1e-4, rtol=1e-4)
    assert len(list(conv.parameters())) == 2


def test_merged_weights_load_into_a_model_made_for_them():
    model = OverLoCK.tiny().eval().merge()
    other = OverLoCK.tiny(deploy=True).eval()
    other.load_state_dict(model.state_dict())
    x = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(other(x), model(x))


@pytest.mark.parametrize("name", sorted(OverLoCK.variants))
def test_the_merged_model_costs_what_is_stated(name):
    with torch.device("meta"):
        model = (
            OverLoCK(**{**OverLoCK.variants[name].args, "use_ds": False, "deploy": True}).eval().to("meta")
        )
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            model(torch.empty(1, 3, 224, 224))
    stated = OverLoCK.stated_gmac[name]
    # stated with one digit after the point
    assert abs(counter.get_total_flops() / 2e9 - stated) < 0.03 * stated + 0.05
