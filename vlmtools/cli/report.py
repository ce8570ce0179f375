"""`vlmtools report`: write a saved ranking or evaluations again, as a page, Markdown, CSV or JSON."""

from pathlib import Path
from typing import Annotated

import typer


def report(
    runs: Annotated[
        list[Path],
        typer.Argument(help="Run folder, or its ranking.json; several evaluations.", show_default=False),
    ],
    format_: Annotated[str, typer.Option("--format", "-f", help="html, md, csv, json, or table.")] = "html",
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="File to write; - prints.", show_default="report.html, else print"),
    ] = None,
    title: Annotated[str, typer.Option("--title", help="Heading of the page.")] = "",
    media: Annotated[bool, typer.Option("--media/--no-media", help="Put pictures into the page.")] = True,
    media_root: Annotated[
        Path | None, typer.Option("--media-root", help="Folder that relative picture paths start from.")
    ] = None,
    max_claims: Annotated[
        int, typer.Option("--max-claims", min=0, help="Most of the worst claims in the page.")
    ] = 100,
) -> None:
    """Write a saved ranking or evaluation again, without asking any model.

    `vlmtools report runs/mine` writes runs/mine/report.html; `--format md` prints a table for a pull request. Several
    evaluations come into one page, a table per benchmark.
    """
    run, *others = runs
    if others:
        place = Path("report.html") if format_ == "html" else None
        _put(_together(runs, format_, title), _target(run, format_, out) if out else place)
        return
    if _is_evaluation(run):
        _put(_evaluated(run, format_, title, media_root), _target(run, format_, out))
        return
    from vlmtools.report.saved import load_ranking, written

    ranking = load_ranking(run)
    if format_ == "table":
        from vlmtools.cli._screen import console
        from vlmtools.report.terminal import print_ranking

        print_ranking(ranking, console())
        return
    text = written(
        ranking, format_, title=title, inline_media=media, max_claims=max_claims, media_root=media_root
    )
    _put(text, _target(run, format_, out))


def _is_evaluation(run: Path) -> bool:
    inside = run.is_dir() and not (run / "ranking.json").is_file() and (run / "evaluation.json").is_file()
    return inside or run.name == "evaluation.json"


def _evaluated(run: Path, form: str, title: str, media_root: Path | None) -> str:
    from json import dumps

    from vlmtools.compare import load_run
    from vlmtools.errors import BadInput, suggest
    from vlmtools.report.evaluation import html

    if form not in ("html", "json"):
        known = ("html", "json")
        raise BadInput(f"An evaluation cannot be written as {form!r}.{suggest(form, known)}")
    found = load_run(run).found
    if form == "html":
        return html(found, title=title, media_root=media_root)
    return dumps(found.to_json(full=True), indent=1) + "\n"


def _together(runs: list[Path], form: str, title: str) -> str:
    from json import dumps

    from vlmtools.compare import load_run
    from vlmtools.errors import BadInput, suggest
    from vlmtools.report.evaluations import html, markdown

    known = ("html", "md", "json")
    if form not in known:
        raise BadInput(f"Several evaluations cannot be written as {form!r}.{suggest(form, known)}")
    ranking = next((run for run in runs if not _is_evaluation(run)), None)
    if ranking is not None:
        raise BadInput(
            f"{str(ranking)!r} is no evaluation. Several evaluations come into one page; a ranking is written alone: "
            "name one run."
        )
    found = [load_run(run) for run in runs]
    if form == "json":
        return dumps({run.name: run.found.to_json() for run in found}, indent=1) + "\n"
    return html(found, title=title) if form == "html" else markdown(found)


def _target(run: Path, form: str, out: Path | None) -> Path | None:
    """The file to write; None prints."""
    if out is not None:
        return None if str(out) == "-" else out
    return (run if run.is_dir() else run.parent) / "report.html" if form == "html" else None


def _put(text: str, target: Path | None) -> None:
    if target is None:
        typer.echo(text.encode("utf-8"), nl=False)
        return
    from vlmtools.errors import BadInput

    try:
        target.write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        raise BadInput(
            f"{str(target)!r} cannot be written ({error.strerror or error}). Choose another file with --out."
        ) from error
    typer.echo(f"Wrote {target}")
