"""`vlmtools bench`: which benchmarks there are, what each needs, whether its data are complete; what pruning saves."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vlmtools.cli import _options as opt

if TYPE_CHECKING:
    from vlmtools.benchmarks.base import Benchmark

bench_app = typer.Typer(
    help="Benchmarks: list them, show what one needs, check its data. Also: what pruning saves.",
    no_args_is_help=True,
)

Name = Annotated[str, typer.Argument(help="NAME or NAME:key=value,…", show_default=False)]


@bench_app.command("list")
def list_(json_: opt.AsJson = False) -> None:
    """List every benchmark with one line about it."""
    from vlmtools.cli._screen import print_json
    from vlmtools.cli.list import catalogue

    found = catalogue("benchmarks")["benchmarks"]
    if json_:
        print_json(found)
        return
    width = max(map(len, found), default=0)
    for name, about in found.items():
        typer.echo(f"{name:<{width}}  {about}")


@bench_app.command()
def show(name: Name, json_: opt.AsJson = False) -> None:
    """Show a benchmark: reference, protocols, metrics, licence, data, and what makes numbers incomparable."""
    from vlmtools.benchmarks.base import load_benchmark
    from vlmtools.cli._screen import print_json

    told = facts(load_benchmark(name))
    if json_:
        print_json(told)
        return
    typer.secho(f"{told['name']}: {told['summary']}", bold=True)
    for key in ("reference", "modality", "judge", "licence", "data", "checked", "max_new_tokens"):
        value = ", ".join(told[key]) if isinstance(told[key], list) else told[key]
        typer.echo(f"{key:<15} {value or 'none'}")
    files = {
        file: f"{one['entries'] or ''} sha256 {one['sha256']}" for file, one in told["published"].items()
    }
    _listed("files", files)
    _listed("settings", told["settings"])
    _listed("protocols", told["protocols"])
    _listed("metrics", told["metrics"])
    typer.echo("notes")
    for note in told["notes"]:
        typer.echo(f"  {note}")


@bench_app.command()
def prepare(
    name: Name,
    data: Annotated[
        Path | None,
        opt.option(
            opt.SCORE, "--data", "--path", "--truth", "-d", help="File or folder with the published data."
        ),
    ] = None,
    images: Annotated[
        Path | None, opt.option(opt.ASK, "--images", help="Folder with the pictures, videos or sounds.")
    ] = None,
    out: Annotated[
        Path | None,
        opt.option(
            opt.OUT, "--out", "-o", help="Write the items as JSONL, as `vlmtools generate --items` reads it."
        ),
    ] = None,
    json_: opt.AsJson = False,
) -> None:
    """Check a benchmark's data by count and checksum, and its media, and freeze its item list.

    Exit code 1 when media are missing, or a file has other entries than the published one.
    """
    from vlmtools.benchmarks._published import copies
    from vlmtools.benchmarks.base import load_benchmark
    from vlmtools.cli._screen import print_json
    from vlmtools.evaluate.media import located
    from vlmtools.evaluate.scoring import items, items_digest

    benchmark = load_benchmark(name)
    samples = items(benchmark, data)
    found, missing = located(samples.values(), images, data)
    files = copies(benchmark.published, data)
    told: dict[str, Any] = {
        "bench": benchmark.name,
        "items": len(samples),
        "labels": dict(Counter(str(sample.reference) for sample in samples.values()).most_common(12)),
        "files": [copy.to_json() for copy in files],
        "ids_sha256": items_digest(list(samples)),
        "media": len({where for sample in samples.values() for _, where in sample.media}),
        "items_with_missing_media": len(missing),
        "first_missing": [dict(sample.media) for sample in missing[:3]],
    }
    if out is not None:
        _write_items(out, [*found, *missing])
        told["out"] = str(out)
    if json_:
        print_json(told)
    else:
        shown = "; ".join(map(str, files)) or "nothing to compare with: no checksum of these files is known"
        for key, value in {**told, "files": shown}.items():
            typer.echo(f"{key:<26} {value}")
    if missing or not all(copy.complete for copy in files):
        raise typer.Exit(1)


@bench_app.command()
def prune(
    model: Annotated[
        str, typer.Argument(help="Hub id or folder of a model, or reference:NAME.", show_default=False)
    ],
    pruner: Annotated[
        str, opt.option(opt.CHANGE, "--prune", help="NAME or NAME:key=value,… without keep.")
    ] = "hiprune",
    keep: Annotated[
        str, opt.option(opt.CHANGE, "--keep", help="Budgets: shares, or tokens per view.")
    ] = "0.5,0.33,0.22,0.11",
    image: Annotated[
        str | None, opt.option(opt.ASK, "--image", help="A picture.", show_default="noise")
    ] = None,
    prompt: Annotated[
        str, opt.option(opt.ASK, "--prompt", "-p", help="The question.")
    ] = "Describe this image in detail.",
    side: Annotated[int, opt.option(opt.ASK, "--side", min=8, help="Pixels of the noise, each way.")] = 336,
    tokens: Annotated[int, opt.option(opt.RUN, "--tokens", min=1, help="New tokens of an answer.")] = 32,
    rounds: Annotated[int, opt.option(opt.RUN, "--rounds", min=4, help="How often all is measured.")] = 10,
    threads: Annotated[
        int | None, opt.option(opt.RUN, "--threads", min=1, help="On the CPU.", show_default="torch's")
    ] = None,
    quant: opt.Quant = None,
    dtype: opt.Dtype = "auto",
    device_map: Annotated[str, opt.option(opt.RUN, "--device-map", help="auto, cpu, cuda, …")] = "auto",
    offline: Annotated[bool, opt.option(opt.RUN, "--offline", help="Never reach the network.")] = False,
    trust_remote_code: opt.TrustRemoteCode = False,
    json_: opt.AsJson = False,
) -> None:
    """Measure what a token pruner saves on this machine: prefill, first token, whole answer, operations, cache.

    All budgets take turns in one run; ratios are those within a round, with 95 % intervals over the rounds. `again` is
    the unpruned model once more and shows the noise. Theory stands beside operations and cache.
    """
    from vlmtools.pruning._spec import parse_keeps, parse_method

    method, keeps = parse_method(pruner), parse_keeps(keep)
    from vlmtools.cli._pruning import show_savings
    from vlmtools.vlm import load

    if threads is not None:
        import torch

        torch.set_num_threads(threads)
    vlm = load(
        model, dtype=dtype, quant=quant, device_map=device_map,
        trust_remote_code=trust_remote_code, local_files_only=offline,
    )  # fmt: skip
    asked = {"model": model, "pruner": pruner, "prompt": prompt, "image": image or f"noise {side}"}
    show_savings(vlm, method, keeps, asked, side, tokens, rounds, json_)


def facts(benchmark: "Benchmark") -> dict[str, Any]:
    """Everything a benchmark says about itself.

    Args:
        benchmark: The benchmark.
    """
    from vlmtools.benchmarks._evaluation import direction
    from vlmtools.registry import summary

    ways = {1: "more is better", 0: "neither good nor bad", -1: "less is better"}
    names = list(
        dict.fromkeys((*benchmark.headline, *sorted(benchmark.lower_is_better), *sorted(benchmark.neutral)))
    )
    return {
        "name": benchmark.name,
        "summary": summary("vlmtools.benchmarks", benchmark.name),
        "reference": benchmark.reference,
        "modality": list(benchmark.modality),
        "judge": benchmark.judge,
        "licence": benchmark.licence,
        "data": benchmark.get,
        "checked": benchmark.checked,
        "published": {
            file: {"entries": one.entries, "sha256": one.sha256} for file, one in benchmark.published.items()
        },
        "max_new_tokens": benchmark.max_new_tokens,
        "settings": {name: str(value) for name, value in benchmark.settings.items()},
        "protocols": dict(benchmark.protocols),
        "metrics": {
            name: f"{benchmark.units.get(name, 'rate in [0, 1]')}, {ways[direction(benchmark, name)]}"
            for name in names
        },
        "notes": list(benchmark.notes),
    }


def _listed(title: str, values: dict[str, str]) -> None:
    if not values:
        return
    typer.echo(title)
    width = max(map(len, values))
    for name, value in values.items():
        typer.echo(f"  {name:<{width}}  {value}")


def _write_items(path: Path, samples: list[Any]) -> None:
    import json
    from dataclasses import asdict

    from vlmtools.store.files import write_whole

    rows = ({name: value for name, value in asdict(sample).items() if value} for sample in samples)
    text = "".join(json.dumps({**row.pop("extra", {}), **row}, ensure_ascii=True) + "\n" for row in rows)
    write_whole(path, text.encode())
