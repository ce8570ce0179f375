"""What a model takes in memory, from headers and configuration alone."""

import json
from pathlib import Path
from typing import Any

import pytest

from vlmtools.bundled import located
from vlmtools.families._footprint import (
    TOKENS,
    Tensor,
    call_bytes,
    footprint,
    imagined,
    loaded_itemsize,
    tensors,
    weight_bytes,
)
from vlmtools.families._loading import load_config, load_model

HUB = {"revision": None, "local_files_only": True, "trust_remote_code": False}
NAMES = ("clean", "smol", "prior")


def config(name: str) -> Any:
    return load_config(located(f"reference:{name}"), HUB)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", ["auto", "bfloat16"])
def test_the_weights_are_as_large_as_those_of_the_loaded_model(name: str, dtype: str) -> None:
    place = located(f"reference:{name}")
    model = load_model(place, config(name), dtype, "cpu", None, HUB)
    loaded = sum(one.numel() * one.element_size() for one in model.parameters())
    found = footprint(place, None, dtype, None, 1)
    assert found is not None
    assert found[0] == loaded


@pytest.mark.parametrize("name", NAMES)
def test_a_model_that_is_only_imagined_has_the_same_size(name: str, tmp_path: Path) -> None:
    place, made = Path(located(f"reference:{name}")), config(name)
    itemsize = loaded_itemsize(made, "auto", [])
    assert weight_bytes(imagined(made), itemsize, None) == weight_bytes(tensors(place), itemsize, None)
    (tmp_path / "config.json").write_bytes((place / "config.json").read_bytes())
    assert tensors(tmp_path) == []
    assert footprint(str(tmp_path), None, "auto", None, 4) == footprint(str(place), None, "auto", None, 4)


def header(path: Path, **named: tuple[str, list[int]]) -> None:
    about = {
        name: {"dtype": kind, "shape": shape, "data_offsets": [0, 0]} for name, (kind, shape) in named.items()
    }
    text = json.dumps({"__metadata__": {"format": "pt"}, **about}).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text)


def test_shards_are_those_of_the_index_and_one_that_is_missing_leaves_the_rest_unread(tmp_path: Path) -> None:
    header(tmp_path / "a.safetensors", x=("BF16", [2, 3]))
    header(tmp_path / "b.safetensors", y=("I32", [4]))
    header(tmp_path / "consolidated.safetensors", x=("BF16", [2, 3]))
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"x": "a.safetensors", "y": "b.safetensors"}}))
    assert tensors(tmp_path) == [Tensor("x", "BF16", (2, 3)), Tensor("y", "I32", (4,))]
    (tmp_path / "b.safetensors").unlink()
    assert tensors(tmp_path) == []


def test_quantisation_shrinks_matrices_but_not_embeddings_and_what_is_packed_stays() -> None:
    stored = [
        Tensor("model.embed_tokens.weight", "BF16", (100, 64)),
        Tensor("layers.0.q_proj.weight", "BF16", (64, 64)),
        Tensor("layers.0.norm.weight", "BF16", (64,)),
        Tensor("layers.1.qweight", "I32", (8, 64)),
        Tensor("layers.1.mask", "BOOL", (10,)),
    ]
    packed, kept = 4 * 8 * 64 + 10, (6400 + 64) * 2
    assert weight_bytes(stored, 2, None) == kept + packed + 4096 * 2
    assert weight_bytes(stored, 2, "8bit") == kept + packed + 4096
    assert weight_bytes(stored, 2, "4bit") == kept + packed + 4096 * 9 // 16


def test_the_dtype_is_the_one_asked_for_else_the_configurations_else_the_files() -> None:
    stored = [Tensor("a", "I64", (1,)), Tensor("b", "F16", (1,))]
    clean = config("clean")
    assert loaded_itemsize(clean, "bfloat16", stored) == 2
    assert loaded_itemsize(clean, "auto", stored) == 4
    clean.dtype = None
    assert loaded_itemsize(clean, "auto", stored) == 2
    assert loaded_itemsize(clean, "auto", []) == 4


def test_a_call_takes_keys_values_a_layer_and_logits_for_a_bounded_context() -> None:
    made = config("clean")
    one = (2 * 6 * 6 * 32 + 4 * 192 + 3 * 512) * 1024 * 4 + 2 * 4 * 586
    assert call_bytes(made, 4) == one
    made.text_config.max_position_embeddings = 131_072
    assert call_bytes(made, 4) == (one - 8 * 586) * (TOKENS // 1024) + 8 * 586


@pytest.mark.parametrize("model", ["nobody/has-this-model", "not a hub name", "{empty}"])
def test_what_is_not_on_this_machine_has_no_estimate(model: str, tmp_path: Path) -> None:
    assert footprint(model.format(empty=tmp_path), None, "auto", None, 1) is None
