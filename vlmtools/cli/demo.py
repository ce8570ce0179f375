"""`vlmtools demo`: the main jobs on small real models that come with the package, offline, in under a minute."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from vlmtools.compare import Comparison
    from vlmtools.crosscheck.ranking import Ranking
    from vlmtools.reference.world import Scene

PATCH = "spin"
"""What the demo puts on the worst model; docs/reference-models.md says what it and the others do there."""
FIRST_SCENE = 5000
"""The demo's scenes are others than those of the tables in the documentation."""


def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the run.")] = Path("runs/demo"),
    n: Annotated[int, typer.Option("--scenes", min=4, help="Scenes the models describe.")] = 32,
    patch: Annotated[str, typer.Option("--patch", help="Put on the model that ranks last.")] = PATCH,
    open_: Annotated[bool, typer.Option("--open", help="Show the report in a browser.")] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Rank the bundled models without references, hold the ranking against the truth, patch the worst one.

    The models are small and were trained on drawn scenes whose content is known exactly: they show how things work, not
    how models of billions of parameters behave.
    """
    from vlmtools.bundled import PREFIX, bundled
    from vlmtools.cli._screen import console, print_json
    from vlmtools.reference.world import World

    screen = console(stderr=json_)
    scenes = list(World(split="test").scenes(n, FIRST_SCENE))
    names = [f"{PREFIX}{name}" for name in bundled()]
    ranking = _ranked(names, scenes, out, screen, json_)
    truth = _truth(out, scenes)
    worst = ranking.rows[-1].name
    if not json_:
        _show_truth(ranking, truth, n, screen)
    found = _patched(f"{PREFIX}{worst}", patch, n, out, screen)
    if json_:
        print_json({"ranking": ranking.to_json(), "truth": truth, "comparison": found.to_json()})
    else:
        _show_comparison(found, screen, out)
    if open_:
        typer.launch(str(out / "report.html"))


def _ranked(
    names: Sequence[str], scenes: "Sequence[Scene]", out: Path, screen: "Console", quiet: bool
) -> "Ranking":
    """Step 1: `vlmtools crosscheck`."""
    import json

    from vlmtools.cli._screen import progress
    from vlmtools.crosscheck.collect import Draws
    from vlmtools.crosscheck.folder import open_run
    from vlmtools.crosscheck.run import CrossCheck
    from vlmtools.crosscheck.sources import resolve
    from vlmtools.reference.pictures import as_samples
    from vlmtools.report.outputs import write_outputs
    from vlmtools.report.terminal import print_ranking
    from vlmtools.store.files import write_whole
    from vlmtools.types import Decoding

    samples = list(as_samples(scenes))
    items = out / "items.jsonl"
    rows = (json.dumps({"id": one.id, "image": one.image, "prompt": one.prompt}) for one in samples)
    out.mkdir(parents=True, exist_ok=True)
    write_whole(items, "".join(f"{row}\n" for row in rows).encode())
    command = f"vlmtools crosscheck {' '.join(names)} --items {items} --max-new-tokens 96"
    _step(screen, 1, f"{len(names)} models describe {len(scenes)} scenes; who hallucinates?", command)
    setting = CrossCheck(draws=Draws(scored=Decoding(max_new_tokens=96)))
    sources = resolve(list(names), model={"batch_size": 16})
    with open_run(out, setting, sources) as store, progress() as told:
        result = setting.run(sources, samples, store, progress=told, record={"command": command})
        write_outputs(store, result)
    if not quiet:
        print_ranking(result, screen, page=out / "report.html")
    return result


def _truth(out: Path, scenes: "Sequence[Scene]") -> dict[str, dict[str, float]]:
    """What the same answers really got wrong."""
    from vlmtools.reference.truth import caption_truth, chair
    from vlmtools.responders.recorded import read_sources

    return {
        source.name: chair([caption_truth(source.answers[one.id].text, one.names) for one in scenes])
        for source in read_sources(out)
    }


def _show_truth(
    ranking: "Ranking", truth: Mapping[str, Mapping[str, float]], n: int, screen: "Console"
) -> None:
    """Step 2: the truth beside the score."""
    import numpy as np
    from rich.table import Table

    from vlmtools.stats import coefficients

    _step(screen, 2, "The scenes are drawn, so the truth is known; the ranking did not see it.", "")
    table = Table()
    for name in ("model", "score", "true CHAIR_i", "recall", "words"):
        table.add_column(name, justify="left" if name == "model" else "right")
    for row in ranking.rows:
        known = truth[row.name]
        rates = (f"{row.score:.3f}", f"{known['CHAIRi']:.3f}", f"{known['Recall']:.2f}")
        table.add_row(row.name, *rates, f"{known['n_words']:.0f}")
    screen.print(table)
    real = [truth[row.name]["CHAIRi"] for row in ranking.rows]
    agreement = float(coefficients(np.array([row.score for row in ranking.rows]), np.array(real)))
    screen.print(f"Spearman of score and truth: {agreement:.2f}, over {len(real)} models and {n} scenes.\n")


def _patched(worst: str, patch: str, n: int, out: Path, screen: "Console") -> "Comparison":
    """Step 3: `vlmtools eval` twice, then `vlmtools compare`."""
    from vlmtools.cli._screen import progress
    from vlmtools.compare import compare, load_run
    from vlmtools.evaluate.api import evaluate
    from vlmtools.evaluate.run import Asking
    from vlmtools.patches._files import parse_patch
    from vlmtools.report.comparison import html
    from vlmtools.responders.hf import HF
    from vlmtools.store.files import write_whole

    bench = f"scenes:n={n},start={FIRST_SCENE}"
    plain, changed = out / "plain", out / "patched"
    evaluating = f"vlmtools eval {worst} --bench {bench} --out"
    _step(
        screen,
        3,
        f"Patch the last one with {patch}, without training. Did it help?",
        f"{evaluating} {plain}",
        f"{evaluating} {changed} --patch {patch}",
        f"vlmtools compare {plain} {changed} --out {out / 'compare.html'}",
    )
    with progress() as told:
        for folder, patches in ((plain, ()), (changed, (parse_patch(patch),))):
            responder = HF(worst, patches=patches, batch_size=32)
            evaluate(responder, bench, out=folder, asking=Asking(n_probes=0), progress=told)
    found = compare([load_run(plain), load_run(changed)])
    write_whole(out / "compare.html", html(found).encode("utf-8", "backslashreplace"))
    return found


def _show_comparison(found: "Comparison", screen: "Console", out: Path) -> None:
    from vlmtools.cli.compare import tests_table

    screen.print(tests_table(found))
    screen.print(f"Pages: {out / 'report.html'}, {out / 'compare.html'}", soft_wrap=True)
    screen.print(
        "Your own answers: vlmtools crosscheck a.jsonl b.jsonl c.jsonl   (rows: id, text)", soft_wrap=True
    )


def _step(screen: "Console", number: int, what: str, *commands: str) -> None:
    """Say what happens and which command does it."""
    screen.print(f"\n[bold]{number}. {what}[/bold]")
    for command in filter(None, commands):
        screen.print(f"   $ {command}", style="dim", soft_wrap=True)
