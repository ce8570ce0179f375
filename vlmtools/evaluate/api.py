"""`vt.evaluate`: one call from a model, or a file of answers, to numbers with their intervals."""

from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from vlmtools.benchmarks._evaluation import Evaluation
from vlmtools.benchmarks.base import Benchmark, load_benchmark
from vlmtools.crosscheck.budget import Budget
from vlmtools.crosscheck.collect import Progress, silent
from vlmtools.crosscheck.sources import Source, is_table, resolve
from vlmtools.engine.base import Engine
from vlmtools.engine.spec import open_engine
from vlmtools.errors import BadInput
from vlmtools.evaluate.run import Asking, evaluate_model
from vlmtools.evaluate.scoring import Scoring, score_file
from vlmtools.responders.recorded import Recorded
from vlmtools.types import Json


def evaluate(
    source: Source,
    bench: str | Benchmark,
    *,
    data: str | Path | None = None,
    protocol: str | None = None,
    baseline: str | Path | None = None,
    out: str | Path | None = None,
    asking: Asking | None = None,
    scoring: Scoring | None = None,
    budget: Budget | None = None,
    progress: Progress = silent,
    model: Mapping[str, Any] | None = None,
    record: Mapping[str, Json] | None = None,
    engine: Engine | str = "local",
) -> Evaluation:
    """Evaluate a model, a server, or a file of recorded answers on a benchmark.

    Args:
        source: Hub id or folder of a model, `server:MODEL@URL`, a responder, or a file of answers.
        bench: A benchmark, or `name:key=value,…`.
        data: File or folder with the benchmark's data.
        protocol: Rule of the benchmark; None takes the official one.
        baseline: Answers of a baseline, for the benchmark's controls.
        out: Run folder; the same folder resumes. None makes one in `runs/` for models, and none for files.
        asking: What a model is asked and how; see `Asking`.
        scoring: Intervals and columns; see `Scoring`.
        budget: Limit on calls, tokens, time or money.
        progress: Told how far the answers are.
        model: Options of models and servers (`quant`, `batch_size`, `patches`, …).
        record: Joined to the record.
        engine: Where the model is asked: `local`, `ray`, `ray:ADDRESS`, or an `Engine` (docs/scale.md).

    Raises:
        BadInput: The source is neither a file of answers nor one model.
    """
    benchmark = load_benchmark(bench, protocol=protocol) if isinstance(bench, str) else bench
    place = None if data is None else Path(data)
    before = None if baseline is None else Path(baseline)
    if isinstance(source, str | Path) and is_table(str(source)):
        return score_file(Path(source), benchmark, place, baseline=before, setting=scoring, record=record)
    responders = resolve([source], model=model)
    if len(responders) != 1 or isinstance(responders[0], Recorded):
        raise BadInput(
            f"{source!r} is no model. Give one hub id, model folder or server:MODEL@URL; a run folder is scored again "
            "with `vlmtools score FOLDER`."
        )
    made = open_engine(engine) if isinstance(engine, str) else nullcontext(engine)
    with made as maker:
        return evaluate_model(
            responders[0],
            benchmark,
            place,
            folder=None if out is None else Path(out),
            asking=asking or Asking(),
            scoring=scoring or Scoring(),
            baseline=before,
            budget=budget,
            progress=progress,
            record=record,
            engine=None if engine == "local" else maker,
        )
