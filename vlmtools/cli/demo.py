"""`vlmtools demo`: the main job on bundled data, offline, in seconds."""

from pathlib import Path
from typing import Annotated

import typer


def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="Run folder.")] = Path("runs/demo"),
    json_: Annotated[bool, typer.Option("--json", help="Print the ranking as JSON.")] = False,
) -> None:
    """Rank five invented describers of forty invented scenes, offline, and write report.html.

    The texts are written for this purpose; no model wrote them.
    """
    from importlib.resources import as_file, files

    from vlmtools.cli._screen import console, print_json, progress
    from vlmtools.crosscheck.folder import open_run
    from vlmtools.crosscheck.run import CrossCheck
    from vlmtools.crosscheck.sources import items_of, resolve
    from vlmtools.report.outputs import write_outputs
    from vlmtools.report.terminal import print_ranking

    setting = CrossCheck()
    with as_file(files("vlmtools.reference") / "captions") as folder:
        names = sorted(str(path) for path in folder.glob("*.jsonl"))
        sources = resolve(names)
        with open_run(out, setting, sources) as store, progress() as told:
            result = setting.run(
                sources, items_of(sources), store, progress=told, record={"command": "vlmtools demo"}
            )
            write_outputs(store, result)
    if json_:
        print_json(result.to_json())
        return
    screen = console()
    screen.print(
        "Five invented describers, forty invented scenes: texts written for this demo, no model's answers.\n"
    )
    print_ranking(result, screen, page=out / "report.html")
    screen.print(
        "Your own answers: vlmtools crosscheck a.jsonl b.jsonl c.jsonl   (rows: id, text)", soft_wrap=True
    )
