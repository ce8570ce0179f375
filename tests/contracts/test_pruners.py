"""What every pruner keeps on every family: neutral is exact, budgets hold, the cache is short, removal is exact."""

from pathlib import Path
from typing import Any

import pytest
import torch
from matrix import (
    FAMILIES,
    PAIR,
    VARIED,
    answer,
    attached,
    build,
    hooks,
    inputs,
    kernels,
    logits,
    patch,
    single,
    tiny,
)
from torch import Tensor

from vlmtools import pruning, registry
from vlmtools.errors import CannotAttach
from vlmtools.families._cache import held_cache
from vlmtools.pruning.base import TokenPruner, View

PRUNERS = registry.names(pruning)
QUICK = ("llava", "qwen2_5_vl")
"""Run by default; the others with `-m slow`."""


def cases() -> list[Any]:
    return [
        pytest.param(name, kind, id=f"{name}-{kind}", marks=() if kind in QUICK else pytest.mark.slow)
        for name in PRUNERS
        for kind in FAMILIES
    ]


every = pytest.mark.parametrize(("name", "kind"), cases())


def pruner(name: str, neutral: bool = False) -> TokenPruner:
    kind = registry.load(pruning, name, TokenPruner)  # type: ignore[type-abstract]
    return kind.neutral() if neutral else kind.tiny()


@every
def test_neutral_leaves_every_logit_and_every_answer_bit_identical(name: str, kind: str) -> None:
    model, batch = tiny(kind), inputs(kind, PAIR)
    before = logits(model, batch), answer(model, batch)
    with attached(pruner(name, neutral=True), model):
        assert torch.equal(logits(model, batch), before[0])
        assert answer(model, batch) == before[1]


@every
def test_a_short_prompt_fills_a_short_cache_and_the_answer_follows_the_whole_prompt(
    name: str, kind: str
) -> None:
    model, batch, one = tiny(kind), inputs(kind, PAIR), pruner(name)
    length = batch["input_ids"].shape[1]
    with attached(one, model) as on:
        out = model.generate(**batch, max_new_tokens=3, do_sample=False, return_dict_in_generate=True)
        report = on.report()  # type: ignore[attr-defined]
        status = on.status()
    assert report.length_before == length
    assert torch.equal(out.sequences[:, :length], batch["input_ids"])
    assert out.sequences.shape[1] == length + 3
    assert held_cache(out).get_seq_length() == report.length_after + 2
    assert report.n_after < report.n_before
    gone = [sum(dropped(one) for one in report.views if one.row == row) for row in range(2)]
    assert sum(gone) == report.n_before - report.n_after
    real = batch["attention_mask"].sum(-1).tolist()
    assert report.length_after == max(real[0] - gone[0], real[1] - gone[1])
    for view in report.views:
        n = view.grid[0] * view.grid[1]
        assert 1 <= view.selection.n_tokens <= one.budget(n)
        inside = torch.cat([view.selection.kept[:0], *view.selection.kinds.values()])
        assert set(inside.tolist()) <= set(range(n))
    assert status.modules and status.tokens


def dropped(view: View) -> int:
    return view.grid[0] * view.grid[1] - view.selection.n_tokens


@every
def test_each_prompt_of_a_batch_is_pruned_and_answered_as_alone(name: str, kind: str) -> None:
    model, one = tiny(kind), pruner(name)
    with attached(one, model) as on:
        together, kept = answer(model, inputs(kind, PAIR)), views(on)
        first = answer(model, single(kind, 0)), views(on)
        assert first == ([together[0]], [view for view in kept if view[0] == 0])
        if name != "random":  # its draw depends on the number of the view
            assert answer(model, single(kind, 1)) == [together[1]]


def views(on: Any) -> list[tuple[int, list[int]]]:
    return [(one.row, one.selection.kept.tolist()) for one in on.report().views]


@every
def test_the_same_prompt_is_pruned_the_same_twice(name: str, kind: str) -> None:
    model, batch = tiny(kind), inputs(kind, PAIR)
    with attached(pruner(name), model) as on:
        twice = [(answer(model, batch, num_beams=2), views(on)) for _ in range(2)]
    assert twice[0] == twice[1]


@every
def test_removal_restores_the_model_exactly_also_after_an_error(name: str, kind: str) -> None:
    model, batch = tiny(kind), inputs(kind)
    before = logits(model, batch), hooks(model), kernels(model)
    with pytest.raises(ZeroDivisionError), attached(pruner(name), model):
        logits(model, batch)
        raise ZeroDivisionError
    assert torch.equal(logits(model, batch), before[0])
    assert (hooks(model), kernels(model)) == before[1:]


@every
@pytest.mark.parametrize("first_off", [0, 1], ids=["outer-first", "inner-first"])
def test_a_pruner_and_a_patch_come_off_in_either_order(name: str, kind: str, first_off: int) -> None:
    model, batch = tiny(kind), inputs(kind)
    before = logits(model, batch), hooks(model), kernels(model)
    with attached(pruner(name), model) as outer:
        alone: Tensor = logits(model, batch)
        inner = patch("vhr").attach(model)
        logits(model, batch)
        pair = [outer, inner]
        pair[first_off].remove()
        if first_off:
            assert torch.equal(logits(model, batch), alone)
        pair[1 - first_off].remove()
    assert torch.equal(logits(model, batch), before[0])
    assert (hooks(model), kernels(model)) == before[1:]


@pytest.mark.parametrize("name", PRUNERS)
def test_every_pruner_works_on_some_family(name: str) -> None:
    for kind in VARIED:
        try:
            with pruner(name).attach(tiny(kind)) as on:
                logits(tiny(kind), inputs(kind))
                assert on.report().views
                return
        except CannotAttach:
            continue
    pytest.fail(f"{name} attaches to none of {', '.join(VARIED)}")


@pytest.mark.parametrize("name", PRUNERS)
def test_a_name_and_settings_on_the_command_line_make_the_pruner(name: str) -> None:
    from vlmtools.patches._files import parse_patch

    assert parse_patch(f"{name}:keep=0.25").keep == 0.25  # type: ignore[attr-defined]
    counted: Any = parse_patch(f"{name}:keep=64")
    assert [counted.budget(n) for n in (9, 64, 576)] == [9, 64, 64]


@every
def test_the_cache_changes_nothing(name: str, kind: str) -> None:
    model, batch = tiny(kind), inputs(kind, PAIR)
    with attached(pruner(name), model):
        dynamic = answer(model, batch)
        assert answer(model, batch, use_cache=False) == dynamic
        assert answer(model, batch, cache_implementation="static") == dynamic


HOSTED = ("divprune", "hiprune", "visionzip", "cdpruner")
"""One that hears nothing, one that hears columns, one that hears keys and merges, one that reads the prompt."""
hosted = pytest.mark.parametrize(
    ("name", "kind"), [(name, kind) for name in HOSTED for kind in (*QUICK, "gemma3")]
)


@pytest.mark.slow
@hosted
def test_four_bit_weights(name: str, kind: str, tmp_path: Path) -> None:
    from test_environment import _loaded, _nf4

    model, batch = _loaded(kind, tmp_path, quantization_config=_nf4()), inputs(kind)
    before = logits(model, batch)
    with attached(pruner(name, neutral=True), model):
        assert torch.equal(logits(model, batch), before)
    with attached(pruner(name), model) as on:
        assert logits(model, batch).isfinite().all()
        answer(model, batch)
        report = on.report()  # type: ignore[attr-defined]
        assert report.n_after < report.n_before
    assert torch.equal(logits(model, batch), before)


@pytest.mark.slow
@hosted
def test_weights_offloaded_to_disk(name: str, kind: str, tmp_path: Path) -> None:
    from accelerate import disk_offload

    model, batch = build(kind), inputs(kind)
    with attached(pruner(name), model) as on:
        expected = logits(model, batch), answer(model, batch), views(on)
    disk_offload(model, tmp_path, execution_device=torch.device("cpu"))
    try:
        before = logits(model, batch), hooks(model), kernels(model)
        answer(model, batch)
    except RuntimeError as reason:
        pytest.skip(f"does not run offloaded without a pruner either: {reason}")
    with attached(pruner(name), model) as on:
        assert torch.equal(logits(model, batch), expected[0])
        assert (answer(model, batch), views(on)) == expected[1:]
    assert torch.equal(logits(model, batch), before[0])
    assert (hooks(model), kernels(model)) == before[1:]
