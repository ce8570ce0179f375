"""`vlmtools compare`: what differs between evaluations, and whether the numbers really do."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vlmtools.cli import _options as opt

if TYPE_CHECKING:
    from rich.table import Table

    from vlmtools.compare import Comparison


def compare(
    runs: Annotated[
        list[Path],
        typer.Argument(
            help="Folders of `eval` or `score --out`; the first of a benchmark is the reference.",
            show_default=False,
        ),
    ],
    shared: Annotated[
        bool, opt.option(opt.SCORE, "--shared", help="Compare on the items both runs have.")
    ] = False,
    every_metric: Annotated[
        bool, opt.option(opt.SCORE, "--all", help="Test every metric, not the headline only.")
    ] = False,
    bootstrap: opt.Bootstrap = 2000,
    level: opt.Level = 0.95,
    seed: opt.Seed = 0,
    flips: Annotated[
        int, opt.option(opt.OUT, "--flips", min=0, help="How many changed answers to print.")
    ] = 10,
    out: Annotated[Path | None, opt.option(opt.OUT, "--out", "-o", help="HTML page to write.")] = None,
    media_root: Annotated[
        Path | None,
        opt.option(opt.OUT, "--media-root", help="Folder that relative picture paths start from."),
    ] = None,
    json_: opt.AsJson = False,
) -> None:
    """Compare runs over the same items: settings first, then paired tests, then the answers that changed."""
    from vlmtools.cli._screen import print_json
    from vlmtools.compare import compare as compared
    from vlmtools.compare import load_run

    found = compared(
        [load_run(run) for run in runs],
        shared=shared,
        every_metric=every_metric,
        level=level,
        n_boot=bootstrap,
        seed=seed,
    )
    if out is not None:
        from vlmtools.report.comparison import html
        from vlmtools.store.files import write_whole

        write_whole(out, html(found, media_root=media_root).encode("utf-8", "backslashreplace"))
    if json_:
        print_json(found.to_json())
        return
    _show(found, flips)
    if out is not None:
        typer.echo(f"Page: {out}")


def _show(found: "Comparison", most: int) -> None:
    from rich.markup import escape
    from rich.table import Table

    from vlmtools.cli._screen import console

    screen = console()
    settings = Table(title="Settings that differ", title_justify="left")
    settings.add_column("setting")
    for run in found.runs:
        settings.add_column(escape(run))
    for name, values in found.settings.items():
        settings.add_row(escape(name), *(escape(values[run][:60]) for run in found.runs))
    screen.print(settings if found.settings else "The settings of the runs do not differ.")
    for note in found.notes:
        screen.print(f"[yellow]Note:[/yellow] {escape(note)}")
    screen.print(tests_table(found))
    screen.print(
        "p (Holm) is corrected for all tests above. Detectable is the smallest true difference these items would show "
        "with 80 % power."
    )
    for flip in found.flips[:most]:
        way = "gained" if flip.after.correct else "lost"
        truth = "" if flip.before.label is None else f" (truth: {escape(flip.before.label[:80])})"
        screen.print(f"[bold]{way}[/bold] {escape(flip.before.id)}{truth}")
        for run, row in ((flip.a, flip.before), (flip.b, flip.after)):
            screen.print(f"  {escape(run)}: {escape(row.answer[:160])}")
    if len(found.flips) > most:
        screen.print(
            f"{len(found.flips) - most:,} more answers changed; --out PAGE.html shows them with pictures."
        )


def tests_table(found: "Comparison") -> "Table":
    """The paired tests of a comparison as a table for the terminal."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(title="Paired tests", title_justify="left")
    for name in ("metric", "values", "difference", "p (Holm)", "detectable", "verdict"):
        table.add_column(name)
    for test in found.tests:
        flipped = "" if test.gained is None else f", +{test.gained} -{test.lost}"
        verdict = "not shown" if test.p_holm >= 1 - found.level else _VERDICTS[test.better]
        against = f"\n{escape(test.b)}" if len(found.runs) > 2 else ""
        table.add_row(
            f"{escape(test.bench)} {escape(test.metric)}{against}",
            f"{test.value_a:.4g}, {test.value_b:.4g}",
            f"{test.difference:+.3g}\n{test.ci[0]:+.3g} to {test.ci[1]:+.3g}",
            f"{test.p_holm:.2g}",
            f"{test.detectable:.3g}",
            f"{verdict}\n({test.method}{flipped})",
        )
    return table


_VERDICTS = {1: "better", 0: "different", -1: "worse"}
