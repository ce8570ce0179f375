import pytest
import torch
from golden_case import assert_close, found, read

from vlmtools.backbones.biformer import BiFormer
from vlmtools.layers.bilevel_routing import BiLevelRoutingAttention

VARIANTS = {
    "plain": {},
    "auto_pad": {},
    "nchw": {},
    "soft": {"soft_routing": True},
    "param": {"param_routing": True, "diff_routing": True, "soft_routing": True},
    "qk16": {"qk_dim": 16},
    "adaavg": {"kv_mode": "ada_avgpool"},
}


@pytest.mark.golden
@found("biformer", "biformer*")
def test_biformer_gives_the_authors_stages_and_logits(path):
    case = read(path)
    model = BiFormer(**case.args)
    assert model.load_authors(case.state).whole
    model.eval()
    for index, stage in enumerate(model.forward_stages(case.inputs["x"]), start=1):
        assert_close(stage, case.outputs[f"stage{index}"], f"stage{index}")
    assert_close(model(case.inputs["x"]), case.outputs["logits"], "logits")


def _layer(case, name):
    state = {k.removeprefix(name + "."): v for k, v in case.state.items() if k.startswith(name + ".")}
    plain = {
        key.replace("qkv.qkv.", "qkv.").replace("router.emb.", "router.")
        .replace("qkv_linear", "qkv").replace("output_linear", "wo"): value
        for key, value in state.items()
    }  # fmt: skip
    linear = ("qkv.weight", "wo.weight")
    plain = {key: value.flatten(1) if key in linear else value for key, value in plain.items()}
    more = dict(VARIANTS[name])
    if name == "adaavg":
        more["kv_per_win"] = 1
    sizes = (case.stated(word) for word in ("dim", "heads", "n_win", "topk"))
    layer = BiLevelRoutingAttention(*sizes, side_kernel=case.stated("side_dwconv"), **more)
    layer.load_state_dict(plain)
    return layer


@pytest.mark.golden
@found("biformer", "bra*")
def test_bi_level_routing_gives_the_authors_maps_in_every_variant(path):
    case = read(path)
    for name, expected in case.outputs.items():
        layer = _layer(case, name)
        if name == "nchw":
            out = layer(case.inputs["x_nchw"].permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        else:
            out = layer(case.inputs["x_pad" if name == "auto_pad" else "x_nhwc"])
        assert_close(out, expected, name)


def test_all_regions_chosen_is_full_attention():
    torch.manual_seed(0)
    layer = BiLevelRoutingAttention(16, 2, n_regions=2, topk=4, side_kernel=0)
    x = torch.randn(1, 4, 6, 16)
    q, k, v = layer.qkv(x).reshape(1, 24, 3, 2, 8).permute(2, 0, 3, 1, 4)
    seen = torch.nn.functional.scaled_dot_product_attention(q, k, v, scale=16**-0.5)
    expected = layer.wo(seen.transpose(1, 2).reshape(x.shape))
    torch.testing.assert_close(layer(x), expected)
