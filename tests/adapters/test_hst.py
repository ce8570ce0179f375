"""Hierarchical Side-Tuning."""

from pathlib import Path
from typing import Any

import pytest
import torch
from golden_tensors import Case, known, read, same_value
from places import cases, golden_roots
from torch import Tensor, nn

from vlmtools.adapters.hst import Hst
from vlmtools.errors import BadInput, CannotAttach
from vlmtools.layers.side_network import SideBlock


@pytest.mark.golden
@pytest.mark.parametrize("path", cases(golden_roots(), "adapters/hst/m_block*.json"))
def test_a_side_block_gives_the_authors_numbers(path: Path) -> None:
    case = read(path)
    config = case.config
    known(config, "dim mlp_ratio num_heads qkv_bias")
    block = SideBlock(config["dim"], config["num_heads"], config["mlp_ratio"], config["qkv_bias"])
    block.load_state_dict(case.state)
    same_value(block(case["x"], case["meta_kv"], case["x_vit"]), case["y"])


def _vit(**sizes: Any) -> Any:
    from transformers import ViTConfig, ViTForImageClassification

    torch.manual_seed(0)
    return ViTForImageClassification(ViTConfig(layer_norm_eps=1e-6, **sizes)).eval()


def _official_vit(case: Case) -> Any:
    """The authors' backbone, its weights under the names of transformers."""
    config, state = case.config, case.state
    dim = config["embed_dim"]
    model = _vit(
        hidden_size=dim, num_hidden_layers=config["depth"], num_attention_heads=config["num_heads"],
        intermediate_size=state["blocks.0.mlp.fc1.weight"].shape[0], image_size=config["img_size"],
        patch_size=config["patch_size"], num_labels=config["num_classes"],
    )  # fmt: skip
    ours: dict[str, Tensor] = dict(model.vit.state_dict())
    ours["embeddings.cls_token"] = state["cls_token"]
    ours["embeddings.position_embeddings"] = state["pos_embed"]
    for kind in ("weight", "bias"):
        ours[f"embeddings.patch_embeddings.projection.{kind}"] = state[f"patch_embed.proj.{kind}"]
        for block in range(config["depth"]):
            here, there = f"layers.{block}", f"blocks.{block}"
            parts = state[f"{there}.attn.qkv.{kind}"].chunk(3)
            for name, part in zip("qkv", parts, strict=True):
                ours[f"{here}.attention.{name}_proj.{kind}"] = part
            ours[f"{here}.attention.o_proj.{kind}"] = state[f"{there}.attn.proj.{kind}"]
            ours[f"{here}.layernorm_before.{kind}"] = state[f"{there}.norm1.{kind}"]
            ours[f"{here}.layernorm_after.{kind}"] = state[f"{there}.norm2.{kind}"]
            for layer in ("fc1", "fc2"):
                ours[f"{here}.mlp.{layer}.{kind}"] = state[f"{there}.mlp.{layer}.{kind}"]
    model.vit.load_state_dict(ours)
    return model


@pytest.mark.golden
@pytest.mark.parametrize("path", cases(golden_roots(), "adapters/hst/tiny*.json"))
def test_a_side_tuned_vit_of_transformers_gives_the_authors_numbers(path: Path) -> None:
    case = read(path)
    config = case.config
    known(
        config,
        "block_indices depth embed_dim img_size m_c_num_heads m_depths m_embed_dims metaG_num num_classes num_heads "
        "patch_size",
    )
    assert config["block_indices"] == [
        sum(config["m_depths"][: i + 1]) - 1 for i in range(len(config["m_depths"]))
    ]
    model = _official_vit(case)
    hst = Hst(
        tuple(config["m_embed_dims"]), tuple(config["m_c_num_heads"]), tuple(config["m_depths"]),
        config["metaG_num"], config["num_classes"],
    ).attach(model)  # fmt: skip
    hst.load_official(case.state)
    hst.eval()
    same_value(model(pixel_values=case["x"]).logits, case["logits"])
    assert hst.result is not None
    same_value(hst.result.pooled, case["side_feature"])
    n_trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    # the authors make parameters for blocks that no stage reads as well; nothing comes of them
    unread = tuple(
        f"{kind}{n + (kind == 'm_proj_norm')}."
        for n in range(sum(config["m_depths"]), config["depth"])
        for kind in ("blocks.", "m_embeddings.", "m_proj_norm")
    )
    read_by_a_stage = [n for n in case.about["trainable"] if not f"{n}.".startswith(unread)]
    assert n_trained == sum(case.state[name].numel() for name in read_by_a_stage)


@pytest.mark.parametrize(("n_classes", "expected"), [(0, 764_840), (100, 772_140)])
def test_the_trained_parameters_of_vit_b_are_the_papers(n_classes: int, expected: int) -> None:
    with torch.device("meta"):
        model = _vit()
        hst = Hst(n_classes=n_classes)
        sites = hst.find(model)
        hst.build_for({"sites": [[site.name, site.sizes] for site in sites]})
        n_own = sum(p.numel() for p in hst.parameters())
        n_norms = sum(model.get_parameter(name).numel() for name in hst.trained_in_host(model))
    assert n_norms == 36_864
    assert n_own + n_norms == expected


def test_the_maps_halve_from_stage_to_stage() -> None:
    model = _vit(
        hidden_size=16,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=64,
        patch_size=16,
    )
    with Hst((4, 4, 8, 8), (2, 2, 2, 2)).attach(model) as hst:
        model(torch.randn(2, 3, 64, 64))
        assert hst.result is not None
        assert [tuple(one.shape[2:]) for one in hst.result.maps] == [(16, 16), (8, 8), (4, 4), (2, 2)]


def test_stages_that_do_not_agree_are_refused() -> None:
    with pytest.raises(BadInput, match="one number per stage"):
        Hst(channels=(4, 8), heads=(2,))


def test_a_tower_with_fewer_blocks_than_stages_is_refused() -> None:
    model = _vit(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=32,
        patch_size=16,
    )
    with pytest.raises(CannotAttach, match="fewer"):
        Hst().attach(model)


def test_a_model_without_a_tower_is_refused() -> None:
    with pytest.raises(CannotAttach):
        Hst().attach(nn.Linear(3, 3))
