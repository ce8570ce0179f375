"""Calls are made in this process, one block after the other."""

from collections.abc import Iterable, Iterator, Sequence
from types import TracebackType
from typing import Self

from vlmtools.engine.base import Call, Failed, Result, Work


class Local:
    """One model in memory, in the process that writes the run folder."""

    def size(self, chunk: int) -> int:
        """Blocks are as large as chunks.

        Args:
            chunk: How many calls are handed over at once.
        """
        return chunk

    def map(
        self, blocks: Iterable[Sequence[Call]], work: Work[Call, Result]
    ) -> Iterator[tuple[Call, Result | Failed]]:
        """Yield every call with its result; what `work` raises passes through.

        Args:
            blocks: Calls that are made together.
            work: What is done with them; it stays open, for it belongs to the caller.
        """
        for block in blocks:
            for index, result in work.do(block):
                yield block[index], result

    def close(self) -> None:
        """Nothing was started."""

    def __enter__(self) -> Self:
        """For a `with` block."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()
