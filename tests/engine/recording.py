"""A responder that notes every call in a file, in whatever process it is made, and fails as told."""

import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vlmtools.types import Json, Reply, Request, Sample


@dataclass
class Recording:
    """It answers `echo ITEM DRAW`.

    Args:
        log: One line per call is appended here.
        raises: Items whose calls raise what is no error of vlmtools.
        kills: Items whose calls end the process.
        delay_s: Time every call takes.
        elsewhere: What the identity says in another process than the one that made this.
        name: In tables.
    """

    log: str
    raises: tuple[str, ...] = ()
    kills: tuple[str, ...] = ()
    delay_s: float = 0.0
    elsewhere: str = "same"
    name: str = "recording"
    made_in: int = 0

    def __post_init__(self) -> None:
        self.made_in = self.made_in or os.getpid()

    def identity(self) -> Mapping[str, Json]:
        return {"kind": "recording", "version": "same" if os.getpid() == self.made_in else self.elsewhere}

    def answer(self, requests: Sequence[Request]) -> Iterator[tuple[Request, Reply]]:
        for request in requests:
            item = request.sample.id
            with Path(self.log).open("a") as file:
                file.write(f"{item} {request.draw} {os.getpid()} {time.time()}\n")
            time.sleep(self.delay_s)
            if item in self.kills:
                os._exit(1)
            if item in self.raises:
                raise RuntimeError(f"{item} is poison")
            yield request, Reply(f"echo {item} {request.draw}", modality=())

    def close(self) -> None:
        """Nothing to free."""


def begun(log: Path) -> list[tuple[str, int, float]]:
    """(item, draw, time) of every call."""
    rows = [line.split() for line in log.read_text().split("\n")[:-1]] if log.exists() else []
    return [(row[0], int(row[1]), float(row[3])) for row in rows]


def calls(log: Path) -> Counter[tuple[str, int]]:
    """(item, draw) → how often it was asked."""
    return Counter((item, draw) for item, draw, _ in begun(log))


def processes(log: Path) -> set[str]:
    """Who asked."""
    return {line.split()[2] for line in log.read_text().split("\n")[:-1]}


def items(n: int) -> list[Sample]:
    return [Sample(f"item{k}", f"question {k}") for k in range(n)]
