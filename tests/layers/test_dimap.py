import json

import pytest
import torch
from places import cases, golden_roots
from safetensors.torch import load_file
from transformers import SwinConfig, SwinForImageClassification

from vlmtools.errors import BadInput
from vlmtools.layers.dimap import apply_masks, importance, keep_masks, kind_of, prune


def read(path):
    tensors = load_file(path)
    meta = json.loads((path.parent / path.name.replace("weights.safetensors", "cases.json")).read_text())
    return tensors, meta


every_case = pytest.mark.parametrize("path", cases(golden_roots(), "dimap/*weights.safetensors"))


@pytest.mark.golden
@every_case
def test_importance_is_that_of_the_papers_formula(path):
    tensors, _ = read(path)
    for name in (name for name in tensors if name.startswith("imp.")):
        found = importance(tensors["w." + name.removeprefix("imp.")])
        torch.testing.assert_close(found, tensors[name], rtol=1e-12, atol=0)


@pytest.mark.golden
@every_case
def test_each_module_is_ranked_over_all_depths(path):
    tensors, meta = read(path)
    weights = {name[2:]: one for name, one in tensors.items() if name.startswith("w.")}
    kinds = {name: kind for name, kind in meta["modules"].items() if kind != "aux"}
    for case in meta["cases"]:
        masks = keep_masks(weights, kinds, case["sparsity"])
        assert {name: int(mask.sum()) for name, mask in masks.items()} == case["kept"]
        for name, mask in masks.items():
            published = tensors.get(f"mask{case['sparsity']}.{name}")
            assert published is None or torch.equal(mask, published.bool()), name


@pytest.mark.golden
@every_case
def test_the_golden_layers_are_known_by_name(path):
    _, meta = read(path)
    assert {name: kind_of(name) or "aux" for name in meta["modules"]} == meta["modules"]


def test_importance_of_three_weights_worked_by_hand():
    torch.testing.assert_close(
        importance(torch.tensor([1.0, -3.0, 2.0])), torch.tensor([1 / 14, 1.0, 4 / 13]).double()
    )


def test_a_layer_of_zeros_has_no_importance():
    assert importance(torch.zeros(3)).tolist() == [0, 0, 0]


def test_scaling_a_layer_changes_nothing():
    torch.manual_seed(0)
    weights = {"a.attn.proj": torch.randn(4, 4), "b.attn.proj": torch.randn(4, 4)}
    kinds = dict.fromkeys(weights, "proj")
    before = keep_masks(weights, kinds, 0.5)
    weights["b.attn.proj"] *= 1024
    after = keep_masks(weights, kinds, 0.5)
    assert all(torch.equal(before[name], after[name]) for name in weights)


def swin():
    torch.manual_seed(0)
    config = SwinConfig(
        image_size=32, patch_size=4, embed_dim=8, depths=[1, 1], num_heads=[1, 2], window_size=4, num_labels=3
    )
    return SwinForImageClassification(config).eval()


def test_a_swin_loses_the_asked_share_of_each_kind_and_nothing_else():
    model, whole = swin(), swin()
    masks = prune(model, 0.75)
    for kind in ("qkv", "proj", "mlp"):
        chosen = [mask for name, mask in masks.items() if kind_of(name) == kind]
        assert len(chosen) == {"qkv": 6, "proj": 2, "mlp": 4}[kind]
        assert sum(int(mask.sum()) for mask in chosen) == sum(mask.numel() for mask in chosen) // 4
    for name, weight in model.state_dict().items():
        mask = masks.get(name.removesuffix(".weight"))
        old = whole.state_dict()[name]
        assert torch.equal(weight, old if mask is None or name.endswith("bias") else old * mask)
    with torch.no_grad():
        assert torch.isfinite(model(torch.randn(1, 3, 32, 32)).logits).all()


def test_queries_keys_and_values_are_scored_as_one_layer():
    model, whole = swin(), swin()
    masks = prune(model, 0.5)
    layers = {}
    for index in (0, 1):
        attention = whole.swin.encoder.layers[index].blocks[0].attention
        parts = [attention.q_proj, attention.k_proj, attention.v_proj]
        layers[f"{index}"] = torch.cat([part.weight.detach() for part in parts])
    expected = keep_masks(layers, {"0": "qkv", "1": "qkv"}, 0.5)
    for index in (0, 1):
        prefix = f"swin.encoder.layers.{index}.blocks.0.attention."
        found = torch.cat([masks[prefix + part] for part in ("q_proj", "k_proj", "v_proj")])
        assert torch.equal(found, expected[str(index)])


def test_what_was_pruned_stays_so_when_masks_are_applied_after_a_step():
    model = swin()
    masks = prune(model, 0.5)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(1.0)
    apply_masks(model, masks)
    for name, mask in masks.items():
        assert model.get_submodule(name).weight[~mask].abs().sum() == 0


def test_pruning_nothing_changes_nothing():
    model = swin()
    prune(model, 0.0)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), swin().parameters(), strict=True))


@pytest.mark.parametrize("sparsity", [-0.1, 1.0, float("nan")])
def test_a_share_outside_its_range_is_refused(sparsity):
    with pytest.raises(BadInput, match="share of weights"):
        prune(swin(), sparsity)


def test_a_model_without_such_layers_is_refused():
    with pytest.raises(BadInput, match="named like those of Swin"):
        prune(torch.nn.Sequential(torch.nn.Linear(2, 2)), 0.5)


def hierarchy():
    """Two stages of one attention projection each, the second a thousand times smaller."""
    stages = [
        torch.nn.ModuleDict({"attn": torch.nn.ModuleDict({"proj": torch.nn.Linear(2, 2, bias=False)})})
        for _ in range(2)
    ]
    with torch.no_grad():
        stages[0]["attn"]["proj"].weight.copy_(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
        stages[1]["attn"]["proj"].weight.copy_(torch.tensor([[0.001, 0.005], [0.001, 0.006]]))
    return torch.nn.Sequential(*stages)


def test_a_hierarchy_of_two_stages_pruned_by_hand():
    # scores, largest weight first: 1, 9/25, 4/29, 1/30 and 1, 25/61, 1/62, 1/63; the four largest of the eight stay
    model = hierarchy()
    masks = prune(model, 0.5)
    assert masks["0.attn.proj"].tolist() == [[False, False], [True, True]]
    assert masks["1.attn.proj"].tolist() == [[False, True], [False, True]]
    # with a quarter gone it is the small stage that loses both, however small the other's smallest weight is
    masks = prune(hierarchy(), 0.25)
    assert masks["0.attn.proj"].all() and masks["1.attn.proj"].tolist() == [[False, True], [False, True]]


def test_kinds_of_ones_own_prune_any_model():
    model = torch.nn.Sequential(
        torch.nn.Linear(4, 4), torch.nn.ReLU(), torch.nn.Linear(4, 4), torch.nn.Linear(4, 3)
    )
    masks = prune(model, 0.5, kinds=lambda name: "all" if name in ("0", "2") else None)
    assert sorted(masks) == ["0", "2"] and sum(int(mask.sum()) for mask in masks.values()) == 16
    assert (model[3].weight != 0).all()


@pytest.mark.parametrize("name", ["nat", "crossformer", "smt", "biformer", "litv2", "transnext"])
def test_hierarchical_backbones_of_the_package_lose_the_asked_share_of_each_kind(name):
    from vlmtools.backbones import find

    torch.manual_seed(0)
    cls = find(name)[0]
    model, x = cls.tiny().eval(), torch.randn(1, 3, cls.tiny_sizes[0], cls.tiny_sizes[0])
    masks = prune(model, 0.5)
    for kind in ("qkv", "proj", "mlp"):
        chosen = [mask for layer, mask in masks.items() if kind_of(layer) == kind]
        n_all = sum(mask.numel() for mask in chosen)
        assert chosen and sum(int(mask.sum()) for mask in chosen) == n_all - n_all // 2
    assert not any("head" in layer or "pos" in layer for layer in masks)
    with torch.no_grad():
        assert torch.isfinite(model(x)).all()
