"""The seam: a shorter prompt through the original generate and forward, with everything put back afterwards."""

import copy
from typing import Any

import pytest
import torch
from matrix import answer, build, family, hooks, inputs, kernels, logits, tiny
from pruning_cases import PRUNABLE, ROPE, First, padded, prompts, row_of
from torch import Tensor
from transformers import StaticCache

from vlmtools.errors import BadInput, CannotAttach
from vlmtools.families._cache import cache_argument, held_cache
from vlmtools.patches.paint import PAINT
from vlmtools.patches.vcd import VCD
from vlmtools.patches.vhr import VHR
from vlmtools.pruning.base import Needs, Report

FEW = ("llava", "qwen2_5_vl", "gemma3")
every = pytest.mark.parametrize("kind", PRUNABLE)
few = pytest.mark.parametrize("kind", FEW)
PLAIN = {"do_sample": False, "max_new_tokens": 4}
NEEDED = Needs(received=(-1,), keys=(-1,), patches=True, text=True)


@every
def test_keeping_every_token_through_the_seam_changes_no_bit(kind: str) -> None:
    model, batch = tiny(kind), prompts(kind)
    before = logits(model, batch), answer(model, batch)
    with First(keep=10**6, wants=NEEDED).attach(model) as on:
        assert torch.equal(logits(model, batch), before[0])
        assert answer(model, batch) == before[1]
        assert on.report().n_before == on.report().n_after > 0


@every
def test_the_cache_is_as_short_as_the_prompt(kind: str) -> None:
    model, batch = tiny(kind), prompts(kind)
    with First(keep=0.5).attach(model) as on:
        out = model.generate(**batch, **PLAIN, return_dict_in_generate=True)
        report = on.report()
    assert held_cache(out).get_seq_length() == report.length_after + 3
    assert report.length_after < report.length_before == batch["input_ids"].shape[1]
    assert report.n_after < report.n_before
    assert torch.equal(out.sequences[:, : report.length_before], batch["input_ids"])
    assert out.sequences.shape == (2, report.length_before + 4)


@every
def test_every_prompt_of_a_batch_is_answered_as_alone(kind: str) -> None:
    model, shows = tiny(kind), (1, 2)
    with First(keep=0.5).attach(model):
        together = answer(model, prompts(kind, shows))
        near = logits(model, prompts(kind, shows))
        for row in range(2):
            alone = row_of(kind, shows, row)
            assert answer(model, alone) == [together[row]]
            assert torch.allclose(logits(model, alone)[0], near[row], atol=1e-4)


@every
@pytest.mark.parametrize("options", [{"num_beams": 3}, {"num_beams": 2, "num_return_sequences": 2}], ids=str)
def test_beams_of_a_batch_are_those_of_single_prompts(kind: str, options: dict[str, Any]) -> None:
    model, shows = tiny(kind), (1, 2)
    n = options.get("num_return_sequences", 1)
    with First(keep=0.5).attach(model):
        together = answer(model, prompts(kind, shows), **options)
        assert [len(row) for row in together] == [6] * 2 * n
        for row in range(2):
            assert answer(model, row_of(kind, shows, row), **options) == together[row * n : (row + 1) * n]


def by_hand(model: Any, batch: dict[str, Tensor], kept: list[int]) -> Tensor:
    """Logits of LLaVA from embeddings that were put together here, tokens left out."""
    with torch.no_grad():
        features = torch.cat(list(model.model.get_image_features(batch["pixel_values"]).pooler_output))
        ids = batch["input_ids"][0]
        embedded = model.get_input_embeddings()(ids).clone()
        image = (ids == 127).nonzero()[:, 0]
        embedded[image] = features
        stays = torch.ones(len(ids), dtype=torch.bool)
        stays[image] = False
        stays[image[kept]] = True
        found: Tensor = model(inputs_embeds=embedded[stays][None], use_cache=False).logits
        return found


@pytest.mark.parametrize("use_cache", [True, False])
def test_a_pruned_pass_equals_embeddings_put_together_by_hand(use_cache: bool) -> None:
    model, batch = tiny("llava"), inputs("llava")
    expected = by_hand(model, batch, [0, 1, 2])
    with First(keep=3).attach(model):
        found = model(**batch, use_cache=use_cache).logits
        scores = model.generate(**batch, **PLAIN, output_logits=True, return_dict_in_generate=True).logits[0]
    assert torch.allclose(found, expected, atol=1e-5)
    assert torch.allclose(scores, expected[:, -1], atol=1e-5)


@pytest.mark.parametrize("kind", ["llava", *ROPE])
@pytest.mark.parametrize("positions", ["original", "renumber"])
@pytest.mark.parametrize("masked", [True, False])
def test_a_gap_in_the_positions_is_not_read_as_the_border_of_packed_sequences(
    kind: str, positions: str, masked: bool
) -> None:
    """A model without mask and cache takes a jump in the positions for the start of another sequence."""
    model, batch = tiny(kind), inputs(kind)
    if not masked:
        batch.pop("attention_mask")
    with First(keep=0.5, positions=positions).attach(model):  # type: ignore[arg-type]
        with torch.no_grad():
            plain = model(**batch, use_cache=False).logits
            cached = model(**batch, use_cache=True).logits
        slow = answer(model, batch, use_cache=False)
        quick = answer(model, batch)
    assert torch.allclose(plain, cached, atol=1e-4)
    assert slow == quick


class Watch:
    """Positions and mask of the first pass of the decoder."""

    def __init__(self, model: Any) -> None:
        self.seen: list[dict[str, Any]] = []
        self.handle = model.get_decoder().register_forward_pre_hook(self._see, with_kwargs=True)

    def _see(self, _module: Any, _args: Any, kwargs: dict[str, Any]) -> None:
        self.seen.append(kwargs)


@pytest.mark.parametrize("kind", ROPE)
def test_three_axis_positions_stay_those_of_the_whole_prompt_and_the_text_row_has_no_gap(kind: str) -> None:
    model, batch = tiny(kind), prompts(kind, (1,))
    whole = model._prepare_position_ids_for_generation(batch["input_ids"], dict(batch))
    watch = Watch(model)
    try:
        with First(keep=0.5).attach(model):
            model.generate(**batch, **PLAIN)
    finally:
        watch.handle.remove()
    image = (batch["input_ids"][0] == 127).nonzero()[:, 0]
    stays = torch.ones(whole.shape[-1], dtype=torch.bool)
    stays[image[2:]] = False
    first = watch.seen[0]["position_ids"]
    assert torch.equal(first[1:], whole[1:][..., stays])
    assert first[0, 0].tolist() == list(range(int(stays.sum())))
    for step, later in enumerate(watch.seen[1:], 1):
        assert torch.equal(later["position_ids"][1:, :, 0], whole[1:, :, -1] + step)


@pytest.mark.parametrize("kind", ROPE)
def test_a_decoding_loop_by_hand_goes_on_with_the_full_numbering(kind: str) -> None:
    from transformers import DynamicCache

    model, batch = tiny(kind), prompts(kind, (1,))
    with First(keep=0.5).attach(model), torch.no_grad():
        expected = answer(model, batch, max_new_tokens=3)[0]
        cache = DynamicCache(config=model.config.get_text_config(decoder=True))
        out = model(**batch, **cache_argument(model, cache), use_cache=True)
        written = []
        for _ in range(3):
            scores = out.logits[0, -1].clone()
            scores[124:] = float("-inf")
            written.append(int(scores.argmax()))
            out = model(
                input_ids=torch.tensor([[written[-1]]]), **cache_argument(model, cache), use_cache=True
            )
    assert written == expected


def video(kind: str) -> dict[str, Tensor]:
    """A video of two frames in a prompt."""
    from vlmtools.families.base import noise

    grid = torch.tensor([[2, 4, 4]])
    if kind == "qwen3_vl":  # the frames lie apart, with their times between them
        row = [1, 9, 125, *[126] * 4, 124, 8, 125, *[126] * 4, 124, 5]
    else:
        row = [1, 9, 125, *[126] * 8, 124, 5]
    batch = padded(kind, [row], {"pixel_values_videos": noise((32, 96), 3), "video_grid_thw": grid})
    batch["mm_token_type_ids"] = (batch["input_ids"] == 126).long() * 2
    return batch


@pytest.mark.parametrize("kind", ROPE)
def test_a_video_is_pruned_frame_by_frame(kind: str) -> None:
    model, batch = tiny(kind), video(kind)
    plain = answer(model, batch)
    with First(keep=10**6).attach(model):
        assert answer(model, batch) == plain
    with First(keep=0.5).attach(model) as on:
        answer(model, batch)
        report = on.report()
    assert [(one.kind, one.grid, one.selection.n_tokens) for one in report.views] == [
        ("video", (2, 2), 2)
    ] * 2
    assert (report.n_before, report.n_after) == (8, 4)


@few
def test_a_prompt_without_picture_passes_untouched(kind: str) -> None:
    model = tiny(kind)
    batch = {"input_ids": torch.tensor([[1, 9, 5, 6]]), "attention_mask": torch.ones(1, 4, dtype=torch.long)}
    before = answer(model, batch)
    with First(keep=0.5).attach(model) as on:
        assert answer(model, batch) == before
        assert on.report() == Report()


@few
def test_a_static_cache_gives_the_same_answer(kind: str) -> None:
    model, batch = tiny(kind), prompts(kind, (1,))
    with First(keep=0.5).attach(model) as on:
        expected = answer(model, batch)
        assert answer(model, batch, cache_implementation="static") == expected
        cache = StaticCache(
            model.config.get_text_config(decoder=True), max_cache_len=on.report().length_after + 6
        )
        assert answer(model, batch, **cache_argument(model, cache)) == expected


@few
def test_merged_tokens_follow_the_kept_ones(kind: str) -> None:
    model, batch = tiny(kind), prompts(kind)
    with First(keep=2, merged=True).attach(model) as on:
        together, views = answer(model, batch), on.report().views
        assert answer(model, row_of(kind, (1, 2), 0)) == [together[0]]
    assert {one.selection.n_tokens for one in views} == {2}


def test_a_merged_feature_is_what_the_language_model_reads() -> None:
    model, batch = tiny("llava"), inputs("llava")
    read: list[Tensor] = []
    handle = model.get_decoder().register_forward_pre_hook(
        lambda _m, _a, kwargs: read.append(kwargs["inputs_embeds"]), with_kwargs=True
    )
    try:
        with First(keep=3, merged=True).attach(model):
            model(**batch)
    finally:
        handle.remove()
    with torch.no_grad():
        features = torch.cat(list(model.model.get_image_features(batch["pixel_values"]).pooler_output))
    assert torch.allclose(
        read[0][0, 2:5], torch.stack([features[0], features[1], features[2:].mean(0)]), atol=1e-6
    )


@few
def test_limits_that_count_the_prompt_mean_the_prompt_that_was_given(kind: str) -> None:
    model, batch = tiny(kind), inputs(kind)
    length = batch["input_ids"].shape[1]
    with First(keep=0.5).attach(model):
        assert model.generate(**batch, do_sample=False, max_length=length + 3).shape[1] == length + 3
        config = copy.deepcopy(model.generation_config)
        config.max_length, config.do_sample = length + 2, False
        assert model.generate(**batch, generation_config=config).shape[1] == length + 2
        assert config.max_length == length + 2
        assert model.generate(**batch, do_sample=False, max_new_tokens=5).shape[1] == length + 5


def test_a_streamer_is_shown_the_prompt_that_was_given() -> None:
    model, batch = tiny("llava"), inputs("llava")
    shown: list[Tensor] = []

    class Streamer:
        def put(self, value: Tensor) -> None:
            shown.append(value)

        def end(self) -> None:
            shown.append(torch.tensor([-1]))

    with First(keep=0.5).attach(model):
        out = model.generate(**batch, **PLAIN, streamer=Streamer())
    assert torch.equal(shown[0], batch["input_ids"])
    assert torch.cat([one.flatten() for one in shown[1:]]).tolist() == [*out[0, -4:].tolist(), -1]


@few
def test_removal_restores_everything_also_after_an_error(kind: str) -> None:
    model, batch = build(kind), prompts(kind)
    before = logits(model, batch), answer(model, batch), hooks(model), kernels(model)
    keys, space = list(model.state_dict()), set(vars(model)) | set(vars(model.base_model))
    with pytest.raises(ZeroDivisionError), First(keep=0.5, wants=NEEDED).attach(model):
        answer(model, batch)
        raise ZeroDivisionError
    assert (hooks(model), kernels(model)) == before[2:]
    assert list(model.state_dict()) == keys
    assert set(vars(model)) | set(vars(model.base_model)) == space
    assert torch.equal(logits(model, batch), before[0])
    assert answer(model, batch) == before[1]


class Broken(First):
    def select(self, seen: Any, n_keep: int) -> Any:
        raise ZeroDivisionError


@few
def test_an_error_while_choosing_leaves_the_model_usable(kind: str) -> None:
    model, batch = tiny(kind), prompts(kind)
    with First(keep=10**6).attach(model):
        whole = answer(model, batch)
    with Broken(keep=0.5).attach(model):
        for call in (logits, answer):
            with pytest.raises(ZeroDivisionError):
                call(model, batch)
    assert answer(model, batch) == whole


@pytest.mark.parametrize("kind", ["llava", "qwen2_5_vl"])
@pytest.mark.parametrize("pruner_first", [True, False])
def test_another_method_sees_the_short_prompt_as_the_prompt(kind: str, pruner_first: bool) -> None:
    model, batch = tiny(kind), prompts(kind)
    with First(keep=0.5).attach(model) as on:
        alone = answer(model, batch)
        n_after = on.report().n_after
    before = hooks(model)
    pair: list[Any] = [First(keep=0.5), VHR(strength=4.0)]
    with pair[1 - pruner_first].attach(model) as one, pair[pruner_first].attach(model) as other:
        both = answer(model, batch)
        session = one.live.session
        seen: list[Any] = []
        session.on_prompt(seen.append)
        answer(model, batch)
        assert int(seen[0].image.sum()) == n_after
        (one if pruner_first else other).remove()
        assert answer(model, batch) != both
    assert both != alone
    assert hooks(model) == before


@pytest.mark.parametrize("positions", ["original", "renumber"])
def test_heads_are_chosen_anew_for_every_pruned_prompt(
    positions: str,
) -> None:
    """What VHR chose for one prompt is not carried into the next."""
    model, batch = tiny("llava"), inputs("llava")
    with VHR(strength=3.0).attach(model) as vhr, First(keep=0.5, positions=positions).attach(model):  # type: ignore[arg-type]
        first = logits(model, batch), {layer: one.clone() for layer, one in vhr.status().heads.items()}
        second = logits(model, batch), vhr.status().heads
    assert torch.equal(first[0], second[0])
    assert all(torch.equal(first[1][layer], second[1][layer]) for layer in first[1])


@pytest.mark.parametrize(
    "patch", [VCD(), PAINT.tiny(), VHR(counterfactual="blank")], ids=lambda one: one.name
)
def test_a_method_that_needs_pixels_says_so_instead_of_doing_nothing(patch: Any) -> None:
    model, batch = tiny("llava"), inputs("llava")
    with (
        First(keep=0.5).attach(model),
        patch.attach(model),
        pytest.raises(BadInput, match="needs the picture itself"),
    ):
        answer(model, batch)


def test_a_second_pruner_is_refused() -> None:
    model = tiny("llava")
    with First(keep=0.5).attach(model), pytest.raises(CannotAttach, match="attached already"):
        First(keep=0.2).attach(model)
    First(keep=0.2).attach(model).remove()


@pytest.mark.parametrize("kind", ["mllama", "instructblip"])
def test_families_without_a_seam_are_refused_with_a_reason(kind: str) -> None:
    model = tiny(kind)
    before = hooks(model)
    with pytest.raises(CannotAttach, match=r"mm_encoder_outputs|image tokens"):
        First(keep=0.5).attach(model)
    assert hooks(model) == before


@pytest.mark.parametrize("keep", [0.0, -0.5, 1.5, 0, -3, True])
def test_a_budget_out_of_range_is_refused(keep: Any) -> None:
    with pytest.raises(BadInput, match="whole number of"):
        First(keep=keep).attach(tiny("llava"))


def test_a_share_and_a_count_mean_what_they_say() -> None:
    assert [First(keep=one).budget(9) for one in (1.0, 0.5, 0.01, 3, 3.0, 1, 100)] == [9, 4, 1, 3, 3, 1, 9]


def test_pictures_over_a_filled_cache_are_refused() -> None:
    model, batch = tiny("llava"), inputs("llava")
    with First(keep=0.5).attach(model):
        out = model.generate(**batch, **PLAIN, return_dict_in_generate=True)
        with pytest.raises(BadInput, match="filled cache"):
            model.generate(**batch, **PLAIN, **cache_argument(model, held_cache(out)))


@few
@pytest.mark.parametrize("own", [True, False])
def test_a_second_turn_over_a_shortened_cache_is_refused_and_without_the_cache_works(
    kind: str, own: bool
) -> None:
    from transformers import DynamicCache

    model, batch = tiny(kind), inputs(kind)
    given = DynamicCache(config=model.config.get_text_config(decoder=True))
    options = cache_argument(model, given) if own else {}
    with First(keep=0.5).attach(model):
        out = model.generate(**batch, **PLAIN, **options, return_dict_in_generate=True)
        longer = {"input_ids": torch.cat([out.sequences, torch.tensor([[7, 8]])], 1)}
        longer["attention_mask"] = torch.ones_like(longer["input_ids"])
        filled = cache_argument(model, given if own else held_cache(out))
        with pytest.raises(BadInput, match="Start a new generate with the whole conversation"):
            model.generate(**longer, **PLAIN, **filled)
        again = {name: one for name, one in batch.items() if name not in longer}
        for name in family(kind).token_inputs:
            kinds = batch[name]
            again[name] = torch.nn.functional.pad(kinds, (0, longer["input_ids"].shape[1] - kinds.shape[1]))
        assert len(answer(model, {**longer, **again})[0]) == 6


def test_going_on_with_the_mask_of_the_whole_prompt_is_refused() -> None:
    from transformers import DynamicCache

    model, batch = tiny("llava"), inputs("llava")
    cache = DynamicCache(config=model.config.get_text_config(decoder=True))
    with First(keep=0.5).attach(model), torch.no_grad():
        model(**batch, **cache_argument(model, cache), use_cache=True)
        longer = torch.ones(1, batch["input_ids"].shape[1] + 1, dtype=torch.long)
        with pytest.raises(BadInput, match=r"shortened to 9 by"):
            model(input_ids=torch.tensor([[5]]), attention_mask=longer, **cache_argument(model, cache))


def test_labels_and_logits_of_a_plain_pass_are_short_together() -> None:
    model, batch = tiny("llava"), inputs("llava")
    with First(keep=3).attach(model):
        out = model(**batch, labels=batch["input_ids"])
    assert out.logits.shape[1] == batch["input_ids"].shape[1] - 6
    assert bool(out.loss.isfinite())


def test_the_wrong_number_of_image_tokens_is_reported() -> None:
    model, batch = tiny("llava"), inputs("llava")
    batch = {name: one[:, 3:] if name != "pixel_values" else one for name, one in batch.items()}
    with First(keep=3).attach(model), pytest.raises(BadInput, match=r"8 image tokens.*make 9"):
        model(**batch)


@pytest.mark.parametrize("kept", [[3, 1], [1, 1], [0, 9], [-1, 0], []])
def test_a_method_that_chooses_nonsense_is_told(kept: list[int]) -> None:
    from vlmtools.pruning.base import Selection

    class Strange(First):
        def select(self, seen: Any, n_keep: int) -> Selection:
            return Selection(torch.tensor(kept, dtype=torch.long))

    with Strange(keep=3).attach(tiny("llava")), pytest.raises(BadInput, match="Kept indices ascend"):
        logits(tiny("llava"), inputs("llava"))
