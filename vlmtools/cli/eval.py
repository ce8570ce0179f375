"""`vlmtools eval`: ask a model a benchmark's questions, patched or not, and score what it says."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vlmtools.cli import _options as opt

if TYPE_CHECKING:
    from vlmtools.crosscheck.budget import Budget
    from vlmtools.engine.base import Engine
    from vlmtools.evaluate.run import Asking, Run
    from vlmtools.evaluate.workers import Worker
    from vlmtools.types import Responder


def eval_(
    model: Annotated[
        str,
        typer.Argument(
            help="Hub id or folder of a model, server:MODEL@URL, or a file of answers.", show_default=False
        ),
    ],
    bench: opt.Bench,
    data: opt.Data = None,
    images: Annotated[
        Path | None, opt.option(opt.ASK, "--images", help="Folder with the pictures, videos or sounds.")
    ] = None,
    limit: opt.Limit = None,
    max_new_tokens: Annotated[
        int | None,
        opt.option(opt.ASK, "--max-new-tokens", min=1, help="Length limit.", show_default="the benchmark's"),
    ] = None,
    temperature: Annotated[
        float, opt.option(opt.ASK, "--temperature", "-t", min=0.0, help="0 is greedy.")
    ] = 0.0,
    num_beams: Annotated[int, opt.option(opt.ASK, "--num-beams", min=1, help="Beams of greedy answers.")] = 1,
    id_field: opt.AnswerId = None,
    text_field: opt.AnswerText = None,
    protocol: opt.Protocol = None,
    baseline: opt.Baseline = None,
    partial: opt.Partial = False,
    bootstrap: opt.Bootstrap = 2000,
    level: opt.Level = 0.95,
    seed: opt.Seed = 0,
    judge_model: opt.JudgeModel = None,
    patch: opt.Patches = None,
    patch_file: opt.PatchFiles = None,
    prune: opt.Prune = None,
    quant: opt.Quant = None,
    dtype: opt.Dtype = "auto",
    batch_size: opt.BatchSize = None,
    concurrency: opt.Concurrency = None,
    workers: Annotated[
        int | None,
        opt.option(
            opt.RUN,
            "--workers",
            min=1,
            help="Processes that ask at once, each on a GPU of its own.",
            show_default="1; of --engine ray all there is room for",
        ),
    ] = None,
    engine: opt.Engine = "local",
    gpus_per_worker: opt.GpusPerWorker = None,
    cpus_per_worker: opt.CpusPerWorker = 1.0,
    block: opt.Block = None,
    memory_per_worker: opt.MemoryPerWorker = None,
    trust_remote_code: opt.TrustRemoteCode = False,
    offline: Annotated[
        bool, opt.option(opt.RUN, "--offline", help="Replay what is stored; ask nothing.")
    ] = False,
    probes: Annotated[
        int,
        opt.option(opt.RUN, "--probes", min=0, help="Items asked beforehand with other pictures; 0: none."),
    ] = 6,
    plan: Annotated[
        bool, opt.option(opt.RUN, "--plan", help="Say what would be asked; ask nothing.")
    ] = False,
    budget: Annotated[
        list[str] | None, opt.option(opt.RUN, "--budget", help="calls=N, tokens=N, minutes=N or cost=N.")
    ] = None,
    price: Annotated[
        str | None, opt.option(opt.RUN, "--price", help="IN,OUT: price of a million tokens each way.")
    ] = None,
    out: Annotated[
        Path | None,
        opt.option(opt.OUT, "--out", "-o", help="Run folder.", show_default="runs/BENCH-MODEL-…"),
    ] = None,
    json_: opt.AsJson = False,
) -> None:
    """Evaluate a model on a benchmark; a file of answers is scored as `vlmtools score` does.

    Run the same line again to resume. `vlmtools eval MODEL --bench pope --data POPE --images val2014 --patch vhr` is
    compared with the unpatched run by `vlmtools compare RUN RUN`.
    """
    from vlmtools.crosscheck.sources import is_table

    if is_table(model):
        from vlmtools.cli.score import score

        score(
            Path(model), bench, data, protocol, baseline, id_field, text_field, limit, partial,
            bootstrap, level, seed, judge_model, None, out, json_,
            engine, workers, gpus_per_worker, cpus_per_worker, block, memory_per_worker,
        )  # fmt: skip
        return
    from vlmtools.benchmarks.base import load_benchmark
    from vlmtools.cli._evaluated import judge_of, judged_by
    from vlmtools.crosscheck.budget import Budget
    from vlmtools.engine.spec import open_engine, refuse_budget
    from vlmtools.evaluate.run import Asking, default_folder, question
    from vlmtools.evaluate.scoring import Scoring
    from vlmtools.evaluate.workers import Worker

    prices = opt.prices(price)
    spending = Budget.parse(budget or [], prices)
    benchmark = load_benchmark(bench, protocol=protocol)
    options = {
        "quant": quant,
        "dtype": dtype,
        "batch_size": batch_size,
        "concurrency": concurrency,
        "trust_remote_code": trust_remote_code,
        "offline": offline,
        "num_beams": num_beams,
    }
    asking = Asking(limit, images, max_new_tokens, temperature, 1.0, seed, partial, offline, probes)
    asked = question(benchmark, data, asking)
    responder = changed(model, patch or [], patch_file or [], prune, options)
    folder = out or default_folder(asked, responder)
    made = open_engine(
        engine,
        workers=None if engine == "local" else workers,
        gpus_per_worker=gpus_per_worker,
        cpus_per_worker=cpus_per_worker,
        block=block,
        memory_per_worker=memory_per_worker,
        batch_size=batch_size,
    )
    refuse_budget(engine, budget)
    judged = judged_by(benchmark, judge_model, folder, made, **options)
    scoring = Scoring(id_field, text_field, partial, level, bootstrap, seed, judged)
    running = _Running(asked, responder, asking, scoring, folder, None if engine == "local" else made)
    if plan:
        running.plan(json_, prices, judge_of(benchmark, judge_model, **options))
        return
    if engine != "local":
        with made:
            running.go(None, baseline, json_, Worker(0, 1))
        return
    worker, workers = Worker.from_environment(), workers or 1
    if worker.of > 1 and not offline:
        running.share(worker, spending, baseline, json_)
        return
    if workers > 1 and not offline:
        from vlmtools.cli._workers import start

        start(workers, model, folder, asked)
        worker = Worker(0, workers)
    running.go(spending, baseline, json_, worker)


def changed(
    model: str, patch: list[str], patch_file: list[Path], prune: str | None, options: dict[str, Any]
) -> "Responder":
    """The model with its patches and its pruner.

    Args:
        model: What the user typed.
        patch: Names with settings.
        patch_file: Saved patches.
        prune: Name of a pruner with settings.
        options: Of models and servers.

    Raises:
        BadInput: A server cannot be changed, or this is no model.
    """
    from vlmtools.crosscheck.sources import resolve
    from vlmtools.errors import BadInput

    if model.startswith("server:") and (patch or patch_file or prune or options["num_beams"] > 1):
        raise BadInput(
            "--patch, --prune and --num-beams change a model on this machine, and a server runs its own. Give the "
            "model's hub id or folder instead of server:MODEL@URL."
        )
    if patch or patch_file:
        from vlmtools.patches._files import gather_patches

        options = options | {"patches": gather_patches(patch, patch_file)}
    if prune is not None:
        from vlmtools.pruning._spec import parse_pruner

        options = options | {"prune": parse_pruner(prune)}
    found = resolve([model], model=options)
    if len(found) != 1:
        raise BadInput(f"{model!r} holds {len(found)} models' answers. Give one model, or one model's file.")
    return found[0]


class _Running:
    """One command line: what is asked of whom, and where it is kept."""

    def __init__(
        self,
        asked: Any,
        responder: "Responder",
        asking: "Asking",
        scoring: Any,
        folder: Path,
        engine: "Engine | None",
    ) -> None:
        self.asked, self.responder, self.asking = asked, responder, asking
        self.scoring, self.folder, self.engine = scoring, folder, engine

    def plan(self, as_json: bool, price: tuple[float, float] | None, judge: "Responder | None") -> None:
        """What would be asked, and how much of it is stored."""
        from vlmtools.cli._screen import console, print_json
        from vlmtools.evaluate.planning import make_plan

        made = make_plan(self.asked, self.responder, self.folder, price, judge)
        if as_json:
            print_json({"folder": str(self.folder), **made.to_json()})
            return
        console().print(made.table())
        typer.echo(f"Run folder: {self.folder}")

    def go(self, budget: "Budget | None", baseline: Path | None, as_json: bool, worker: "Worker") -> None:
        """Ask, score, write, show; where workers have asked already, only the rest."""
        from vlmtools.evaluate.run import Run
        from vlmtools.evaluate.workers import score_when_last
        from vlmtools.report.evaluation import write_outputs
        from vlmtools.store import Store

        with Store(self.folder) as store:
            run = Run(self.asked, self.responder, store, self.asking, self.scoring, self.engine)
            try:
                self._begin(run)
                done = score_when_last(run, worker, baseline, self._record()) if worker.of > 1 else None
                found = done or self._ask(run, budget, baseline, self._record())
            finally:
                self.responder.close()
            write_outputs(store, found)
        self._show(found, as_json)

    def share(self, worker: "Worker", budget: "Budget | None", baseline: Path | None, as_json: bool) -> None:
        """Ask what falls to one of several workers; the last of them scores, writes and shows."""
        from vlmtools.cli._workers import share
        from vlmtools.evaluate.run import Run
        from vlmtools.store import Store

        with Store(worker.folder(self.folder)) as store:
            run = Run(self.asked, self.responder, store, self.asking, self.scoring)
            try:
                found = share(run, worker, self.folder, budget, baseline, self._record())
            finally:
                self.responder.close()
        if found is not None:
            self._show(found, as_json)

    def _record(self) -> dict[str, Any]:
        return {"command": shlex.join(["vlmtools", *sys.argv[1:]])}

    def _show(self, found: Any, as_json: bool) -> None:
        from vlmtools.cli._evaluated import show

        show(found, self.asked.benchmark, as_json, self.folder / "report.html")
        typer.echo(f"Run folder: {self.folder}", err=True)

    def _begin(self, run: "Run") -> None:
        """The controls come first: nobody should wait for a night to learn that pictures were not seen."""
        made = run.controls()
        for line in made.get("lines", []):
            typer.echo(line, err=True)
        for warning in made.get("warnings", []):
            typer.secho(warning, fg="yellow", err=True)

    def _ask(self, run: "Run", budget: Any, baseline: Path | None, record: dict[str, Any]) -> Any:
        from vlmtools.cli._screen import progress

        with progress() as told:
            return run.go(budget, told, baseline, record)
