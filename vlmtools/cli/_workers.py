"""What `vlmtools eval` does when several processes share a run."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from vlmtools.benchmarks._evaluation import Evaluation
    from vlmtools.crosscheck.budget import Budget
    from vlmtools.evaluate.run import Question, Run
    from vlmtools.evaluate.workers import Worker
    from vlmtools.types import Json


def start(n: int, model: str, folder: Path, asked: "Question") -> None:
    """Start workers with this process's own command line and wait for them.

    Args:
        n: How many.
        model: What the user typed.
        folder: The run folder.
        asked: The question.

    Raises:
        BadInput: The model is a server's.
        ResponderError: A worker failed.
    """
    from vlmtools.cli._screen import progress
    from vlmtools.errors import BadInput
    from vlmtools.evaluate.launching import launch, without

    if model.startswith("server:"):
        raise BadInput(
            "--workers copies a model of this machine, and a server answers many calls at once: use --concurrency."
        )
    with progress() as told:
        launch(without(sys.argv[1:], "--workers"), n, folder, len(asked.samples), told)


def share(
    run: "Run",
    worker: "Worker",
    folder: Path,
    budget: "Budget | None",
    baseline: Path | None,
    record: "dict[str, Json]",
) -> "Evaluation | None":
    """Ask this worker's share; the result, if it is the last one and nobody else is to score.

    Args:
        run: The question; its store is the worker's own folder.
        worker: Which worker this is.
        folder: The run folder.
        budget: Limit on the whole run.
        baseline: Answers of a baseline.
        record: Joined to the record.
    """
    from dataclasses import replace

    from vlmtools.cli._screen import progress
    from vlmtools.crosscheck.collect import silent
    from vlmtools.evaluate.launching import launched, watch_parent
    from vlmtools.evaluate.workers import ask_share, open_when_free, score_when_last
    from vlmtools.report.evaluation import write_outputs

    if launched():
        watch_parent()
    worker.take_device()
    with progress() as told:
        ask_share(run, worker, folder, budget, silent if worker.rank or launched() else told)
    if launched():
        return None
    with open_when_free(folder) as store:
        found = score_when_last(replace(run, store=store), worker, baseline, record)
        if found is None:
            typer.echo(
                f"Worker {worker.rank} of {worker.of} has asked its share; the last one to end scores.",
                err=True,
            )
        else:
            write_outputs(store, found)
    return found
