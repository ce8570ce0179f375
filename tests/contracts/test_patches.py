"""What every patch keeps on every family: neutral is exact, removal is exact, nothing is left behind."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from matrix import FAMILIES, PATCHES, VARIED, attached, hooks, inputs, kernels, logits, patch, scores, tiny

from vlmtools.errors import CannotAttach
from vlmtools.patches.base import Handle, Live, Patch

EVERY = [(one, kind) for one in PATCHES for kind in FAMILIES]
every = pytest.mark.parametrize(("name", "kind"), EVERY, ids=["-".join(pair) for pair in EVERY])


@every
def test_neutral_strength_leaves_every_logit_bit_identical(name: str, kind: str) -> None:
    model, batch = tiny(kind), inputs(kind, ((5, 6, 7), (8, 9)))
    before = logits(model, batch)
    with attached(patch(name, neutral=True), model):
        assert torch.equal(logits(model, batch), before)


@every
def test_attaching_does_something_and_removing_restores_the_model_exactly(name: str, kind: str) -> None:
    model, batch = tiny(kind), inputs(kind)
    before = logits(model, batch), hooks(model), kernels(model)
    with attached(patch(name), model) as on:
        logits(model, batch)
        assert on.status().modules or on.status().notes, "the patch says nowhere what it did"
        assert hooks(model) != before[1], "nothing was attached"
    assert torch.equal(logits(model, batch), before[0])
    assert hooks(model) == before[1]
    assert kernels(model) == before[2]


@every
def test_an_error_inside_the_block_takes_the_patch_off(name: str, kind: str) -> None:
    model, batch = tiny(kind), inputs(kind)
    before = logits(model, batch), hooks(model), kernels(model)
    with pytest.raises(ZeroDivisionError), attached(patch(name), model):
        logits(model, batch)
        raise ZeroDivisionError
    assert torch.equal(logits(model, batch), before[0])
    assert (hooks(model), kernels(model)) == before[1:]


@every
def test_a_patch_that_fails_half_way_leaves_nothing_behind(name: str, kind: str) -> None:
    model = tiny(kind)
    before = hooks(model), kernels(model)
    whole = patch(name)
    n_handles = _count(whole, model)

    for stop in range(n_handles + 1):
        with pytest.raises(ZeroDivisionError):
            _Failing(whole, stop).attach(model)
        assert (hooks(model), kernels(model)) == before, f"after {stop} of {n_handles} handles"


@every
@pytest.mark.parametrize("first_off", [0, 1], ids=["outer-first", "inner-first"])
def test_two_patches_come_off_in_either_order(name: str, kind: str, first_off: int) -> None:
    model, batch = tiny(kind), inputs(kind)
    before = logits(model, batch), hooks(model), kernels(model)
    with attached(patch(name), model) as outer:
        alone = logits(model, batch)
        inner = _partner(name).attach(model)
        logits(model, batch)
        pair = [outer, inner]
        pair[first_off].remove()
        left = pair[1 - first_off]
        if left is outer:
            assert torch.equal(logits(model, batch), alone)
        left.remove()
    assert torch.equal(logits(model, batch), before[0])
    assert (hooks(model), kernels(model)) == before[1:]


def _partner(name: str) -> Patch:
    """Another kind of patch that works on every family."""
    return patch("vhr")


class _Failing(Patch):
    """The first handles of another patch, and then an error."""

    def __init__(self, whole: Patch, stop: int) -> None:
        self.whole, self.stop = whole, stop

    def hooks(self, live: Live) -> Iterator[Handle]:
        for n, handle in enumerate(self.whole.hooks(live)):
            if n == self.stop:
                handle.remove()
                raise ZeroDivisionError
            yield handle
        raise ZeroDivisionError

    @classmethod
    def neutral(cls) -> Any:
        raise NotImplementedError


def _count(whole: Patch, model: Any) -> int:
    class Counting(_Failing):
        n = 0

        def hooks(self, live: Live) -> Iterator[Handle]:
            for handle in self.whole.hooks(live):
                Counting.n += 1
                yield handle

    try:
        Counting(whole, 0).attach(model).remove()
    except CannotAttach as reason:
        pytest.skip(f"refused: {reason}")
    return Counting.n


@pytest.mark.parametrize("name", PATCHES)
def test_a_patch_changes_what_some_family_predicts(name: str) -> None:
    """A patch that changes nothing anywhere is not wired to anything; single steps may leave a family alone."""
    for kind in VARIED:
        model, batch = tiny(kind), inputs(kind, ((5, 6, 7), (8, 9)))
        try:
            on = patch(name).attach(model)
        except CannotAttach:
            continue
        with on:
            changed = scores(model, batch)
        if not torch.equal(changed, scores(model, batch)):
            return
    pytest.fail(f"{name} changes nothing on {', '.join(VARIED)}")
