"""What one worker of a cluster does with one block of calls."""

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


class Worker:
    """One process of a pool, with one model in memory.

    Args:
        work: What is done; opened here, at the first block.
        expected: What decides the results, as the driver found it.
        ledger: Handle of the `Ledger`.
    """

    def __init__(self, work: Work[Any, Any], expected: Mapping[str, Json], ledger: Any) -> None:
        self._work, self._expected, self._ledger = work, expected, ledger
        self._compared = False

    def __call__(self, frame: Any) -> Any:
        """One block, in by its number, out with its results, as tables with one row.

        Args:
            frame: A pandas table with the number of a block.
        """
        import pandas as pd

        return pd.DataFrame({"back": [self._back(int(frame["number"].iloc[0]))]})

    def _back(self, number: int) -> Back:
        import ray

        begun, why, calls = ray.get(self._ledger.begin.remote(number))
        if begun == 0:
            return Back(number)
        if begun > TRIES:
            return Back(number, gave_up=True, why=why)
        try:
            back = self._done(number, calls)
            ray.cloudpickle.dumps(
                back
            )  # what Ray cannot send fails here, where it is noted, and not on its way
            return back
        except Exception as problem:
            log.exception("%s: a block of %d calls failed", self._work.name, len(calls))
            ray.get(self._ledger.note.remote(number, f"{type(problem).__name__}: {problem}"))
            # Nobody knows what state a model is in after this (a CUDA error breaks the whole process): begin anew.
            os._exit(1)

    def _done(self, number: int, calls: Sequence[Any]) -> Back:
        results: list[tuple[int, Any]] = []
        try:
            self._compare()
            for pair in self._work.do(calls):
                results.append(pair)  # one by one: what came before a problem is kept
        except VlmToolsError as problem:
            return Back(number, results, problem)
        return Back(number, results)

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
