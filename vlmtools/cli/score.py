"""`vlmtools score`: official numbers of a benchmark from a file of answers; no model is loaded."""

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from vlmtools.cli import _options as opt


def score(
    answers: Annotated[
        Path,
        typer.Argument(help="Answers: .jsonl .json .csv .tsv, .gz too; or a run folder.", show_default=False),
    ],
    bench: opt.Bench,
    data: opt.Data = None,
    protocol: opt.Protocol = None,
    baseline: opt.Baseline = None,
    id_field: opt.AnswerId = None,
    text_field: opt.AnswerText = None,
    limit: opt.Limit = None,
    partial: opt.Partial = False,
    bootstrap: opt.Bootstrap = 2000,
    level: opt.Level = 0.95,
    seed: opt.Seed = 0,
    judge_model: opt.JudgeModel = None,
    dump: Annotated[
        Path | None,
        opt.option(opt.OUT, "--dump", help="Write one JSONL row per answer: read, label, counts."),
    ] = None,
    out: Annotated[
        Path | None, opt.option(opt.OUT, "--out", "-o", help="Folder for evaluation.json and report.html.")
    ] = None,
    json_: opt.AsJson = False,
    engine: opt.Engine = "local",
    workers: opt.Workers = None,
    gpus_per_worker: opt.GpusPerWorker = None,
    cpus_per_worker: opt.CpusPerWorker = 1.0,
    block: opt.Block = None,
    memory_per_worker: opt.MemoryPerWorker = None,
) -> None:
    """Score answers on a benchmark, by the official rule unless --protocol says otherwise.

    `vlmtools score captions.jsonl --bench chair --truth coco_gt_objects.json.gz` prints CHAIR with its intervals.
    """
    from vlmtools.benchmarks.base import load_benchmark
    from vlmtools.cli._evaluated import judged_by, show, write_dump
    from vlmtools.engine.spec import open_engine
    from vlmtools.evaluate.scoring import Scoring, score_file
    from vlmtools.report.evaluation import write_outputs

    benchmark = load_benchmark(bench, protocol=protocol)
    made = open_engine(
        engine,
        workers=workers,
        gpus_per_worker=gpus_per_worker,
        cpus_per_worker=cpus_per_worker,
        block=block,
        memory_per_worker=memory_per_worker,
    )
    record = {"command": shlex.join(["vlmtools", *sys.argv[1:]])}
    with made:
        judged = judged_by(benchmark, judge_model, out, made)
        setting = Scoring(id_field, text_field, partial, level, bootstrap, seed, judged)
        found = score_file(
            answers, benchmark, data, baseline=baseline, limit=limit, setting=setting, record=record
        )
    if dump is not None:
        write_dump(dump, found)
    if out is not None:
        write_outputs(out, found)
    show(found, benchmark, json_, None if out is None else out / "report.html")
