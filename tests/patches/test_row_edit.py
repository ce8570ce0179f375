"""Row edits: which rows, which keys, under every form of mask; nesting; what is refused."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from matrix import answer, build, inputs, kernels, logits, tiny
from torch import Tensor

from vlmtools.errors import BadInput, CannotAttach
from vlmtools.families._call import Call, mask_rows
from vlmtools.families._rows import Rows, mix_values, score_rows
from vlmtools.families._session import Session
from vlmtools.patches._row_edit import RowEdit
from vlmtools.patches.base import Live, Status
from vlmtools.patches.pai import PAI


def live(model: Any) -> Live:
    return Live(Session.open(model), Status(PAI()))


def with_edit(model: Any, edit: RowEdit, batch: dict[str, Tensor]) -> Tensor:
    """Logits of every row with an edit on the last layer."""
    on = live(model)
    handle = edit.install(on, on.anatomy.attention[-1:])
    try:
        with torch.no_grad():
            found: Tensor = model(**batch).logits
            return found
    finally:
        handle.remove()
        on.session.close()


def _call(mask: Any = None, base: str = "sdpa", rows: int = 4, keys: int = 6, **options: Any) -> Call:
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, n, s, 8, generator=generator) for n, s in ((4, rows), (2, keys), (2, keys)))
    module: Any = SimpleNamespace(training=False, is_causal=True)
    return Call(module, q, k, v, mask, options, base)


def test_scores_are_scaled_and_capped_and_group_heads_in_order() -> None:
    call = _call(scaling=0.3, softcap=2.0)
    for head in range(4):
        w = call.query[1, head] @ call.key[1, head // 2].T * 0.3
        torch.testing.assert_close(score_rows(call, 0, 4)[1, head], 2 * torch.tanh(w / 2))
    torch.testing.assert_close(score_rows(call, 2, 3), score_rows(call, 0, 4)[:, :, 2:3])


def test_values_are_mixed_per_group() -> None:
    call, weights = _call(), torch.rand(2, 4, 4, 6)
    found = mix_values(weights, call)
    torch.testing.assert_close(found[0, 3], weights[0, 3] @ call.value[0, 1])


def _seen(call: Call, start: int = 0, stop: int = 4) -> list[list[int]]:
    return (mask_rows(call, start, stop)[-1, 0] == 0).int().tolist()


def test_no_mask_means_causal_from_the_first_key_under_sdpa_and_from_the_last_under_flash() -> None:
    assert _seen(_call())[1:3] == [[1, 1, 0, 0, 0, 0], [1, 1, 1, 0, 0, 0]]
    assert _seen(_call(base="flash_attention_2"))[0] == [1, 1, 1, 0, 0, 0]
    assert _seen(_call(base="flash_attention_2", sliding_window=2))[0] == [0, 1, 1, 0, 0, 0]
    assert _seen(_call(rows=1), 0, 1) == [[1] * 6]
    assert _seen(_call(is_causal=False))[0] == [1] * 6
    assert _seen(_call(base="eager"))[0] == [1] * 6


def test_masks_of_numbers_of_truths_and_of_two_axes_say_the_same() -> None:
    allowed = torch.ones(4, 6, dtype=torch.bool).tril(2)
    allowed[:, 0] = False
    truths = allowed.expand(2, 1, 4, 6)
    numbers = torch.zeros(2, 1, 4, 8).masked_fill(~torch.nn.functional.pad(truths, (0, 2)), torch.finfo().min)
    flat = torch.tensor([[0, 1, 1, 1, 1, 1]] * 2)
    expected = allowed[1:3].int().tolist()
    assert _seen(_call(truths), 1, 3) == expected
    assert _seen(_call(numbers, "eager"), 1, 3) == expected
    assert _seen(_call(flat, "flash_attention_2"), 1, 3) == expected


def test_a_block_mask_says_the_same() -> None:
    padding = torch.tensor([[1, 1, 1, 1, 1, 1], [0, 1, 1, 1, 1, 1]]).bool()

    def allowed(batch: Tensor, _head: Tensor, row: Tensor, key: Tensor) -> Tensor:
        return (key <= row + 2) & padding[batch, key]

    block = SimpleNamespace(mask_mod=allowed)
    assert _seen(_call(block, "flex_attention"), 1, 3) == [[0, 1, 1, 1, 0, 0], [0, 1, 1, 1, 1, 0]]


@pytest.mark.parametrize("kind", ["llava", "gemma3", "qwen2_5_vl", "paligemma"])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_rows_recomputed_without_change_are_those_of_the_kernel(kind: str, attention: str) -> None:
    model, batch = tiny(kind, attention), inputs(kind, ((5, 6, 7, 8, 9), (8, 9)))
    with torch.no_grad():
        before = model(**batch).logits
    after = with_edit(model, RowEdit("all", scores=lambda _, w: w + 0), batch)
    real = batch["attention_mask"].bool()
    torch.testing.assert_close(after[real], before[real], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", ["llava", "gemma3"])
def test_what_a_reader_is_shown_are_the_weights_of_eager_attention(kind: str) -> None:
    batch, seen = inputs(kind, ((5, 6, 7, 8, 9), (8, 9))), []
    with torch.no_grad():
        expected = tiny(kind, "eager")(**batch, output_attentions=True).attentions[-1]
        before = tiny(kind)(**batch).logits
    after = with_edit(tiny(kind), RowEdit("all", read=lambda _, w: seen.append(w)), batch)
    real = batch["attention_mask"].bool()
    torch.testing.assert_close(
        seen[0].transpose(1, 2)[real], expected.transpose(1, 2)[real], atol=1e-5, rtol=1e-4
    )
    assert torch.equal(after, before)


@pytest.mark.parametrize(
    ("which", "changed"),
    [("answer", [-1]), ("new", []), ("after_image", [-3, -2, -1]), ("all", list(range(14))), ("first", [0])],
)
def test_only_the_declared_rows_change(which: Any, changed: list[int]) -> None:
    model, batch = tiny("llava"), inputs("llava")
    with torch.no_grad():
        before = model(**batch).logits
    after = with_edit(model, RowEdit(which, output=lambda _, out: out + 1), batch)
    moved = (after != before).any(-1)[0]
    assert moved.nonzero().flatten().tolist() == sorted(i % 14 for i in changed)


def test_rows_behind_pictures_of_different_place_are_told_apart_in_a_batch() -> None:
    model, batch = tiny("llava"), inputs("llava", ((5, 6, 7, 8, 9), (8, 9)))
    with torch.no_grad():
        before = model(**batch).logits
    after = with_edit(model, RowEdit("after_image", output=lambda _, out: out + 1), batch)
    assert (after != before).any(-1).sum(-1).tolist() == [5, 2]


def test_edits_of_two_patches_share_one_softmax_and_come_in_order() -> None:
    model, batch = tiny("llava"), inputs("llava")
    on = live(model)
    place = on.anatomy.attention[-1:]
    first = RowEdit(scores=lambda rows, w: torch.where(rows.image, w + 1, w)).install(on, place)
    second = RowEdit(scores=lambda rows, w: torch.where(rows.image, w * 2, w)).install(on, place)
    found = logits(model, batch)
    first.remove()
    second.remove()
    on.session.close()
    both = with_edit(model, RowEdit(scores=lambda rows, w: torch.where(rows.image, (w + 1) * 2, w)), batch)
    torch.testing.assert_close(found, both[:, -1])


def test_edits_of_different_rows_do_not_disturb_each_other() -> None:
    model, batch = tiny("llava"), inputs("llava", ((5, 6, 7, 8, 9), (8, 9)))
    on = live(model)
    place = on.anatomy.attention[-1:]
    wide = RowEdit("after_image", weights=lambda _, w: w * 0.5).install(on, place)
    narrow = RowEdit("answer", output=lambda _, out: out * 3).install(on, place)
    with torch.no_grad():
        found = model(**batch).logits
    narrow.remove()
    wide.remove()
    on.session.close()
    halved = with_edit(model, RowEdit("after_image", weights=lambda _, w: w * 0.5), batch)
    both = with_edit(model, RowEdit("answer", output=lambda _, out: out * 1.5), batch)
    torch.testing.assert_close(found[:, :-1], halved[:, :-1])
    torch.testing.assert_close(found[:, -1], both[:, -1])


def test_an_edit_is_told_layer_image_and_allowed_keys() -> None:
    model, batch, told = tiny("llava"), inputs("llava", ((5, 6, 7), (8, 9))), []

    def look(rows: Rows, w: Tensor) -> Tensor:
        told.append(rows)
        return w

    with_edit(model, RowEdit(scores=look), batch)
    rows = told[0]
    assert rows.attention.layer == 2
    assert rows.image[:, 0, 0].sum(-1).tolist() == [9, 9]
    assert rows.allowed.expand(2, 1, 1, -1)[:, 0, 0].sum(-1).tolist() == [14, 13]


def test_prompts_without_a_picture_are_left_alone() -> None:
    model, batch = tiny("llava"), {"input_ids": torch.tensor([[1, 5, 6]])}
    before = logits(model, batch)
    assert torch.equal(with_edit(model, RowEdit(scores=lambda _, w: w * 0), batch)[:, -1], before)


def test_a_kernel_without_a_mask_function_is_refused() -> None:
    from transformers import AttentionInterface

    def careless(*given: Any, **options: Any) -> Any:
        raise NotImplementedError

    AttentionInterface.register("careless_for_a_test", careless)
    model = build("llava")
    model.model.language_model.set_attn_implementation("careless_for_a_test")
    with pytest.raises(CannotAttach, match="no mask function registered"):
        PAI().attach(model)
    assert "careless_for_a_test" in kernels(model)


def test_a_kernel_of_one_s_own_is_delegated_to() -> None:
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    calls: list[str] = []

    def own(
        module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any = None, **more: Any
    ) -> Any:
        calls.append(type(module).__name__)
        return sdpa_attention_forward(module, query, key, value, attention_mask, **more)

    AttentionInterface.register("own_for_a_test", own)
    AttentionMaskInterface.register("own_for_a_test", AttentionMaskInterface()["sdpa"])
    model, batch = build("llava"), inputs("llava", ((5, 6, 7), (8, 9)))
    with PAI(first_layer=0).attach(model):
        expected = answer(model, batch)
    model.model.language_model.set_attn_implementation("own_for_a_test")
    with PAI(first_layer=0).attach(model):
        assert answer(model, batch) == expected
    assert set(calls) == {"LlamaAttention"}


def test_a_kernel_chosen_while_attached_is_kept_and_a_second_patch_says_so() -> None:
    model = build("llava")
    on = PAI().attach(model)
    model.set_attn_implementation("eager")
    with pytest.raises(CannotAttach, match="no longer acts"):
        PAI().attach(model)
    on.remove()
    assert set(kernels(model)) == {"eager"}


def test_attention_sinks_are_refused_instead_of_ignored() -> None:
    from vlmtools.families._rows import apply

    model = tiny("llava")
    on = live(model)
    edit = RowEdit("all", scores=lambda _, w: w, needs_image=False).install(on, on.anatomy.attention[-1:])
    plan = on.anatomy.attention[-1].module.__dict__["_vlmtools_plans"][0]
    with pytest.raises(BadInput, match="s_aux"):
        apply([plan], _call(s_aux=torch.zeros(4)), (torch.zeros(2, 4, 4, 8), None))
    edit.remove()
    on.session.close()
