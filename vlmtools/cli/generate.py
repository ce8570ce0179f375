"""`vlmtools generate`: ask a model, with or without patches; one answer to the screen, many into a file."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vlmtools.cli import _options as opt

if TYPE_CHECKING:
    from vlmtools.types import Responder

ASK, DRAW, CHANGE, RUN, OUT = (
    "What is asked",
    "How answers are drawn",
    "What is changed",
    "How it runs",
    "What comes out",
)


def generate(
    model: Annotated[
        str,
        typer.Argument(help="Hub id or folder of a model, or server:MODEL@URL.", show_default=False),
    ],
    images: Annotated[
        list[str] | None,
        typer.Argument(help="Pictures, folders, quoted patterns, URLs.", show_default=False),
    ] = None,
    prompt: Annotated[
        str,
        opt.option(ASK, "--prompt", "-p", help="The question, for items without one.", show_default=False),
    ] = "",
    items: Annotated[
        str | None, opt.option(ASK, "--items", help="JSONL or CSV: id, image, prompt. Instead of pictures.")
    ] = None,
    limit: opt.Limit = None,
    n: Annotated[int, opt.option(DRAW, "--n", "-n", min=1, help="Answers per item.")] = 1,
    temperature: Annotated[
        float, opt.option(DRAW, "--temperature", "-t", min=0.0, help="0 is greedy.")
    ] = 0.0,
    top_p: Annotated[float, opt.option(DRAW, "--top-p", min=0.0, max=1.0, help="Of random draws.")] = 1.0,
    num_beams: Annotated[int, opt.option(DRAW, "--num-beams", min=1, help="Beams of greedy answers.")] = 1,
    max_new_tokens: Annotated[int, opt.option(DRAW, "--max-new-tokens", min=1, help="Length limit.")] = 256,
    seed: Annotated[int, opt.option(DRAW, "--seed", help="Of random draws.")] = 0,
    patch: opt.Patches = None,
    patch_file: opt.PatchFiles = None,
    prune: opt.Prune = None,
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
    offline: Annotated[bool, opt.option(RUN, "--offline", help="Never reach the network.")] = False,
    out: Annotated[
        Path | None, opt.option(OUT, "--out", "-o", help="JSONL file; run the same line again to resume.")
    ] = None,
    stream: Annotated[
        bool | None,
        opt.option(
            OUT, "--stream/--no-stream", help="Show one answer word by word.", show_default="terminal"
        ),
    ] = None,
    json_: Annotated[bool, opt.option(OUT, "--json", help="Print rows as JSON.")] = False,
) -> None:
    """Ask a model: one picture prints the answer, several give one JSONL row each.

    Run the same line again to resume. `vlmtools generate MODEL 'photos/*.jpg' -p 'Describe the image.' -o mine.jsonl`
    writes what `vlmtools crosscheck mine.jsonl others.jsonl` ranks.
    """
    from vlmtools.answers import URLS, wanted_samples
    from vlmtools.cli._generating import Asking
    from vlmtools.engine.spec import open_engine
    from vlmtools.types import Decoding

    samples = wanted_samples(images or [], items, prompt)[:limit]
    decoding = Decoding(temperature, top_p, max_new_tokens, seed)
    options = {
        "quant": quant,
        "dtype": dtype,
        "batch_size": batch_size,
        "concurrency": concurrency,
        "trust_remote_code": trust_remote_code,
        "offline": offline,
        "num_beams": num_beams,
        "prune": prune,
        # a URL that was typed is a picture that was asked for
        "allow_urls": any(one.startswith(URLS) for one in images or ()),
    }
    responder = _responder(model, patch or [], patch_file or [], options, temperature)
    alone = len(samples) == 1 and items is None and out is None
    with open_engine(
        engine,
        workers=workers,
        gpus_per_worker=gpus_per_worker,
        cpus_per_worker=cpus_per_worker,
        block=block,
        memory_per_worker=memory_per_worker,
        batch_size=batch_size,
    ) as made:
        asking = Asking(responder, samples, decoding, n, made)
        try:
            asking.one(stream, json_) if alone else asking.many(out, json_)
        finally:
            responder.close()


def _responder(
    model: str, patch: list[str], patch_file: list[Path], options: dict[str, Any], temperature: float
) -> "Responder":
    from vlmtools.crosscheck.sources import responder
    from vlmtools.errors import BadInput

    if options["num_beams"] > 1 and temperature > 0:
        raise BadInput("--num-beams searches and --temperature draws: one excludes the other. Leave one out.")
    if model.startswith("server:"):
        if patch or patch_file or options["prune"] or options["num_beams"] > 1:
            raise BadInput(
                "--patch, --prune and --num-beams change a model on this machine, and a server runs its own. Give the "
                "model's hub id or folder instead of server:MODEL@URL."
            )
        return responder(model, **options)
    if options["prune"]:
        from vlmtools.pruning._spec import parse_pruner

        options = options | {"prune": parse_pruner(options["prune"])}
    if patch or patch_file:
        from vlmtools.patches._files import gather_patches

        options = options | {"patches": gather_patches(patch, patch_file)}
    return responder(model, **options)
