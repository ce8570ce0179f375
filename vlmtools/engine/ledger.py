"""The calls on their way to workers, and what became of them: an actor beside the driver."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from typing import Any


class Ledger:
    """Blocks of calls by number, from 0 without gaps, until their results are with the driver.

    The stream of numbers says the same whenever it is read again, because Ray may do so: it is a count, and a block
    that is done has no calls any more. So nobody is asked again, whatever Ray repeats. Nothing is kept of what is done.
    """

    def __init__(self) -> None:
        self._calls: dict[int, Sequence[Any]] = {}
        self._begun: dict[int, int] = {}
        self._why: dict[int, str] = {}
        self._n, self._over = 0, False
        self._news = asyncio.Condition()

    async def add(self, blocks: Mapping[int, Sequence[Any]], last: bool = False) -> None:
        """Take in blocks that follow those there were.

        Args:
            blocks: Calls by number.
            last: No more will come.
        """
        async with self._news:
            self._calls.update(blocks)
            self._n += len(blocks)
            self._over = last
            self._news.notify_all()

    async def comes(self, number: int) -> bool:
        """Wait until the block is here, or it is known that it will never come.

        Args:
            number: The block's.
        """
        async with self._news:
            await self._news.wait_for(lambda: self._over or number < self._n)
        return number < self._n

    async def begin(self, number: int) -> tuple[int, str, Sequence[Any]]:
        """Count one more try; gives the count, 0 for a block that is done, the last reason, and the calls.

        Args:
            number: The block's.
        """
        if number not in self._calls:
            return 0, "", ()
        self._begun[number] = self._begun.get(number, 0) + 1
        return self._begun[number], self._why.get(number, ""), self._calls[number]

    async def note(self, number: int, why: str) -> None:
        """Remember why a try failed.

        Args:
            number: The block's.
            why: The reason.
        """
        self._why[number] = why

    async def done(self, number: int) -> None:
        """Its results are with the driver, or it was given up: Ray may begin it again, but nobody is asked again.

        Args:
            number: The block's.
        """
        for one in (self._calls, self._begun, self._why):
            one.pop(number, None)


def numbers(_frame: Any, ledger: Any) -> Iterator[Any]:
    """One table per block as it comes, with its number.

    Args:
        ledger: Handle of a `Ledger`.
    """
    import pandas as pd
    import ray

    number = 0
    while ray.get(ledger.comes.remote(number)):
        yield pd.DataFrame({"number": [number]})
        number += 1
