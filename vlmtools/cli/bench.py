"""`vlmtools bench`: which benchmarks there are, what each needs, and whether its data are complete."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vlmtools.cli import _options as opt

if TYPE_CHECKING:
    from vlmtools.benchmarks.base import Benchmark

bench_app = typer.Typer(
    help="Benchmarks: list them, show what one needs, check its data.", no_args_is_help=True
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
    for key in ("reference", "modality", "judge", "licence", "data", "max_new_tokens"):
        value = ", ".join(told[key]) if isinstance(told[key], list) else told[key]
        typer.echo(f"{key:<15} {value or 'none'}")
    _listed("settings", told["settings"])
    _listed("protocols", told["protocols"])
    _listed("metrics", told["metrics"])
    typer.echo("notes")
    for note in told["notes"]:
        typer.echo(f"  {note}")


@bench_app.command()
def prepare(
    name: Name,
    data: opt.Data = None,
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
    """Check a benchmark's data and media, and freeze its item list; exit code 1 when media are missing."""
    from vlmtools.benchmarks.base import load_benchmark
    from vlmtools.cli._screen import print_json
    from vlmtools.evaluate.media import located
    from vlmtools.evaluate.scoring import items, items_digest

    benchmark = load_benchmark(name)
    samples = items(benchmark, data)
    found, missing = located(samples.values(), images, data)
    told: dict[str, Any] = {
        "bench": benchmark.name,
        "items": len(samples),
        "labels": dict(Counter(str(sample.reference) for sample in samples.values()).most_common(12)),
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
        for key, value in told.items():
            typer.echo(f"{key:<26} {value}")
    if missing:
        raise typer.Exit(1)


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
