"""The calls that were handed over and have not come back: what the driver of a cluster keeps in mind."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Generic

from vlmtools.engine.base import Call, Failed, Result
from vlmtools.engine.block import Back


class Underway(Generic[Call, Result]):
    """Blocks in the order they are handed over, with numbers from 0 in every sitting.

    A block that workers gave up comes again as blocks of one call each; a call given up alone has failed.

    Args:
        blocks: Calls that are made together; taken as they are needed.
    """

    def __init__(self, blocks: Iterable[Sequence[Call]]) -> None:
        self._source = iter(blocks)
        self._alone: deque[tuple[Call]] = deque()
        self._pending: dict[int, tuple[Sequence[Call], bool]] = {}
        self._next = 0
        self._dry = False
        self.closed = False
        """Whether nothing more is handed over in this sitting; a block that is given up waits for the next one."""
        self.n_alone = 0
        """Calls that were given up together and made alone."""

    def more(self, most: int, last: int) -> dict[int, Sequence[Call]]:
        """The next blocks by number, until so many are under way; closes the sitting when there are no others.

        Args:
            most: Blocks under way, from 1.
            last: Blocks of a sitting, from 1.
        """
        found: dict[int, Sequence[Call]] = {}
        while not self.closed and len(self._pending) < most:
            if (block := self._block()) is None:
                self.closed = True
                break
            self._pending[self._next], found[self._next] = block, block[0]
            self._next += 1
            self.closed = self._next == last
        return found

    def _block(self) -> tuple[Sequence[Call], bool] | None:
        if self._alone:
            return self._alone.popleft(), True
        calls = None if self._dry else next(self._source, None)
        self._dry = calls is None
        return None if calls is None else (calls, False)

    @property
    def n(self) -> int:
        """Blocks under way."""
        return len(self._pending)

    @property
    def over(self) -> bool:
        """Whether every call has its result."""
        return self._dry and not self._alone and not self._pending

    def back(self, back: Back) -> Iterator[tuple[Call, Result | Failed]]:
        """The calls of a block with their results; nothing for one that was back before.

        Args:
            back: What a worker gave.

        Raises:
            VlmToolsError: The worker's problem, after what it did before.
        """
        if back.number not in self._pending:
            return
        calls, _ = self._pending[back.number]
        for index, result in back.results:
            yield calls[index], result
        if back.problem is not None:
            raise back.problem
        if back.gave_up:
            yield from self._lost(back.number, back.why)
        else:
            del self._pending[back.number]

    def stand_up(self) -> Iterator[tuple[Call, Result | Failed]]:
        """End a sitting: blocks that never came back are given up."""
        for number in list(self._pending):
            yield from self._lost(number, "")
        self._next, self.closed = 0, False

    def _lost(self, number: int, why: str) -> Iterator[tuple[Call, Failed]]:
        calls, alone = self._pending.pop(number)
        if alone:
            reason = why or "the worker died"
            yield calls[0], Failed(f"{reason} (every worker that began the call ended)")
            return
        self.n_alone += len(calls)
        self._alone.extend((call,) for call in calls)
