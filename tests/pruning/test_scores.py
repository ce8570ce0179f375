"""Scores from queries and keys: equal to those of whole attention maps, under any kernel, in little memory."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from matrix import build, inputs
from places import find_all, golden_roots
from pruning_cases import PRUNABLE, First, prompts
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from vlmtools.errors import CannotAttach
from vlmtools.families._call import NEVER, Call
from vlmtools.families._kernel import tap
from vlmtools.families._probe import anatomy
from vlmtools.families.base import noise
from vlmtools.pruning._encode import _items, encoder_inputs, encoder_of
from vlmtools.pruning._layout import Encoded, cell_means
from vlmtools.pruning._layouts import layout_of
from vlmtools.pruning._scores import Heard, column_means, first_row
from vlmtools.pruning._tower import look_at_tower
from vlmtools.pruning.base import Needs, Seen

CLASSED = ("llava", "llava_next", "internvl")


def random_qk(n: int = 40, n_heads: int = 4, batch: int = 2) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    query, key = torch.randn(2, batch, n_heads, n, 8, generator=generator) * 1.5
    return query, key


def whole_map(query: Tensor, key: Tensor, mask: Tensor | float = 0.0) -> Tensor:
    return (query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5 + mask).softmax(-1)


@pytest.mark.parametrize("block", [1, 500, 2**22])
def test_column_means_are_those_of_the_whole_map_whatever_the_block(block: int) -> None:
    query, key = random_qk()
    expected = whole_map(query, key).mean((1, 2))
    assert torch.allclose(column_means(query, key, block=block), expected, atol=1e-7)
    assert torch.allclose(expected.sum(-1), torch.ones(2))


def test_the_first_row_is_that_of_the_whole_map() -> None:
    query, key = random_qk()
    assert torch.allclose(first_row(query, key), whole_map(query, key)[:, :, 0].mean(1), atol=1e-7)


def test_keys_shared_by_several_heads_count_for_each() -> None:
    query, key = random_qk()
    shared = key[:, :2]
    expected = column_means(query, shared.repeat_interleave(2, 1))
    assert torch.allclose(column_means(query, shared), expected, atol=1e-7)


def test_pictures_in_one_row_do_not_see_each_other() -> None:
    query, key = random_qk(batch=1)
    border = torch.tensor([0] * 15 + [1] * 25)
    mask = torch.where(border[:, None] == border, 0.0, NEVER)[None, None]
    found = column_means(query, key, added=lambda start, stop: mask[:, :, start:stop], block=1000)
    apart = [column_means(query[:, :, one], key[:, :, one]) for one in (border == 0, border == 1)]
    assert torch.allclose(found, torch.cat(apart, 1), atol=1e-7)


def test_padding_neither_asks_nor_is_seen() -> None:
    query, key = random_qk(batch=1)
    mask = torch.zeros(1, 1, 1, 40)
    mask[..., 30:] = NEVER
    found = column_means(
        query, key, added=lambda start, stop: mask.expand(-1, -1, stop - start, -1), block=1000
    )
    assert torch.allclose(found[:, :30], column_means(query[:, :, :30], key[:, :, :30]), atol=1e-7)
    assert not found[:, 30:].any()


def test_a_flash_call_over_several_pictures_is_cut_at_their_borders() -> None:
    query, key = random_qk(batch=1)
    borders = torch.tensor([0, 15, 40])
    module = torch.nn.Identity()
    module.is_causal = False  # type: ignore[assignment]
    options = {"cu_seq_lens_q": borders, "scaling": 8**-0.5}
    heard = Heard(received=[])
    heard.see(Call(module, query, key, key, None, options, "flash_attention_2"))
    assert heard.received is not None
    apart = [column_means(query[:, :, a:b], key[:, :, a:b])[0] for a, b in ((0, 15), (15, 40))]
    assert torch.allclose(torch.cat(heard.received)[:, 0], torch.cat(apart), atol=1e-7)


class Largest(TorchDispatchMode):
    """The largest tensor that is made."""

    def __init__(self) -> None:
        super().__init__()
        self.n_bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if isinstance(out, Tensor):
            self.n_bytes = max(self.n_bytes, out.numel() * out.element_size())
        return out


def test_no_tensor_comes_near_the_size_of_the_whole_map() -> None:
    query, key = torch.randn(2, 1, 4, 2048, 4)
    with Largest() as seen:
        column_means(query, key, block=2**17)
    assert seen.n_bytes <= 4 * 2048 * 2048 * 4 // 8


def maps_of(model: Any, batch: dict[str, Tensor], layer: int) -> list[Tensor]:
    """Whole attention maps of one tower layer, from the eager kernel."""
    found: list[Tensor] = []
    module: Any = anatomy(model).vision[layer].module
    handle = module.register_forward_hook(lambda _m, _a, out: found.append(out[1]))
    tower = model.get_encoder(modality="image")
    tower.set_attn_implementation("eager")
    try:
        with torch.no_grad():
            model(**batch)
    finally:
        handle.remove()
        tower.set_attn_implementation("sdpa")
    return found


def tapped(model: Any, batch: dict[str, Tensor], layer: int) -> list[Tensor]:
    """Whole maps made from queries and keys, for towers that keep theirs to themselves."""
    found: list[Tensor] = []
    handle = tap(
        model.get_encoder(modality="image"),
        anatomy(model).vision[layer].module,
        lambda call: found.append(whole_map(call.query, call.key)),
    )
    with torch.no_grad():
        model(**batch)
    handle.remove()
    return found


def seen_by(model: Any, batch: dict[str, Tensor], needs: Needs) -> list[Seen]:
    pruner = First(keep=1, wants=needs)
    with pruner.attach(model), torch.no_grad():
        model(**batch)
    return pruner.log


@pytest.mark.parametrize("kind", CLASSED)
def test_scores_under_sdpa_are_those_of_eager_maps(kind: str) -> None:
    model, batch = build(kind), prompts(kind)
    maps = torch.cat(maps_of(model, batch, 0))
    seen = seen_by(model, batch, Needs(received=(0,), class_attention=(0,)))
    if kind == "internvl":
        assert torch.allclose(
            torch.stack([one.received[0].mean() for one in seen]), maps.mean((1, 2))[:, 1:].mean(1), atol=1e-6
        )
        return
    views = seen if kind == "llava" else seen[::2]
    pick = maps if kind == "llava" else maps[::2]
    for one, expected in zip(views, pick, strict=True):
        assert torch.allclose(one.received[0], expected.mean((0, 1))[1:], atol=1e-6)
        assert torch.allclose(one.class_attention[0], expected.mean(0)[0, 1:], atol=1e-6)
        assert one.n_queries == expected.shape[-1]


@pytest.mark.parametrize("kind", PRUNABLE)
def test_what_is_seen_has_one_row_per_token_and_scores_add_up(kind: str) -> None:
    model, batch = build(kind), prompts(kind)
    layer = 1  # the one that sees whole pictures in Qwen2.5-VL
    seen = seen_by(model, batch, Needs(received=(layer,), keys=(-1,), patches=True, text=True))
    assert len(seen) >= 3
    for one in seen:
        n = one.grid[0] * one.grid[1]
        assert one.features.shape[0] == n == one.n_tokens
        assert one.received[layer].shape == (n,) and bool((one.received[layer] > 0).all())
        assert one.keys[-1].shape[0] == n and one.keys[-1].ndim == 3
        assert one.patches is not None and one.patches.shape[0] == n and bool(one.patches.isfinite().all())
        assert one.text is not None and one.text.shape[1] == one.features.shape[1]
    assert [one.row for one in seen] == sorted(one.row for one in seen)


def first_feature_patch(kind: str, model: Any, batch: dict[str, Tensor], patch: int) -> Tensor:
    """How much each token's feature moves when one patch in front of the connector does."""
    parts = anatomy(model)
    tower = look_at_tower(parts)
    layer = parts.vision[tower.feature_layer % tower.n_layers]
    block = model.get_submodule(layer.name.rpartition(".")[0])
    offset = int(tower.class_token)

    def push(_module: Any, _inputs: Any, output: Any) -> Any:
        states = (output[0] if isinstance(output, tuple) else output).clone()
        (states[0] if states.ndim == 3 else states)[patch + offset, ::2] += (
            3.0  # a norm would undo the same on all
        )
        return (states, *output[1:]) if isinstance(output, tuple) else states

    def encode() -> Tensor:
        pooled = encoder_of(model, "image")(**encoder_inputs(model, "image", batch)).pooler_output
        return torch.cat([one.reshape(-1, one.shape[-1]) for one in pooled])

    with torch.no_grad():
        before = encode()
        handle = block.register_forward_hook(push, prepend=True)
        after = encode()
        handle.remove()
    return (after - before).abs().sum(-1)


@pytest.mark.parametrize("kind", PRUNABLE)
def test_a_patch_is_packed_into_the_token_that_the_connector_makes_of_it(kind: str) -> None:
    model, batch = build(kind), inputs(kind)
    layout = layout_of(anatomy(model))
    with layout.watching(), torch.no_grad():
        out = encoder_of(model, "image")(**encoder_inputs(model, "image", batch))
    encoded = Encoded("image", batch, _items(out.pooler_output))
    n_patches = (
        18 if kind in ("llava_next", "llava_onevision") else 9 if kind in ("llava", "paligemma") else 16
    )
    packed = layout.pack(torch.eye(n_patches), encoded)
    assert packed.shape == (encoded.n_tokens, n_patches)
    for patch in (0, 2, 5, 8):
        moved = first_feature_patch(kind, model, batch, patch)
        token = int(packed[:, patch].nan_to_num().argmax())
        assert float(moved[token]) > 0
        assert int(moved.argmax()) == token, f"patch {patch}"


def test_windows_of_the_tower_are_put_back_in_order() -> None:
    """The tower sorts the tokens of a picture larger than a window by window; scores come back in raster order."""
    model = build("qwen2_5_vl")
    grid = torch.tensor([[1, 12, 8]])
    batch = {
        "input_ids": torch.tensor([[1, 125, *[127] * 24, 124, 5]]),
        "pixel_values": noise((96, 96), 1),
        "image_grid_thw": grid,
    }
    batch["mm_token_type_ids"] = (batch["input_ids"] == 127).long()
    batch["attention_mask"] = torch.ones_like(batch["input_ids"])
    from transformers.vision_utils import get_vision_window_index

    order = get_vision_window_index(grid, spatial_merge_size=2, window_size=16, patch_size=4)[0]
    assert order.tolist() != sorted(order.tolist())
    (full,) = tapped(model, batch, 1)
    (seen,) = seen_by(model, batch, Needs(received=(1,)))
    expected = torch.empty(24)
    expected[order] = full.mean((0, 1, 2)).reshape(24, 4).mean(1)
    assert torch.allclose(seen.received[1], expected, atol=1e-6)
    assert (seen.grid, seen.n_queries) == ((6, 4), 96)


def test_a_layer_that_looks_through_windows_is_refused() -> None:
    with pytest.raises(CannotAttach, match=r"looks through windows.*\[1\]"):
        First(keep=1, wants=Needs(received=(0,))).attach(build("qwen2_5_vl"))


def test_a_layer_that_does_not_exist_and_a_missing_class_token_are_refused() -> None:
    with pytest.raises(CannotAttach, match="no layer 7"):
        First(keep=1, wants=Needs(received=(7,))).attach(build("llava"))
    with pytest.raises(CannotAttach, match="no class token"):
        First(keep=1, wants=Needs(class_attention=(0,))).attach(build("gemma3"))


def tensors(pattern: str, start: str) -> Iterator[Any]:
    from safetensors.torch import load_file

    for path in find_all(golden_roots(), pattern):
        held = load_file(path)
        names = sorted(
            {name.rpartition(".")[0] for name in held if name.endswith(".q") and name.startswith(start)}
        )
        for name in names:
            yield pytest.param(path, name, id=name)


GOLDEN_LLAVA = list(tensors("hiprune/llava_inputs*.safetensors", ""))
GOLDEN_QWEN = list(tensors("hiprune/qwen_inputs*.safetensors", ""))
NONE = [pytest.param(None, "", marks=pytest.mark.skip(reason="no golden pruning data found"))]


def loaded(path: Path, name: str) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    return {
        key.rpartition(".")[2]: one for key, one in load_file(path).items() if key.rpartition(".")[0] == name
    }


@pytest.mark.golden
@pytest.mark.parametrize(("path", "name"), GOLDEN_LLAVA or NONE)
def test_received_attention_is_that_of_the_released_program(path: Path, name: str) -> None:
    held = loaded(path, name)
    found = column_means(held["q"], held["k"])[:, 1:]
    assert torch.allclose(found.flatten(), held["received"].flatten(), atol=1e-6, rtol=0)


@pytest.mark.golden
@pytest.mark.parametrize(("path", "name"), GOLDEN_QWEN or NONE)
def test_merged_scores_are_those_of_the_released_program(path: Path, name: str) -> None:
    held = loaded(path, name)
    n = held["q"].shape[-2]
    sums = column_means(held["q"][None], held["k"][None])[0] * n
    order = held["window_index"]
    found = cell_means(sums[:, None], n // len(order), order)[:, 0]
    assert torch.allclose(found, held["score"].flatten(), atol=1e-5, rtol=0)
