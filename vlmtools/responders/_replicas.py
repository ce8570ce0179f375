"""Several servers with the same model: each call goes to the one with the fewest open calls; a failing one rests."""

import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from vlmtools.errors import BadInput
from vlmtools.responders._http import endpoint

_BETWEEN = re.compile(r",\s*(?=https?://)", re.IGNORECASE)


def addresses(url: str) -> tuple[str, ...]:
    """The addresses of chat completions in `URL1,URL2,…`.

    Args:
        url: One base address or several, separated by commas.

    Raises:
        BadInput: One of them cannot be used, or stands there twice.
    """
    found = tuple(endpoint(one) for one in _BETWEEN.split(url.strip()))
    twice = next((one for one in found if found.count(one) > 1), None)
    if twice is not None:
        raise BadInput(f"The server {twice} is named twice. Name each replica once.")
    return found


@dataclass
class _Replica:
    """One server.

    Args:
        where: Its address.
        n_open: Calls under way.
        n_failed: Failures since the last success.
        rests_until: When it is tried again, on the clock of `Replicas`.
    """

    where: str
    n_open: int = 0
    n_failed: int = 0
    rests_until: float = 0.0


class Replicas:
    """Who is asked next. May be used from several threads.

    A server that failed rests, longer after every failure in a row; then it gets one call at a time until one
    succeeds. When all of them rest, the one whose rest ends first is asked: the caller does the waiting.

    Args:
        where: The addresses.
        rest_s: First rest in seconds; it doubles.
        longest_s: Longest rest in seconds.
        clock: Seconds, growing.
    """

    def __init__(
        self,
        where: Sequence[str],
        rest_s: float = 1.0,
        longest_s: float = 120.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._replicas = [_Replica(one) for one in where]
        self.rest_s, self.longest_s, self._clock = rest_s, longest_s, clock
        self._guard = threading.Lock()

    def __len__(self) -> int:
        return len(self._replicas)

    @property
    def where(self) -> list[str]:
        """All addresses."""
        return [one.where for one in self._replicas]

    def __getstate__(self) -> dict[str, object]:
        """For another process, which counts its own calls."""
        return {"where": self.where, "rest_s": self.rest_s, "longest_s": self.longest_s}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    @contextmanager
    def use(self) -> Iterator[str]:
        """The address for one call, which is open until the block ends."""
        with self._guard:
            chosen = self._best()
            chosen.n_open += 1
        try:
            yield chosen.where
        finally:
            with self._guard:
                chosen.n_open -= 1

    def answered(self, where: str) -> None:
        """The server gave an answer of whatever kind."""
        with self._guard:
            replica = self._of(where)
            replica.n_failed, replica.rests_until = 0, 0.0

    def failed(self, where: str, pause_s: float = 0.0) -> None:
        """The server could not be reached, broke off or is overloaded: it rests.

        Args:
            where: Its address.
            pause_s: What it asked for; 0 when it did not.
        """
        with self._guard:
            replica = self._of(where)
            if replica.n_failed and self._clock() < replica.rests_until and not pause_s:
                return  # calls that were under way together fail together: that is one failure
            rest = pause_s or min(self.longest_s, self.rest_s * 2.0**replica.n_failed)
            replica.n_failed += 1
            replica.rests_until = self._clock() + rest

    def another_is_ready(self) -> bool:
        """Whether a further try may be made at once, because a server is there that does not rest."""
        with self._guard:
            return len(self._replicas) > 1 and any(self._ready(one) for one in self._replicas)

    def _of(self, where: str) -> _Replica:
        return next(one for one in self._replicas if one.where == where)

    def _ready(self, replica: _Replica) -> bool:
        if not replica.n_failed:
            return True
        return self._clock() >= replica.rests_until and not replica.n_open  # on trial: one call at a time

    def _best(self) -> _Replica:
        ready = [one for one in self._replicas if self._ready(one)]
        if ready:
            return min(ready, key=lambda one: one.n_open)
        return min(self._replicas, key=lambda one: (one.rests_until, one.n_open))
