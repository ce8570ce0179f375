"""`vlmtools list`: the names that other commands take, with one line about each."""

from typing import Annotated, Any

import typer


def list_(
    kind: Annotated[
        str | None,
        typer.Argument(help="What to list: judges, patches, benchmarks, …; everything when left out."),
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object: kind → name → summary.")
    ] = False,
) -> None:
    """List judges, patches, pruners, families, backbones, benchmarks and adapters by name."""
    from json import dumps

    found = catalogue(kind)
    if json:
        told = {**found, "variants": _variants()} if kind == "backbones" else found
        typer.echo(dumps(told, indent=2, ensure_ascii=False))
        return
    width = max((len(name) for entries in found.values() for name in entries), default=0)
    for title, entries in found.items():
        typer.secho(title, bold=True)
        for name, about in entries.items():
            typer.echo(f"  {name:<{width}}  {about}".rstrip())
        if not entries:
            typer.echo("  none yet")
    if kind == "backbones":
        _show_variants()


def catalogue(kind: str | None = None) -> dict[str, dict[str, str]]:
    """Kind → name → one-line summary; nothing that is listed is imported.

    Args:
        kind: One kind, or None for all.

    Raises:
        UnknownName: There is no such kind.
    """
    from vlmtools.errors import UnknownName, suggest
    from vlmtools.registry import KINDS, names, summary

    if kind is not None and kind not in KINDS:
        raise UnknownName(f"There is no kind {kind!r} to list.{suggest(kind, KINDS)} Try: vlmtools list")
    chosen = KINDS if kind is None else {kind: KINDS[kind]}
    return {
        each: {name: summary(package, name) for name in names(package)} for each, package in chosen.items()
    }


def _variants() -> dict[str, Any]:
    from vlmtools.backbones._table import rows

    return dict(rows())


def _show_variants() -> None:
    from vlmtools.backbones._table import CHECKED, HEADINGS, cells

    lines = [HEADINGS, *(cells(name, row) for name, row in _variants().items())]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADINGS))]
    typer.secho("\nvariants", bold=True)
    for line in lines:
        typer.echo(
            "  " + "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        )
    typer.echo("\nFLOPs of one image, a multiplication and an addition counted as two; top-1 as published.")
    for word, meaning in CHECKED.items():
        typer.echo(f"checked: {word}: {meaning}")
