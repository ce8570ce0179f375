"""What one worker of a cluster does with one block of calls, and the ledger that all workers share."""

import json
import logging
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vlmtools.engine.base import Work
from vlmtools.errors import BadInput, VlmToolsError
from vlmtools.types import Json

log = logging.getLogger(__name__)

TRIES = 2
"""How often a block is begun, each time by a new process, before its calls are made one by one."""


@dataclass(frozen=True, slots=True)
class Block:
    """Calls on their way to a worker.

    Args:
        number: Unique in the run.
        calls: What is to be done.
    """

    number: int
    calls: Sequence[Any]


@dataclass(frozen=True, slots=True)
class Back:
    """What a worker gives back.

    Args:
        number: The block's.
        results: (index of the call, its result).
        problem: The setup is wrong: the run ends with this.
        gave_up: The block was begun too often already; nothing was done.
        why: What went wrong the last time, when known.
    """

    number: int
    results: Sequence[tuple[int, Any]] = field(default_factory=tuple)
    problem: VlmToolsError | None = None
    gave_up: bool = False
    why: str = ""


class Ledger:
    """What became of each block: how often it was begun, why it failed the last time, whether its results are here."""

    def __init__(self) -> None:
        self._begun: dict[int, int] = {}
        self._why: dict[int, str] = {}
        self._done: set[int] = set()

    def begin(self, number: int) -> tuple[int, str]:
        """Count one more try; gives the count, 0 for a block that is done, and the last reason.

        Args:
            number: The block's.
        """
        if number in self._done:
            return 0, ""
        self._begun[number] = self._begun.get(number, 0) + 1
        return self._begun[number], self._why.get(number, "")

    def note(self, number: int, why: str) -> None:
        """Remember why a try failed.

        Args:
            number: The block's.
            why: The reason.
        """
        self._why[number] = why

    def done(self, number: int) -> None:
        """Its results are with the driver: Ray may begin it again when a node dies, but nobody is asked again.

        Args:
            number: The block's.
        """
        self._done.add(number)


class Worker:
    """One process of a pool, with one model in memory.

    Args:
        work: What is done; opened here, at the first block.
        expected: What decides the results, as the driver found it.
        ledger: Handle of what knows how often a block was begun, and which blocks are done.
    """

    def __init__(self, work: Work[Any, Any], expected: Mapping[str, Json], ledger: Any) -> None:
        self._work, self._expected, self._ledger = work, expected, ledger
        self._compared = False

    def __call__(self, frame: Any) -> Any:
        """One block, in and out as a table with one row.

        Args:
            frame: A pandas table with a `Block`.
        """
        import pandas as pd

        return pd.DataFrame({"back": [self._back(frame["block"].iloc[0])]})

    def _back(self, block: Block) -> Back:
        import ray

        begun, why = ray.get(self._ledger.begin.remote(block.number))
        if begun == 0:
            return Back(block.number)
        if begun > TRIES:
            return Back(block.number, gave_up=True, why=why)
        results: list[tuple[int, Any]] = []
        try:
            self._compare()
            for pair in self._work.do(block.calls):
                results.append(pair)  # one by one: what came before a problem is kept
        except VlmToolsError as problem:
            return Back(block.number, results, problem)
        except Exception as problem:
            log.exception("%s: a block of %d calls failed", self._work.name, len(block.calls))
            ray.get(self._ledger.note.remote(block.number, f"{type(problem).__name__}: {problem}"))
            # Nobody knows what state a model is in after this (a CUDA error breaks the whole process): begin anew.
            os._exit(1)
        return Back(block.number, results)

    def _compare(self) -> None:
        """Refuse to answer in the name of another model."""
        if self._compared:
            return
        differences = differing(self._expected, self._work.identity())
        if differences:
            raise BadInput(
                f"{self._work.name!r} would be another one on the node {platform.node()!r}: {'; '.join(differences)}. "
                "Answers are stored under what the driver sees. Give every node the same model files and the same "
                "versions of vlmtools and its packages."
            )
        self._compared = True


def differing(here: Mapping[str, Json], there: Mapping[str, Json]) -> list[str]:
    """What two identities do not share, in words.

    Args:
        here: The driver's.
        there: The worker's.
    """
    ours, theirs = (json.loads(json.dumps(dict(one), default=str)) for one in (here, there))
    return [
        f"{name} is {theirs.get(name)!r}, here {ours.get(name)!r}"
        for name in sorted({*ours, *theirs})
        if ours.get(name) != theirs.get(name)
    ]
