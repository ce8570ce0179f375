"""Several processes ask copies of one model: each writes a folder of its own, and the last to end merges and scores.

No process waits for another one's message: there is no gather that could hang. A worker that is killed takes nothing
with it but the answer it was writing; the same line again, with any number of workers or with none, goes on.
"""

import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from vlmtools.benchmarks._evaluation import Evaluation
from vlmtools.crosscheck.budget import Budget, Metered
from vlmtools.crosscheck.collect import Draws, Progress, collect, silent, wanted
from vlmtools.errors import BadInput, StoreLocked
from vlmtools.evaluate.merging import FOLDER, check_same, stored_keys
from vlmtools.evaluate.run import Run
from vlmtools.store import Store
from vlmtools.types import Json, Sample

FINISHED = "finished"
"""File that a worker leaves in its folder when it has asked everything it was to ask."""
_RANK = ("RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK")
_SIZE = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE")
_LOCAL = ("LOCAL_RANK", "MPI_LOCALRANKID", "OMPI_COMM_WORLD_LOCAL_RANK")
_LAUNCH = ("TORCHELASTIC_RUN_ID", "MASTER_ADDR", "MASTER_PORT")
_PATIENCE_S = 600.0


@dataclass(frozen=True)
class Worker:
    """One of several processes that share a run.

    Args:
        rank: Which one, from 0.
        of: How many there are; 1 is an ordinary run.
        local: Which one of those on this machine: it takes the GPU of that number.
        launch: The same for all workers that were started together, and another one the next time.
    """

    rank: int = 0
    of: int = 1
    local: int = 0
    launch: str = ""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Self:
        """What `accelerate launch`, `torchrun` and `mpirun` tell their processes; an ordinary run without them.

        Args:
            environment: Variables; None takes this process's.

        Raises:
            BadInput: A variable is no such number.
        """
        told = os.environ if environment is None else environment
        rank, of = _number(told, _RANK, 0), _number(told, _SIZE, 1)
        if not 0 <= rank < of:
            raise BadInput(
                f"This process is told to be worker {rank} of {of} (RANK and WORLD_SIZE). Ranks begin at 0 and stay "
                "below the number of processes: start it with accelerate launch or torchrun, or unset both."
            )
        # On one machine the launcher is the parent of all; over several, what it names the launch has to do.
        here = told.get("LOCAL_WORLD_SIZE", f"{of}") == f"{of}"
        parent = [f"{os.getppid()}"] if here and of > 1 else []
        return cls(
            rank,
            of,
            _number(told, _LOCAL, rank),
            "-".join([*(told[name] for name in _LAUNCH if name in told), *parent]),
        )

    def ended(self, run: Path) -> bool:
        """Whether this worker has asked everything it was to ask in this launch."""
        file = self.folder(run) / FINISHED
        return file.is_file() and file.read_text() == self.launch

    def folder(self, run: Path) -> Path:
        """Where this worker writes."""
        return run / FOLDER / f"{self.rank}-of-{self.of}"

    def share(self, samples: Sequence[Sample]) -> tuple[Sample, ...]:
        """Every so-manieth item, so that all workers have the same mixture."""
        return tuple(samples[self.rank :: self.of])

    def budget(self, whole: Budget | None) -> Budget | None:
        """This worker's part of a limit; all of it where the limit is a time.

        Args:
            whole: The limit on the run.
        """
        if whole is None:
            return None
        calls = None if whole.calls is None else (whole.calls + self.of - 1 - self.rank) // self.of
        tokens, cost = (None if one is None else one / self.of for one in (whole.tokens, whole.cost))
        return Budget(calls, tokens, whole.minutes, cost, whole.price)

    def take_device(self) -> None:
        """Show this process one GPU only, where there are several; must come before the first use of CUDA."""
        import torch

        n = torch.cuda.device_count()
        if n > 1:
            given = os.environ.get("CUDA_VISIBLE_DEVICES")
            visible = given.split(",") if given else [str(number) for number in range(n)]
            os.environ["CUDA_VISIBLE_DEVICES"] = visible[self.local % n]


def ask_share(
    run: Run, worker: Worker, folder: Path, budget: Budget | None = None, progress: Progress = silent
) -> None:
    """Ask what falls to one worker and nobody has asked yet; worker 0 also does the controls.

    Args:
        run: The question and who is asked; its store is this worker's own folder.
        worker: Which one.
        folder: The run folder, which is only read.
        budget: Limit on the whole run.
        progress: Told after every answer.

    Raises:
        StoreMismatch: The run folder belongs to another question or model.
        BudgetSpent: This worker's part of the budget is used up.
    """
    check_same(folder, run.identity)
    run.store.bind(run.identity, {"worker": worker.rank, "of": worker.of})
    if worker.rank == 0:
        run.controls()
    draws = Draws(scored=run.asked.decoding)
    done = stored_keys(folder)
    calls = wanted(run.responder, worker.share(run.asked.samples), draws)
    todo = [request.sample for key, request in calls if key not in done]
    part = worker.budget(budget)
    paid = run.responder if part is None else Metered(run.responder, part)
    collect(run.store, paid, todo, draws, progress=progress)
    run.store.write_file(FINISHED, worker.launch)


def score_when_last(
    run: Run, worker: Worker, baseline: Path | None = None, record: Mapping[str, Json] | None = None
) -> Evaluation | None:
    """Merge, and score when nothing is left to ask; None while other workers are still asking.

    Args:
        run: The question; its store is the run folder.
        worker: Which worker this is.
        baseline: Answers of a baseline.
        record: Joined to the record.

    Raises:
        BadInput: All workers have ended, and items have no answer.
    """
    run.bind()
    calls = wanted(run.responder, run.asked.samples, Draws(scored=run.asked.decoding))
    whole = all(run.store.has("answers", key) for key, _ in calls)
    others = (replace(worker, rank=rank) for rank in range(worker.of))
    if not whole and not all(one.ended(run.store.folder) for one in others):
        return None
    some_will_do = run.asking.partial or run.scoring.partial or not run.asked.benchmark.whole
    if not whole and not (some_will_do and run.store.count("answers")):
        raise BadInput(_lacking(run.store))
    replayed = replace(run, asking=replace(run.asking, offline=True))
    return replayed.go(baseline=baseline, record=record)


def open_when_free(folder: Path, patience_s: float = _PATIENCE_S) -> Store:
    """The run folder, once the worker that is merging has left it.

    Args:
        folder: The run folder.
        patience_s: How long another process may hold it; a process that dies lets go of it at once.

    Raises:
        StoreLocked: Somebody holds it for longer.
    """
    end = time.monotonic() + patience_s
    while time.monotonic() < end:
        with suppress(StoreLocked):
            return Store(folder)
        time.sleep(0.1)
    return Store(folder)


def _lacking(store: Store) -> str:
    n = store.count("items") - store.count("answers")
    why = Counter(str(record.get("error")) for record in store.read("failures")).most_common(3)
    reasons = "; ".join(f"{reason} ({times})" for reason, times in why) or "no reason was given"
    return (
        f"{n:,} of {store.count('items'):,} items have no answer: {reasons[:400]}. Every other answer is kept: run the "
        "same line again to ask for them, or add --partial to score without them."
    )


def _number(told: Mapping[str, str], names: Sequence[str], usual: int) -> int:
    name = next((name for name in names if told.get(name)), None)
    if name is None:
        return usual
    try:
        return int(told[name])
    except ValueError as error:
        raise BadInput(
            f"The variable {name} is {told[name]!r}. A launcher sets it to a whole number: unset it, or start the run "
            "with accelerate launch or torchrun."
        ) from error
