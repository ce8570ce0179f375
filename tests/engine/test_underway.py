"""What a driver keeps in mind of the calls on their way, and the ledger beside it."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from vlmtools.engine.base import Failed
from vlmtools.engine.block import Back
from vlmtools.engine.ledger import Ledger
from vlmtools.engine.underway import Underway
from vlmtools.errors import BadInput


def test_blocks_are_taken_as_others_come_back_and_no_more_than_so_many_are_under_way() -> None:
    taken: list[int] = []

    def blocks() -> Iterator[list[int]]:
        for k in range(5):
            taken.append(k)
            yield [k, 10 + k]

    under_way: Underway[int, str] = Underway(blocks())
    assert under_way.more(2, 99) == {0: [0, 10], 1: [1, 11]}
    assert (taken, under_way.more(2, 99)) == ([0, 1], {})
    assert list(under_way.back(Back(1, [(1, "b"), (0, "a")]))) == [(11, "b"), (1, "a")]
    assert list(under_way.back(Back(1, [(1, "b")]))) == [], "it was back before"
    assert under_way.more(2, 99) == {2: [2, 12]}
    assert not under_way.closed
    assert list(under_way.more(99, 99)) == [3, 4]
    assert (under_way.closed, under_way.over) == (True, False)
    for number in (0, 2, 3, 4):
        list(under_way.back(Back(number)))
    assert under_way.over


def test_a_block_that_is_given_up_comes_again_call_by_call_and_then_fails() -> None:
    under_way: Underway[int, str] = Underway([[1, 2], [3]])
    assert list(under_way.more(1, 99)) == [0]
    assert list(under_way.back(Back(0, gave_up=True, why="boom"))) == []
    assert under_way.more(3, 99) == {1: (1,), 2: (2,), 3: [3]}
    assert list(under_way.back(Back(1, [(0, "one")]))) == [(1, "one")]
    assert list(under_way.back(Back(2, gave_up=True, why="boom"))) == [
        (2, Failed("boom (every worker that began the call ended)"))
    ]
    assert list(under_way.back(Back(3, [(0, "three")]))) == [(3, "three")]
    assert (under_way.over, under_way.n_alone) == (False, 2), "whether there is more shows at the next look"
    assert under_way.more(3, 99) == {}
    assert under_way.over


def test_a_block_given_up_when_nothing_else_is_left_waits_for_the_next_sitting() -> None:
    under_way: Underway[int, str] = Underway([[1, 2]])
    assert list(under_way.more(9, 9)) == [0]
    assert under_way.closed
    list(under_way.back(Back(0, gave_up=True)))
    assert (under_way.more(9, 9), under_way.over) == ({}, False), "its number would not be read any more"
    assert list(under_way.stand_up()) == []
    assert under_way.more(9, 9) == {0: (1,), 1: (2,)}


def test_what_never_came_back_is_given_up_when_a_sitting_ends() -> None:
    under_way: Underway[int, str] = Underway([[1, 2], [3, 4]])
    assert list(under_way.more(9, 1)) == [0], "a sitting has so many numbers"
    assert (under_way.closed, under_way.more(9, 1)) == (True, {})
    assert list(under_way.stand_up()) == []
    assert under_way.more(9, 9) == {0: (1,), 1: (2,), 2: [3, 4]}
    assert list(under_way.back(Back(0, [(0, "one")]))) == [(1, "one")]
    failed = list(under_way.stand_up())
    assert failed == [(2, Failed("the worker died (every worker that began the call ended)"))]
    assert under_way.more(9, 9) == {0: (3,), 1: (4,)}


def test_a_problem_ends_the_run_after_what_came_before_it() -> None:
    under_way: Underway[int, str] = Underway([[1, 2]])
    under_way.more(1, 1)
    came = under_way.back(Back(0, [(0, "one")], BadInput("wrong")))
    assert next(came) == (1, "one")
    with pytest.raises(BadInput, match="wrong"):
        next(came)


def test_the_ledger_waits_for_blocks_counts_tries_and_forgets_what_is_done() -> None:
    async def story() -> Any:
        ledger = Ledger()
        early = asyncio.create_task(ledger.comes(1))
        await ledger.add({0: ["a"]})
        assert await ledger.comes(0)
        assert not early.done()
        await ledger.add({1: ["b", "c"]})
        assert await early
        tries = [await ledger.begin(1)]
        await ledger.note(1, "boom")
        tries += [await ledger.begin(1), await ledger.begin(0)]
        late = asyncio.create_task(ledger.comes(2))
        await ledger.done(1)
        await ledger.add({}, last=True)
        tries.append(await ledger.begin(1))
        kept = [vars(ledger)[name].keys() for name in ("_calls", "_begun", "_why")]
        return tries, await late, await ledger.comes(1), kept

    tries, late, again, kept = asyncio.run(story())
    assert tries == [(1, "", ["b", "c"]), (2, "boom", ["b", "c"]), (1, "", ["a"]), (0, "", ())]
    assert (late, again) == (False, True), "a stream that is read again says the same"
    assert kept == [{0}, {0}, set()]
