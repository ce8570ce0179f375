"""`vlmtools crosscheck`: rank models by hallucination without references."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from vlmtools.cli import _options as opt

ASK, JUDGE, SCORE, RUN, OUT = (
    "What is asked",
    "Who judges",
    "How it is scored",
    "How it runs",
    "What comes out",
)

Sources = Annotated[
    list[str],
    typer.Argument(
        help="Files of answers (.jsonl .csv .tsv .json, .gz too), run folders, model ids or folders, server:MODEL@URL. "
        "Patches and pruners follow a local model after plus signs: MODEL+vhr:strength=2+hiprune:keep=0.5.",
        show_default=False,
    ),
]


def crosscheck(
    sources: Sources,
    items: Annotated[
        str | None, opt.option(ASK, "--items", help="JSONL or CSV: id, image|video|audio|text, prompt.")
    ] = None,
    images: Annotated[
        str | None, opt.option(ASK, "--images", help="A glob of pictures, instead of --items.")
    ] = None,
    prompt: Annotated[str, opt.option(ASK, "--prompt", help="The question, for items without one.")] = "",
    samples: Annotated[
        int, opt.option(ASK, "--samples", "-k", min=0, help="Stochastic answers per item, as evidence.")
    ] = 0,
    temperature: Annotated[float, opt.option(ASK, "--temperature", min=0.0, help="Of the samples.")] = 1.0,
    top_p: Annotated[float, opt.option(ASK, "--top-p", min=0.0, max=1.0, help="Of the samples.")] = 1.0,
    max_new_tokens: Annotated[
        int, opt.option(ASK, "--max-new-tokens", min=1, help="Length limit of an answer.")
    ] = 256,
    limit: opt.Limit = None,
    id_field: Annotated[
        str, opt.option(ASK, "--id-field", help="Column of the item's id in files of answers.")
    ] = "id",
    text_field: Annotated[str, opt.option(ASK, "--text-field", help="Column of the answer.")] = "text",
    samples_field: Annotated[
        str, opt.option(ASK, "--samples-field", help="Column of the samples.")
    ] = "samples",
    model_field: Annotated[
        str, opt.option(ASK, "--model-field", help="Column of the model's name.")
    ] = "model",
    mode: Annotated[str, opt.option(JUDGE, "--mode", help="explicit, implicit, self or ref.")] = "explicit",
    judge: Annotated[
        list[str] | None,
        opt.option(
            JUDGE,
            "--judge",
            help="NAME or NAME:key=value,… (vlmtools list judges). Again: compare rankings.",
            show_default="objects",
        ),
    ] = None,
    judge_model: Annotated[
        str | None, opt.option(JUDGE, "--judge-model", help="Model or server behind the judge.")
    ] = None,
    evidence: Annotated[
        list[str] | None,
        opt.option(JUDGE, "--evidence", help="Only this source is evidence; again for more."),
    ] = None,
    panel: Annotated[
        int,
        opt.option(
            JUDGE, "--panel", min=0, help="Models that judge each other, dealt anew per item; 0: everybody."
        ),
    ] = 0,
    unit: Annotated[
        str, opt.option(JUDGE, "--unit", help="sentence, object, or auto: what the judge wants.")
    ] = "auto",
    min_tokens: Annotated[
        int, opt.option(JUDGE, "--min-tokens", min=0, help="Drop sentences with fewer words.")
    ] = 0,
    weights: Annotated[
        str,
        opt.option(SCORE, "--weights", help="em, uniform, softmax, loo; auto: em for objects, else uniform."),
    ] = "auto",
    beta: Annotated[float, opt.option(SCORE, "--beta", help="Temperature of softmax and loo.")] = 0.1,
    average: Annotated[
        str, opt.option(SCORE, "--average", help="micro: over claims; macro: over items.")
    ] = "micro",
    include_self: Annotated[
        bool, opt.option(SCORE, "--self/--no-self", help="A model's samples judge it too.")
    ] = False,
    paper: Annotated[
        bool,
        opt.option(SCORE, "--paper", help="As CrossCheckGPT: softmax, own samples included, its wording."),
    ] = False,
    bootstrap: Annotated[int, opt.option(SCORE, "--bootstrap", min=2, help="Resamples of the items.")] = 2000,
    level: Annotated[
        float, opt.option(SCORE, "--level", min=0.5, max=0.999, help="Coverage of the intervals.")
    ] = 0.95,
    seed: Annotated[int, opt.option(SCORE, "--seed", help="Of the draws and the bootstrap.")] = 0,
    mixed_modality: Annotated[str, opt.option(SCORE, "--mixed-modality", help="refuse or mark.")] = "refuse",
    quant: opt.Quant = None,
    dtype: opt.Dtype = "auto",
    batch_size: opt.BatchSize = None,
    concurrency: opt.Concurrency = None,
    engine: opt.Engine = "local",
    workers: opt.Workers = None,
    gpus_per_worker: opt.GpusPerWorker = None,
    cpus_per_worker: opt.CpusPerWorker = 1.0,
    block: opt.Block = None,
    memory_per_worker: opt.MemoryPerWorker = None,
    trust_remote_code: opt.TrustRemoteCode = False,
    offline: Annotated[
        bool, opt.option(RUN, "--offline", help="Replay what is stored; ask nothing.")
    ] = False,
    plan: Annotated[
        bool, opt.option(RUN, "--plan", help="Say what would be asked and what it would take; ask nothing.")
    ] = False,
    plan_items: Annotated[
        int | None,
        opt.option(RUN, "--plan-items", min=1, help="--plan for so many items like the given ones."),
    ] = None,
    tokens_per_s: Annotated[
        float | None,
        opt.option(RUN, "--tokens-per-s", min=0.001, help="One GPU writes, for --plan.", show_default="40"),
    ] = None,
    budget: Annotated[
        list[str] | None, opt.option(RUN, "--budget", help="calls=N, tokens=N, minutes=N or cost=N.")
    ] = None,
    price: Annotated[
        str | None, opt.option(RUN, "--price", help="IN,OUT: price of a million tokens each way.")
    ] = None,
    early_stop: Annotated[
        bool, opt.option(RUN, "--early-stop", help="Stop adding items once the ranks separate.")
    ] = False,
    out: Annotated[
        Path | None, opt.option(OUT, "--out", "-o", help="Run folder.", show_default="runs/crosscheck-…")
    ] = None,
    worst: Annotated[
        int, opt.option(OUT, "--worst", min=0, help="How many of the worst claims to show.")
    ] = 20,
    json_: Annotated[bool, opt.option(OUT, "--json", help="Print the ranking as JSON.")] = False,
) -> None:
    """Rank models by how much they hallucinate, with no reference answers.

    Run the same line again to resume. `vlmtools crosscheck a.jsonl b.jsonl c.jsonl` ranks recorded answers with
    no model at all.
    """
    if offline:
        os.environ["HF_HUB_OFFLINE"] = "1"  # judges that name a hub model must not reach for it either
    from vlmtools.cli._crosschecking import Run, show
    from vlmtools.crosscheck.api import load_samples
    from vlmtools.crosscheck.budget import Budget
    from vlmtools.crosscheck.collect import Draws
    from vlmtools.crosscheck.run import CrossCheck
    from vlmtools.crosscheck.sources import resolve
    from vlmtools.engine.spec import open_engine, refuse_budget
    from vlmtools.types import Decoding

    fields = {
        "id_field": id_field,
        "text_field": text_field,
        "samples_field": samples_field,
        "model_field": model_field,
    }
    model = {
        "quant": quant,
        "dtype": dtype,
        "batch_size": batch_size,
        "concurrency": concurrency,
        "trust_remote_code": trust_remote_code,
        "offline": offline,
    }
    responders = resolve(sources, fields=fields, model=model)
    found = load_samples(responders, items, images, prompt)[:limit]
    draws = Draws(
        scored=Decoding(0.0, 1.0, max_new_tokens, seed),
        evidence=Decoding(temperature, top_p, max_new_tokens, seed),
        n_samples=samples,
    )
    setting = CrossCheck(
        mode=mode,  # type: ignore[arg-type]
        judge="objects",
        weights="softmax" if paper else weights,  # type: ignore[arg-type]
        beta=beta,
        average=average,  # type: ignore[arg-type]
        include_self=include_self or paper,
        evidence=tuple(evidence or ()),
        panel=panel,
        unit=unit,  # type: ignore[arg-type]
        min_tokens=min_tokens,
        draws=draws,
        n_boot=bootstrap,
        level=level,
        seed=seed,
        n_worst=worst,
        mixed_modality=mixed_modality,  # type: ignore[arg-type]
    )
    judges = _judges(judge, mode, judge_model, model, paper)
    prices = opt.prices(price)
    made = open_engine(
        engine,
        workers=workers,
        gpus_per_worker=gpus_per_worker,
        cpus_per_worker=cpus_per_worker,
        block=block,
        memory_per_worker=memory_per_worker,
        batch_size=batch_size,
    )
    spending = Budget.parse(budget or [], prices)
    refuse_budget(engine, spending)
    run = Run(setting, judges, responders, found, out, offline, early_stop, made)
    if plan or plan_items:
        run.plan(prices, json_, plan_items, tokens_per_s)
        return
    result, folder = run.go(spending)
    show(result, folder, json_)


def _judges(
    names: list[str] | None, mode: str, judge_model: str | None, model: dict[str, Any], paper: bool
) -> list[Any]:
    from vlmtools.crosscheck.sources import judge_by_name, resolve

    asked = names or ["vlm" if mode == "implicit" else "objects"]
    behind = None if judge_model is None else resolve([judge_model], model=model)[0]
    published = {"raw": True, "rule": "official"} if paper else {}
    return [judge_by_name(name, responder=behind, **published) for name in asked]
