"""VHR against the paper's equations written out by hand, and against numbers worked out by hand."""

from typing import Any

import matrix
import pytest
import torch
from plain import Pass, attend, embedded, finish, llava, predict, prompt, run
from torch import Tensor

from vlmtools.errors import BadInput, CannotAttach
from vlmtools.families._cache import cache_argument
from vlmtools.families._counterfactual import masked_image, positions, without_image
from vlmtools.families._probe import anatomy
from vlmtools.families._prompt import read_prompt
from vlmtools.families._vhd import above_median, drop_outliers, head_divergence, token_divergence
from vlmtools.patches.vhr import VHR

LAYERS = [1, 4, 5, 6, 7]
SETTINGS: list[dict[str, Any]] = [
    {},
    {"distance": "sq"},
    {"outlier_filter": False},
    {"sample_std": False},
    {"reinforce_counterfactual": True},
    {"strength": 0.5},
]


@torch.no_grad()
def by_hand(model: Any, inputs: dict[str, Tensor], settings: VHR) -> tuple[dict[int, Tensor], Tensor]:
    """Both streams layer by layer; the heads of each layer and the logits of the last row."""
    ids = inputs["input_ids"]
    full = Pass(embedded(model, ids, inputs["pixel_values"]))
    text = Pass(embedded(model, ids[ids != model.config.image_token_id][None], None))
    chosen = {}
    for layer in range(model.config.text_config.num_hidden_layers):
        a, b = attend(model, full, layer), attend(model, text, layer)
        gain = torch.ones(a.shape[1])
        if layer in LAYERS:
            difference = (a[-1] - b[-1]).pow(2).sum(-1)
            vhd = difference if settings.distance == "sq" else difference.sqrt()
            activity = b[-1].pow(2).sum(-1)
            if settings.outlier_filter:
                n = settings.sample_std
                high = (vhd > vhd.mean() + vhd.std(correction=n)) & (
                    activity > activity.mean() + activity.std(correction=n)
                )
                vhd = torch.where(high, 0.0, vhd)
            chosen[layer] = vhd > torch.tensor(sorted(vhd.tolist()))[len(vhd) // 2 - 1]
            gain[chosen[layer]] = settings.strength
        finish(model, full, layer, a * gain[:, None])
        finish(model, text, layer, b * (gain[:, None] if settings.reinforce_counterfactual else 1))
    return chosen, predict(model, full)[-1]


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(
    "given", SETTINGS, ids=[",".join(map(str, one.values())) or "paper" for one in SETTINGS]
)
def test_heads_and_logits_are_those_of_the_paper_written_out(given: dict[str, Any], seed: int) -> None:
    model = llava(seed=seed)
    inputs, settings = prompt(model, seed=seed), VHR(last_layers=4, **given)
    heads, expected = by_hand(model, inputs, settings)
    with settings.attach(model) as on, torch.no_grad():
        logits = model(**inputs).logits[0, -1]
    assert {layer: one[0].tolist() for layer, one in on.status().heads.items()} == {
        layer: one.tolist() for layer, one in heads.items()
    }
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)


def test_the_answer_is_that_of_the_chosen_heads_in_a_pass_without_cache() -> None:
    model = llava()
    inputs, settings = prompt(model), VHR(last_layers=4)
    heads, _ = by_hand(model, inputs, settings)
    gains = {layer: torch.where(one, 2.0, 1.0)[:, None] for layer, one in heads.items()}
    ids = inputs["input_ids"]
    for _ in range(8):
        logits = run(model, ids, inputs["pixel_values"], heads=lambda layer, out: out * gains.get(layer, 1.0))
        ids = torch.cat([ids, logits[-1:].argmax(-1)[None]], 1)
    with settings.attach(model):
        assert model.generate(**inputs, max_new_tokens=8, do_sample=False).tolist() == ids.tolist()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_doubling_heads_equals_doubling_the_columns_of_the_projection(dtype: torch.dtype) -> None:
    model = llava().to(dtype)
    inputs = {k: v.to(dtype) if v.is_floating_point() else v for k, v in prompt(model).items()}
    fixed = VHR(heads={1: (0, 3), 6: (7,)})
    before = model(**inputs).logits
    with fixed.attach(model):
        hooked = model(**inputs).logits
        tokens = model.generate(**inputs, max_new_tokens=12, do_sample=False)
    folded = fixed.fold(model)
    assert torch.equal(model(**inputs).logits, hooked)
    assert torch.equal(model.generate(**inputs, max_new_tokens=12, do_sample=False), tokens)
    folded.remove()
    assert torch.equal(model(**inputs).logits, before)
    assert not torch.equal(hooked, before)


def test_folding_needs_one_head_set_and_weights_in_memory() -> None:
    with pytest.raises(BadInput, match="heads="):
        VHR().fold(llava(2))
    model = llava(2)
    model.model.language_model.layers[1].self_attn.o_proj.weight = torch.nn.Parameter(
        torch.empty(64, 64, device="meta")
    )
    with pytest.raises(CannotAttach, match="offloaded"):
        VHR(heads={0: (1,), 1: (1,)}).fold(model)


def _outputs(model: Any, inputs: dict[str, Tensor]) -> dict[int, Tensor]:
    """Layer → (head, width) at the last position."""
    found: dict[int, Tensor] = {}
    hooks = [
        one.o_proj.register_forward_pre_hook(
            lambda _, args, one=one: found.update({one.layer: args[0][0, -1].view(one.n_heads, -1)})
        )
        for one in anatomy(model).attention
    ]
    with torch.no_grad():
        model(**inputs)
    for hook in hooks:
        hook.remove()
    return found


def _divergence(model: Any, inputs: dict[str, Tensor]) -> dict[int, Tensor]:
    parts = anatomy(model)
    asked = read_prompt(inputs, parts)
    assert asked is not None
    text = _outputs(model, without_image(asked, parts))
    return {layer: head_divergence(out, text[layer]) for layer, out in _outputs(model, inputs).items()}


def test_a_stream_compared_with_itself_diverges_nowhere() -> None:
    full = torch.randn(2, 4, 8)
    assert head_divergence(full, full).tolist() == [[0.0] * 4] * 2


def test_values_of_one_group_set_to_zero_silence_its_heads_and_no_others() -> None:
    model = llava()
    inputs = prompt(model)
    with torch.no_grad():
        model.model.language_model.layers[3].self_attn.v_proj.weight[16:24] = 0  # group 2 of 4
    found = _divergence(model, inputs)[3]
    assert found.eq(0).tolist() == [False] * 4 + [True] * 2 + [False] * 2


def test_scaling_the_values_of_one_group_scales_the_divergence_of_its_heads() -> None:
    model = llava()
    before = _divergence(model, prompt(model))
    with torch.no_grad():
        model.model.language_model.layers[3].self_attn.v_proj.weight[16:24] *= -3
    after = _divergence(model, prompt(model))
    expected = before[3] * torch.tensor([1, 1, 1, 1, 3, 3, 1, 1])
    torch.testing.assert_close(after[3], expected)
    assert all(torch.equal(after[layer], before[layer]) for layer in (0, 1, 2))


def test_the_filter_drops_the_head_that_stands_out_twice_and_only_it() -> None:
    divergence = torch.tensor([1.0, 1, 1, 1, 1, 1, 1, 10])
    active = torch.zeros(8, 4)
    active[:, 0] = divergence.sqrt()
    assert drop_outliers(divergence, active).tolist() == [1, 1, 1, 1, 1, 1, 1, 0]
    assert drop_outliers(divergence, torch.ones(8, 4)).tolist() == divergence.tolist()


@pytest.mark.parametrize("n_heads", [2, 3, 7, 8, 32])
def test_half_of_the_heads_are_chosen_rounded_down_and_none_when_all_tie(n_heads: int) -> None:
    assert int(above_median(torch.randperm(n_heads).float()).sum()) == n_heads // 2
    assert int(above_median(torch.ones(n_heads)).sum()) == 0


def test_token_divergence_adds_the_largest_of_every_layer() -> None:
    divergence = torch.tensor([[[1.0, 5, 3]], [[4.0, 0, 2]]])
    assert token_divergence(divergence, k=2).tolist() == [5 + 3 + 4 + 2]


def test_cutting_the_picture_out_equals_masking_it_with_positions_closed_up() -> None:
    model = llava()
    inputs, parts = prompt(model), anatomy(model)
    asked = read_prompt(inputs, parts)
    assert asked is not None
    cut, masked = _outputs(model, without_image(asked, parts)), masked_image(asked, parts)
    closed_up = {**masked, "position_ids": positions(masked["attention_mask"].bool())}
    torch.testing.assert_close(_outputs(model, closed_up), cut, atol=1e-4, rtol=1e-4)
    assert (_outputs(model, masked)[7] - cut[7]).abs().max() > 0.01


@pytest.mark.parametrize(
    "how", ["mask", "blank", lambda inputs: {**inputs, "pixel_values": -inputs["pixel_values"]}]
)
def test_other_ways_to_take_the_picture_away_choose_other_heads(how: Any) -> None:
    model = llava()
    inputs = prompt(model)
    found = VHR(last_layers=4, counterfactual=how).select(model, inputs)
    cut = VHR(last_layers=4).select(model, inputs)
    assert all(one.sum(-1).tolist() == [4] for one in found.values())
    assert any(not torch.equal(found[layer], cut[layer]) for layer in LAYERS)


def test_selected_heads_can_be_kept_and_used_again() -> None:
    model = llava()
    inputs, settings = prompt(model), VHR(last_layers=4)
    table = {
        layer: tuple(one[0].nonzero().flatten().tolist())
        for layer, one in settings.select(model, inputs).items()
    }
    assert sorted(table) == LAYERS
    with settings.attach(model), torch.no_grad():
        expected = model(**inputs).logits
    with VHR(heads=table).attach(model) as on, torch.no_grad():
        assert torch.equal(model(**inputs).logits, expected)
    assert "per prompt" in str(on.status())


def test_the_paper_s_layers_are_the_second_and_the_last_fourteen() -> None:
    parts = anatomy(llava(20))
    assert [one.layer for one in VHR().layers(parts)] == [1, *range(6, 20)]
    assert [one.layer for one in VHR(second_layer=False, last_layers=2).layers(parts)] == [18, 19]


def test_a_layer_that_is_not_there_is_named() -> None:
    with pytest.raises(BadInput, match="no attention in layer 9"):
        VHR(heads={9: (0,)}).attach(llava(2))


def test_a_prompt_without_picture_is_left_alone_and_it_says_so() -> None:
    model = llava(3)
    ids = torch.tensor([[1, 5, 6, 7]])
    with torch.no_grad():
        before = model(input_ids=ids).logits
        with VHR().attach(model) as on:
            assert torch.equal(model(input_ids=ids).logits, before)
    assert "no picture" in str(on.status())


def test_a_prompt_read_in_two_passes_is_refused() -> None:
    from transformers import DynamicCache

    model = llava(3)
    inputs, cache = prompt(model), DynamicCache()
    first = {"input_ids": inputs["input_ids"][:, :11], "pixel_values": inputs["pixel_values"]}
    with torch.no_grad():
        model(**first, **cache_argument(model, cache))
        with VHR().attach(model), pytest.raises(BadInput, match="whole prompt"):
            model.generate(inputs["input_ids"], **cache_argument(model, cache), max_new_tokens=2)


@pytest.mark.parametrize("again", [False, True], ids=["once", "reinforced"])
def test_the_next_batch_may_have_another_size(again: bool) -> None:
    model = llava(4)
    inputs, settings = prompt(model), VHR(last_layers=2, reinforce_counterfactual=again)
    three = {name: value.repeat_interleave(3, 0) for name, value in inputs.items()}
    alone = settings.select(model, inputs)
    with settings.attach(model) as on:
        model.generate(**three, max_new_tokens=2, do_sample=False)
        model.generate(input_ids=torch.tensor([[1, 5, 6]] * 2), max_new_tokens=2, do_sample=False)
        model.generate(**inputs, max_new_tokens=2, do_sample=False)
        assert all(torch.equal(heads, alone[layer]) for layer, heads in on.status().heads.items())


def test_beams_choose_the_heads_of_one_whatever_pixels_the_counterfactual_shows() -> None:
    model, seen = matrix.tiny("qwen2_5_vl"), set[tuple[int, ...]]()
    inputs = matrix.inputs("qwen2_5_vl")

    def upside_down(given: Any) -> Any:
        seen.add(tuple(given["pixel_values"].shape))
        return {**given, "pixel_values": given["pixel_values"].flip(-1)}

    settings = VHR(last_layers=1, reinforce_counterfactual=True, counterfactual=upside_down)
    alone = settings.select(model, inputs)
    with settings.attach(model) as on:
        model.generate(**inputs, num_beams=2, max_new_tokens=3, do_sample=False)
        assert all(torch.equal(heads, alone[layer]) for layer, heads in on.status().heads.items())
    assert seen == {tuple(inputs["pixel_values"].shape)}
