"""What a trace shows is what the model computed, and the model computes the same with a trace on."""

import contextlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matrix
import pytest
import tiny_models
import torch
from matrix import FAMILIES, PAIR, VARIED, answer, build, family, hooks, kernels, logits, tiny
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from vlmtools.errors import BadInput, CannotAttach
from vlmtools.families._probe import anatomy
from vlmtools.patches.vhr import VHR
from vlmtools.trace import Trace, head_attribution, head_divergences, maps_gib, t_vhd, vhd
from vlmtools.vlm import VLM, load

every_family = pytest.mark.parametrize("kind", FAMILIES)
varied = pytest.mark.parametrize(
    "kind", [pytest.param(one, marks=() if one in VARIED else pytest.mark.slow) for one in FAMILIES]
)
"""The families that differ most; the others in the slow run."""
ANSWER = torch.tensor([[11, 23, 31, 8], [12, 5, 44, 9]])


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def inputs(kind: str, texts: tuple[tuple[int, ...], ...] = ((5, 6, 7),), seed: int = 0) -> dict[str, Tensor]:
    """As `matrix.inputs`, with the mask of Llama 3.2 that says which tile every token sees."""
    batch = matrix.inputs(kind, texts, seed)
    if kind == "mllama":
        batch["cross_attention_mask"] = torch.ones(*batch["input_ids"].shape, 1, 1, dtype=torch.long)
    return batch


def single(kind: str, i: int) -> dict[str, Tensor]:
    return inputs(kind, (PAIR[i],), seed=i)


@contextlib.contextmanager
def own_weights(model: Any) -> Iterator[list[list[Tensor]]]:
    """The weights that an eager model itself hands back, pass by pass, module by module."""
    modules = [one.module for one in anatomy(model).attention]
    seen: list[list[Tensor]] = [[] for _ in modules]
    handles = [
        module.register_forward_hook(lambda _m, _i, out, kept=kept: kept.append(out[1].detach().float()))
        for module, kept in zip(modules, seen, strict=True)
    ]
    yield seen
    for handle in handles:
        handle.remove()


def own_mass(weights: Tensor, image: Tensor, cross: bool, step: int = 0) -> Tensor:
    """(batch, head): the last row's weights, added up over the picture. Sliding layers keep the newest keys only."""
    last = weights[:, :, -1]
    if cross:
        return last.sum(-1)
    keys = torch.nn.functional.pad(image, (0, step))[:, -last.shape[-1] :]
    return (last * keys[:, None]).sum(-1)


@every_family
def test_mass_is_what_the_eager_model_itself_attends_to_the_picture(kind: str) -> None:
    eager, batch = tiny(kind, "eager"), inputs(kind, PAIR)
    with own_weights(eager) as own:
        new = answer(eager, batch, max_new_tokens=3)
    with Trace(tiny(kind)) as seen:
        assert answer(tiny(kind), batch, max_new_tokens=3) == new

    image = batch["input_ids"] == eager.config.image_token_id
    image = image if family(kind).image_in_text else torch.zeros_like(image)
    cross = seen.cross
    expected = [
        torch.stack([own_mass(one, image, cross[i], step) for step, one in enumerate(passes)], 1)
        for i, passes in enumerate(own)
    ]
    assert seen.mass.shape[2] == 3
    torch.testing.assert_close(seen.mass, torch.stack(expected), atol=1e-5, rtol=0)
    assert any(cross) or (seen.mass > 1e-6).all(), "the picture is not among the keys"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # flex compiles
@pytest.mark.parametrize("kernel", ["eager", pytest.param("flex_attention", marks=pytest.mark.slow)])
def test_mass_is_the_same_under_every_kernel(kernel: str) -> None:
    batch, found = inputs("llava", PAIR), []
    for name in ("sdpa", kernel):
        with Trace(tiny("llava", name), picture=True) as seen:
            logits(tiny("llava", name), batch)
        found.append((seen.mass, seen.last.picture))
    torch.testing.assert_close(found[0][0], found[1][0], atol=1e-5, rtol=0)
    torch.testing.assert_close(found[0][1], found[1][1], atol=1e-5, rtol=0)


@every_family
def test_a_trace_leaves_every_logit_bit_identical_and_nothing_behind(kind: str) -> None:
    model, batch = tiny(kind), inputs(kind, PAIR)
    before = logits(model, batch), answer(model, batch), hooks(model), kernels(model)
    with Trace(model, picture=True, heads=True, hidden=True, maps=(-1,)):
        assert torch.equal(logits(model, batch), before[0])
        assert answer(model, batch) == before[1]
    assert (hooks(model), kernels(model)) == before[2:]
    with pytest.raises(ZeroDivisionError), Trace(model, heads=True, hidden=True):
        logits(model, batch)
        raise ZeroDivisionError
    assert torch.equal(logits(model, batch), before[0])
    assert (hooks(model), kernels(model)) == before[2:]


@varied
def test_a_padded_batch_shows_what_its_members_show_alone(kind: str) -> None:
    model = tiny(kind)
    with Trace(model, picture=True, heads=True, hidden=True) as both:
        answer(model, inputs(kind, PAIR), max_new_tokens=3)
    for i in range(2):
        with Trace(model, picture=True, heads=True, hidden=True) as one:
            answer(model, single(kind, i), max_new_tokens=3)
        torch.testing.assert_close(both.mass[:, [i]], one.mass, atol=1e-4, rtol=0)
        torch.testing.assert_close(both.last.picture[:, [i]], one.last.picture, atol=1e-4, rtol=0)
        torch.testing.assert_close(both.last.hidden[:, [i]], one.last.hidden, atol=1e-3, rtol=1e-3)
        for layer in both.layers:
            torch.testing.assert_close(
                both.last.heads(layer)[[i]], one.last.heads(layer), atol=1e-3, rtol=1e-3
            )


def test_the_cache_changes_nothing_of_what_is_seen() -> None:
    model, batch = tiny("llava"), inputs("llava", PAIR)
    found = []
    for options in ({}, {"cache_implementation": "static"}):
        with Trace(model, heads=True) as seen:
            answer(model, batch, max_new_tokens=4, **options)
        found.append((seen.mass, seen.last.heads(1)))
    torch.testing.assert_close(found[0], found[1], atol=1e-5, rtol=1e-5)


def test_hidden_states_are_those_the_model_returns() -> None:
    model, batch = tiny("llava"), inputs("llava", PAIR)
    with Trace(model, hidden=True) as seen, torch.no_grad():
        own = model(**batch, output_hidden_states=True).hidden_states
    assert len(own) == len(seen.last.hidden)
    for ours, theirs in zip(seen.last.hidden[:-1], own[:-1], strict=True):
        assert torch.equal(ours[:, 0], theirs[:, -1])


def test_the_pieces_of_the_picture_add_up_to_the_mass() -> None:
    with Trace(tiny("llava"), picture=True) as seen:
        logits(tiny("llava"), inputs("llava", PAIR))
    assert seen.last.picture.shape == (3, 2, 1, 4, 9)
    torch.testing.assert_close(seen.last.picture.sum(-1), seen.mass)


def test_several_pictures_in_one_prompt_count_together() -> None:
    batch = two_pictures()
    with own_weights(tiny("llava", "eager")) as own:
        logits(tiny("llava", "eager"), batch)
    with Trace(tiny("llava"), picture=True) as seen:
        logits(tiny("llava"), batch)
    image = batch["input_ids"] == 127
    assert seen.last.picture.shape[-1] == 18
    expected = torch.stack([own_mass(one[0], image, False) for one in own])
    torch.testing.assert_close(seen.mass[:, :, 0], expected, atol=1e-5, rtol=0)
    assert head_divergences(tiny("llava"), batch).shape == (1, 1, 3, 4)


def two_pictures() -> dict[str, Tensor]:
    first, second = single("llava", 0), single("llava", 1)
    batch = {key: torch.cat([first[key], second[key]], 1) for key in ("input_ids", "attention_mask")}
    return {**batch, "pixel_values": torch.cat([first["pixel_values"], second["pixel_values"]])}


def test_full_maps_come_only_for_the_layers_asked_for_and_equal_the_eager_ones() -> None:
    with own_weights(tiny("llava", "eager")) as own:
        logits(tiny("llava", "eager"), inputs("llava"))
    with Trace(tiny("llava"), maps=(-1,)) as seen:
        logits(tiny("llava"), inputs("llava"))
    torch.testing.assert_close(seen.last.maps(2)[0], own[2][0], atol=1e-5, rtol=0)
    with pytest.raises(BadInput, match="maps=\\(1,\\)"):
        seen.last.maps(1)


def test_maps_that_would_not_fit_are_refused_before_the_pass() -> None:
    assert maps_gib(32, 32, 2944) == pytest.approx(16.53, abs=0.01)
    model = tiny("llava")
    ran: list[object] = []
    handle = model.model.language_model.register_forward_hook(lambda *_: ran.append(1))
    with pytest.raises(BadInput, match="limit is 1e-06"), Trace(model, maps=(0, 1), most_gib=1e-6):
        logits(model, inputs("llava"))
    handle.remove()
    assert not ran
    assert hooks(model) == hooks(tiny("llava"))


class Sizes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Bytes of every tensor that is computed."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen: Counter[int] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.seen.update(one.nbytes for one in tree_leaves(out) if isinstance(one, Tensor))
        return out


def test_no_map_is_ever_made_unless_asked_for() -> None:
    model, batch, n_words = tiny("llava"), inputs("llava", ((5, 6, 7) * 100,)), 300
    row = 4 * (n_words + 11) * 4  # heads × keys in float32
    found = []
    for trace in (contextlib.nullcontext(), Trace(model, picture=True), Trace(model, maps=(0,))):
        with trace, Sizes() as sizes:
            logits(model, batch)
        found.append(sizes.seen)
    plain, traced, mapped = found
    assert max(traced - plain) <= 4 * row, "more than queries, keys and values themselves"
    assert max(mapped - plain) >= row * (n_words + 11), "a full map would be noticed"


def test_what_was_not_traced_is_named() -> None:
    model = tiny("llava")
    with Trace(model) as seen:
        with pytest.raises(BadInput, match="Nothing was traced"):
            seen.mass  # noqa: B018
        logits(model, inputs("llava"))
    with pytest.raises(BadInput, match="heads=True"):
        seen.last.heads(0)
    with pytest.raises(BadInput, match="There is no attention in layer 7"):
        seen.last.heads(7)
    with pytest.raises(BadInput, match="layer 9"), Trace(model, maps=(9,)):
        pass
    with pytest.raises(CannotAttach, match="compile"), Trace(torch.compile(build("llava"), backend="eager")):
        pass
    with pytest.raises(BadInput, match=r"vlmtools\.load"), Trace("llava"):
        pass


def test_inside_a_patch_a_trace_sees_what_the_patch_does() -> None:
    model, batch = tiny("llava"), inputs("llava")
    with Trace(model, heads=True) as plain:
        logits(model, batch)
    with VHR(strength=2.0, heads={0: (1,)}).attach(model), Trace(model, heads=True) as patched:
        logits(model, batch)
    factor = torch.tensor([1.0, 2.0, 1.0, 1.0])[:, None]
    assert torch.equal(patched.last.heads(0), plain.last.heads(0) * factor)
    assert not torch.equal(patched.last.heads(1), plain.last.heads(1))


def test_divergence_and_trace_pass_by_the_pass_that_a_patch_runs_for_itself() -> None:
    model, batch = tiny("llava"), inputs("llava")
    with VHR().attach(model):
        with Trace(model, heads=True) as seen:
            logits(model, batch)
        assert head_divergences(model, batch).isfinite().all()
    assert [one.n_steps for one in seen.records] == [1]


def test_half_precision_is_left_alone_too() -> None:
    model = build("llava").to(torch.bfloat16)
    batch = {key: v.to(torch.bfloat16) if v.is_floating_point() else v for key, v in inputs("llava").items()}
    before = logits(model, batch)
    with Trace(model, picture=True, heads=True, hidden=True) as seen:
        assert torch.equal(logits(model, batch), before)
    assert seen.mass.dtype == torch.float32
    assert ((seen.mass > 0) & (seen.mass < 1)).all()


def test_every_prompt_has_a_record_of_its_own() -> None:
    model = tiny("llava")
    with Trace(model) as seen:
        logits(model, inputs("llava"))
        answer(model, inputs("llava", PAIR), max_new_tokens=3)
    assert [(one.n_steps, one.mass.shape[1]) for one in seen.records] == [(1, 1), (3, 2)]


def straight_line(model: Any, embeds: Tensor) -> Tensor:
    """Head outputs of the last row in every layer of a tiny Llama: (layer, head, width). No hook, no kernel."""
    config, hidden, found = model.config.text_config, embeds, []
    length, heads, kv, width = embeds.shape[0], 4, 2, 8
    theta: float = config.rope_parameters["rope_theta"]
    angle = torch.arange(length)[:, None] * theta ** -(torch.arange(0, width, 2) / width)
    cos, sin = torch.cat([angle.cos()] * 2, -1), torch.cat([angle.sin()] * 2, -1)

    def turned(x: Tensor) -> Tensor:
        half = torch.cat([-x[..., width // 2 :], x[..., : width // 2]], -1)
        return x * cos + half * sin

    def normed(x: Tensor, gain: Tensor) -> Tensor:
        found: Tensor = gain * x / (x.square().mean(-1, keepdim=True) + config.rms_norm_eps).sqrt()
        return found

    for layer in model.model.language_model.layers:
        own = layer.self_attn
        x = normed(hidden, layer.input_layernorm.weight)
        q, k, v = (
            (x @ part.weight.T).view(length, n, width).transpose(0, 1)
            for part, n in ((own.q_proj, heads), (own.k_proj, kv), (own.v_proj, kv))
        )
        k, v = k.repeat_interleave(heads // kv, 0), v.repeat_interleave(heads // kv, 0)
        scores = turned(q) @ turned(k).transpose(1, 2) / width**0.5
        scores = scores + torch.full((length, length), float("-inf")).triu(1)
        out = (scores.softmax(-1) @ v).transpose(0, 1)
        found.append(out[-1])
        hidden = hidden + out.reshape(length, -1) @ own.o_proj.weight.T
        y, mlp = normed(hidden, layer.post_attention_layernorm.weight), layer.mlp
        hidden = hidden + (
            torch.nn.functional.silu(y @ mlp.gate_proj.weight.T) * (y @ mlp.up_proj.weight.T)
        ) @ (mlp.down_proj.weight.T)
    return torch.stack(found)


@torch.no_grad()
def derived(model: Any, batch: dict[str, Tensor], history: list[int]) -> Tensor:
    """VHD (layer, head) at the end of prompt + history, from the definition."""
    ids = torch.tensor([*batch["input_ids"][0].tolist(), *history])
    table = model.get_input_embeddings()
    full = table(ids)
    patches = model.model.get_image_features(batch["pixel_values"]).pooler_output
    full[ids == 127] = torch.cat(list(patches)).reshape(-1, full.shape[-1])
    difference = straight_line(model, full) - straight_line(model, table(ids[ids != 127]))
    return difference.square().sum(-1).sqrt()


def test_vhd_equals_a_straight_line_derivation() -> None:
    model, batch = tiny("llava"), inputs("llava")
    found = head_divergences(model, batch)[0, 0]
    torch.testing.assert_close(found, derived(model, batch, []), atol=1e-4, rtol=1e-4)
    squared = head_divergences(model, batch, distance="sq")[0, 0]
    torch.testing.assert_close(squared, found.square(), atol=1e-4, rtol=1e-4)


def test_t_vhd_in_two_passes_equals_the_definition_token_by_token() -> None:
    model, batch, said = tiny("llava"), inputs("llava"), [11, 23, 31, 8, 90, 14, 52, 7]
    found = head_divergences(model, batch, torch.tensor([said]))[0]
    for step in range(8):
        torch.testing.assert_close(found[step], derived(model, batch, said[:step]), atol=1e-3, rtol=1e-3)


class Said:
    """A logits processor that makes `generate` say given tokens."""

    def __init__(self, tokens: Tensor) -> None:
        self.tokens, self.step = tokens, 0

    def __call__(self, _ids: Tensor, scores: Tensor) -> Tensor:
        forced = torch.full_like(scores, float("-inf")).scatter(1, self.tokens[:, self.step, None], 0.0)
        self.step += 1
        return forced


def spoken(model: Any, decoder_of: Any, batch: dict[str, Tensor], tokens: Tensor) -> list[Tensor]:
    """Head outputs of the row behind every token, one `generate` step at a time: module → (batch, token, width)."""
    modules = [one.o_proj for one in anatomy(decoder_of).attention]
    seen: list[list[Tensor]] = [[] for _ in modules]
    handles = [
        module.register_forward_pre_hook(
            lambda _m, args, kept=kept: kept.append(args[0][:, -1].detach().clone())
        )
        for module, kept in zip(modules, seen, strict=True)
    ]
    with torch.no_grad():
        model.generate(
            **batch, logits_processor=[Said(tokens)], max_new_tokens=tokens.shape[1], do_sample=False
        )
    for handle in handles:
        handle.remove()
    shape = (
        tokens.shape[0],
        tokens.shape[1],
        anatomy(decoder_of).attention[0].n_heads * anatomy(decoder_of).attention[0].head_dim,
    )
    return [torch.stack(kept, 1) if kept else torch.zeros(shape) for kept in seen]


def without_pixels(kind: str, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """One prompt with its picture's tokens cut out by hand: those the tiny picture brought."""
    length = len(family(kind).tiny_image(family(kind).tiny_config()).tokens)
    ids = torch.cat([batch["input_ids"][:, :2], batch["input_ids"][:, 2 + length :]], 1)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


@every_family
def test_divergence_behind_every_token_equals_generating_it_step_by_step(kind: str) -> None:
    model, said = tiny(kind), ANSWER[:1]
    text_model = family(kind).text_model(model)
    text_model.generation_config.eos_token_id = None
    batch = single(kind, 0)
    text = without_pixels(kind, batch)
    text |= {key: torch.zeros_like(text["input_ids"]) for key in family(kind).token_inputs}
    full = spoken(model, model, batch, said)
    bare = spoken(text_model, model, text, said)
    moved = [(a - b).reshape(1, 4, anatomy(model).n_heads, -1) for a, b in zip(full, bare, strict=True)]
    expected = torch.stack([one.square().sum(-1).sqrt() for one in moved], 2)
    assert (expected > 1e-3).any()
    torch.testing.assert_close(head_divergences(model, batch, said), expected, atol=1e-3, rtol=1e-3)


@varied
def test_divergence_of_a_padded_batch_equals_single_prompts(kind: str) -> None:
    model = tiny(kind)
    together = head_divergences(model, inputs(kind, PAIR), ANSWER)
    assert together.shape == (2, 4, len(anatomy(model).attention), anatomy(model).n_heads)
    for i in range(2):
        alone = head_divergences(model, single(kind, i), ANSWER[[i]])
        torch.testing.assert_close(together[[i]], alone, atol=1e-3, rtol=1e-3)


def test_a_picture_compared_with_itself_diverges_nowhere() -> None:
    found = head_divergences(tiny("llava"), inputs("llava"), ANSWER[:1], counterfactual=dict)
    assert torch.equal(found, torch.zeros_like(found))


def test_heads_whose_values_are_zero_have_no_divergence_and_only_they() -> None:
    model = build("llava")
    with torch.no_grad():
        model.model.language_model.layers[1].self_attn.v_proj.weight[:8] = 0  # the first key/value head
    found = head_divergences(model, inputs("llava"))[0, 0]
    assert (found == 0).nonzero().tolist() == [[1, 0], [1, 1]]


@pytest.mark.parametrize("how", ["mask", "blank"])
def test_every_way_to_remove_the_picture_gives_another_divergence(how: str) -> None:
    dropped = head_divergences(tiny("llava"), inputs("llava"), ANSWER[:1])
    other = head_divergences(tiny("llava"), inputs("llava"), ANSWER[:1], counterfactual=how)
    assert other.isfinite().all()
    assert (other - dropped).abs().max() > 1e-3


def test_the_filter_only_ever_sets_heads_to_zero() -> None:
    plain = head_divergences(tiny("llava"), inputs("llava"), ANSWER[:1])
    filtered = head_divergences(tiny("llava"), inputs("llava"), ANSWER[:1], outlier_filter=True)
    assert ((filtered == plain) | (filtered == 0)).all()


@varied
def test_measuring_divergence_leaves_nothing_behind(kind: str) -> None:
    model, batch = tiny(kind), inputs(kind)
    before = logits(model, batch), hooks(model), kernels(model)
    head_divergences(model, batch, ANSWER[:1])
    assert torch.equal(logits(model, batch), before[0])
    assert (hooks(model), kernels(model)) == before[1:]


@pytest.fixture(scope="module")
def llava(tmp_path_factory: pytest.TempPathFactory) -> tuple[VLM, Path]:
    folder = tmp_path_factory.mktemp("llava")
    return load(tiny_models.llava(folder), device_map=None), tiny_models.picture(folder)


def test_a_loaded_model_is_asked_in_words(llava: tuple[VLM, Path]) -> None:
    vlm, picture = llava
    with Trace(vlm, attention=True, heads=True) as seen:
        said = vlm.answer(picture, "A dog?", max_new_tokens=5)
    assert seen.n_steps >= 1
    assert vhd(vlm, picture, "A dog?").shape == (2, 4)
    tokens = t_vhd(vlm, picture, "A dog?", said or "yes", k=2)
    assert len(tokens.ids) == len(tokens.texts) == len(tokens.values) == len(tokens.heads)
    top = tokens.heads.topk(2, -1).values.sum((1, 2))
    torch.testing.assert_close(torch.tensor(tokens.values), top)
    torch.testing.assert_close(tokens.heads[0], vhd(vlm, picture, "A dog?"))


def test_answers_that_are_empty_or_hold_an_image_token_are_refused(llava: tuple[VLM, Path]) -> None:
    vlm, picture = llava
    with pytest.raises(BadInput, match="is empty"):
        t_vhd(vlm, picture, "A dog?", "")
    with pytest.raises(BadInput, match="piece of a picture"):
        t_vhd(vlm, picture, "A dog?", [5, vlm.model.config.image_token_id])
    with pytest.raises(BadInput, match="shows no picture"):
        head_divergences(vlm.model, {"input_ids": torch.tensor([[1, 5, 6]])})
    with pytest.raises(BadInput, match="padding_side='left'"):
        head_divergences(
            vlm.model, {"input_ids": torch.tensor([[1, 5]]), "attention_mask": torch.tensor([[1, 0]])}
        )


def test_attribution_equals_zeroing_one_head_after_another(llava: tuple[VLM, Path]) -> None:
    vlm, picture = llava
    said = [20, 31, 17]
    found = head_attribution(vlm, picture, "A dog?", said, heads_at_once=3)
    assert found.shape == (3, 2, 4)
    inputs = vlm.inputs([vlm.chat("A dog?", True)], [tiny_image(picture)])
    whole = {**inputs, "input_ids": torch.cat([inputs["input_ids"], torch.tensor([said])], 1)}
    whole["attention_mask"] = torch.ones_like(whole["input_ids"])
    before = said_log_probability(vlm.model, whole, said)
    for layer in range(2):
        weight = vlm.model.model.language_model.layers[layer].self_attn.o_proj.weight
        for head in range(4):
            kept = weight.data.clone()
            weight.data[:, 8 * head : 8 * (head + 1)] = 0
            fallen = before - said_log_probability(vlm.model, whole, said)
            weight.data = kept
            torch.testing.assert_close(found[:, layer, head], fallen, atol=1e-4, rtol=1e-4)


def test_attribution_at_gain_one_is_nothing_and_layers_can_be_chosen(llava: tuple[VLM, Path]) -> None:
    vlm, picture = llava
    neutral = head_attribution(vlm, picture, "A dog?", "yes", gain=1.0)
    torch.testing.assert_close(neutral, torch.zeros_like(neutral), atol=1e-5, rtol=0)
    every = head_attribution(vlm, picture, "A dog?", [9, 4], where="answer")
    one = head_attribution(vlm, picture, "A dog?", [9, 4], where="answer", layers=[1], heads_at_once=1)
    torch.testing.assert_close(one[:, 0], every[:, 1], atol=1e-5, rtol=1e-4)
    assert (every - head_attribution(vlm, picture, "A dog?", [9, 4])).abs().max() > 1e-6
    with pytest.raises(BadInput, match="no attention in layer 5"):
        head_attribution(vlm, picture, "A dog?", "yes", layers=[5])


def tiny_image(path: Path) -> Any:
    from PIL import Image

    return Image.open(path).convert("RGB")


@torch.no_grad()
def said_log_probability(model: Any, whole: dict[str, Tensor], said: list[int]) -> Tensor:
    scores: Tensor = model(**whole).logits[0, -len(said) - 1 : -1].log_softmax(-1)
    return scores[torch.arange(len(said)), said]
