"""What an engine is, and what it is given to do."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self, TypeVar

from vlmtools.types import Json

Call = TypeVar("Call")
Result = TypeVar("Result", covariant=True)


@dataclass(frozen=True, slots=True)
class Failed:
    """Stands in the place of a result when a call gave nothing.

    Args:
        why: The reason, for the run's record of failures.
    """

    why: str = ""


class Work(Protocol[Call, Result]):
    """What is done with calls. It must survive being copied to another machine before `do` was ever called."""

    @property
    def name(self) -> str:
        """Who is asked, for messages."""
        ...

    @property
    def loads_a_model(self) -> bool:
        """Whether `do` loads a model into the worker's own memory, and so wants a GPU where there is one."""
        ...

    def identity(self) -> Mapping[str, Json]:
        """What, apart from the call, decides a result; found anew on every machine, so that they can be compared."""
        ...

    def travelling(self, call: Call) -> Call:
        """The call as another machine can read it: file names do not depend on the current folder."""
        ...

    def do(self, calls: Sequence[Call]) -> Iterator[tuple[int, Result | Failed]]:
        """Yield (index of the call, its result) in any order, as they come.

        Raises:
            VlmToolsError: The setup is wrong, so that no call can succeed.
        """
        ...

    def close(self) -> None:
        """Free memory and connections; may be called twice."""
        ...


class Engine(Protocol):
    """Makes calls, here or elsewhere."""

    def size(self, chunk: int) -> int:
        """How many calls belong into one block.

        Args:
            chunk: How many are handed over at once in this process.
        """
        ...

    def map(
        self, blocks: Iterable[Sequence[Call]], work: Work[Call, Result]
    ) -> Iterator[tuple[Call, Result | Failed]]:
        """Yield every call with its result, as they come.

        Args:
            blocks: Calls that are made together; taken as they are needed, so that a generator stays small.
            work: What is done with them.

        Raises:
            VlmToolsError: What `work` raised: the setup is wrong.
        """
        ...

    def close(self) -> None:
        """Give back what the engine itself started; may be called twice."""
        ...

    def __enter__(self) -> Self:
        """For a `with` block."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        ...
