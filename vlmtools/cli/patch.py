"""`vlmtools patch`: what patches there are, what they touch, and whether they keep their promises on your model."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from vlmtools.patches._check import Verdict
    from vlmtools.patches._touch import Touched
    from vlmtools.patches.base import Patch
    from vlmtools.vlm import VLM

patch_app = typer.Typer(
    name="patch",
    help="Training-free methods: list, show, try on your model, save.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)

Model = Annotated[str, typer.Argument(help="Hub id or folder of a model.", show_default=False)]
Named = Annotated[
    list[str] | None,
    typer.Option("--patch", help="NAME or NAME:key=value,…; again for more.", show_default="every one"),
]
Files = Annotated[list[Path] | None, typer.Option("--patch-file", help="TOML, as `patch save` writes it.")]
Picture = Annotated[
    Path | None, typer.Option("--image", help="Ask about this picture.", show_default="a drawn one")
]
Quant = Annotated[str | None, typer.Option("--quant", help="4bit or 8bit.")]
Dtype = Annotated[str, typer.Option("--dtype", help="auto, float32, bfloat16 or float16.")]
Trust = Annotated[bool, typer.Option("--trust-remote-code", help="Run code that a checkpoint brings.")]
Offline = Annotated[bool, typer.Option("--offline", help="Never reach the network.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@patch_app.command("list")
def list_patches(json: Json = False) -> None:
    """Name every patch, with one line about each; the same as `vlmtools list patches`."""
    from vlmtools.cli.list import list_

    list_("patches", json)


@patch_app.command("show")
def show(
    name: Annotated[str, typer.Argument(help="A patch (vlmtools patch list).", show_default=False)],
) -> None:
    """Say what a patch does and what can be set, with the defaults."""
    import inspect

    from vlmtools.patches._files import patch_kind, to_toml

    kind = patch_kind(name)
    typer.echo(inspect.getdoc(kind))
    typer.echo("\n" + to_toml([kind()]).partition("\n\n")[2], nl=False)
    typer.echo(f"\nUse: --patch {name}:key=value,key=value")


@patch_app.command("save")
def save(
    file: Annotated[Path, typer.Argument(help="The file to write, such as mine.toml.", show_default=False)],
    patch: Annotated[list[str], typer.Option("--patch", help="NAME or NAME:key=value,…; again for more.")],
) -> None:
    """Write patches with all their settings to a TOML file, for --patch-file."""
    from vlmtools.patches._files import parse_patches, save_patches

    patches = parse_patches(patch)
    save_patches(file, patches)
    typer.echo(f"Wrote {file}: {', '.join(one.name for one in patches)}. Use it with --patch-file {file}")


@patch_app.command("status")
def status(
    model: Model,
    patch: Named = None,
    patch_file: Files = None,
    image: Picture = None,
    prompt: Annotated[str, typer.Option("--prompt", "-p", help="The question.")] = "Describe the image.",
    quant: Quant = None,
    dtype: Dtype = "auto",
    trust_remote_code: Trust = False,
    offline: Offline = False,
    json_: Json = False,
) -> None:
    """List the modules, heads and tokens that patches touch on a model, and what they could not do as asked.

    Patches that are named are on together; without a name, each is tried by itself.
    """
    from vlmtools.cli._screen import console, print_json
    from vlmtools.media import load_image
    from vlmtools.patches._touch import touched

    patches, named = _patches(patch, patch_file)
    picture = None if image is None else load_image(str(image))
    vlm = _load(model, quant, dtype, trust_remote_code, offline)
    found = touched(vlm, patches, picture, prompt, together=named)
    if json_:
        print_json([one.to_json() for one in found])
        return
    screen = console()
    screen.print(f"{prompt!r} about {image or 'a drawn picture'}, {vlm.name}\n", markup=False)
    for one in found:
        _print_touched(screen, one)


@patch_app.command("check")
def check(
    model: Model,
    patch: Named = None,
    patch_file: Files = None,
    image: Picture = None,
    quant: Quant = None,
    dtype: Dtype = "auto",
    trust_remote_code: Trust = False,
    offline: Offline = False,
    json_: Json = False,
) -> None:
    """Try on your own model what every patch promises; exit code 1 when one fails.

    Neutral settings change no bit; a removed patch leaves no bit changed, also after an interrupted answer; answers
    can be generated; a left-padded batch is answered as single questions are.
    """
    from vlmtools.cli._screen import console, print_json
    from vlmtools.media import load_image
    from vlmtools.patches._check import Probe, check_patch

    patches, _ = _patches(patch, patch_file)
    pictures = None if image is None else _with_mirror(load_image(str(image)))
    vlm = _load(model, quant, dtype, trust_remote_code, offline)
    probe = Probe(vlm, pictures)
    verdicts = [check_patch(probe, one) for one in patches]
    if json_:
        print_json(
            {"model": vlm.name, "repeats_exactly": probe.repeats, "patches": [*map(_as_json, verdicts)]}
        )
    else:
        screen = console()
        screen.print(_as_table(vlm.name, verdicts))
        for line in _details(verdicts, probe.repeats):
            screen.print(line, soft_wrap=True, markup=False)
    if not all(one.good for one in verdicts):
        raise typer.Exit(1)


def _patches(patch: list[str] | None, patch_file: list[Path] | None) -> "tuple[list[Patch], bool]":
    """The patches, and whether somebody named them."""
    from vlmtools.patches._files import gather_patches, patch_kind
    from vlmtools.registry import names

    if patch or patch_file:
        return gather_patches(patch or [], patch_file or []), True
    return [patch_kind(name)() for name in names("vlmtools.patches")], False


def _load(model: str, quant: str | None, dtype: str, trust: bool, offline: bool) -> "VLM":
    from vlmtools.responders.hf import HF

    return HF(model, quant=quant, dtype=dtype, trust_remote_code=trust, offline=offline).load()


def _with_mirror(picture: Any) -> list[Any]:
    from PIL import ImageOps

    return [picture, ImageOps.mirror(picture)]


def _print_touched(screen: "Console", one: "Touched") -> None:
    from vlmtools.patches._touch import grouped, ranges

    screen.print(repr(one.patch), style="bold", markup=False, soft_wrap=True)
    if one.status is None:
        screen.print(f"  does not fit: {one.refused}\n", markup=False, soft_wrap=True)
        return
    told = one.to_json()
    lines = [("modules", f"{len(told['modules'])}: {'  '.join(grouped(told['modules']))}")]
    if told["heads"]:
        lines += [("heads", f"layer {layer}: {ranges(heads)}") for layer, heads in told["heads"].items()]
    else:
        lines.append(("heads", "all alike"))
    lines += [("tokens", told["tokens"] or "all"), *(("note", note) for note in told["notes"])]
    for name, text in lines:
        screen.print(f"  {name:<8}{text}", markup=False, soft_wrap=True)
    screen.print()


def _as_table(model: str, verdicts: "list[Verdict]") -> "Table":
    from rich.markup import escape
    from rich.table import Table

    from vlmtools.patches._check import CHECKS

    shown = Table(title=escape(f"Patches on {model}"), title_justify="left", box=None, pad_edge=False)
    for name in ("patch", *CHECKS, "acts"):
        shown.add_column(name)
    for one in verdicts:
        shown.add_row(one.patch.name, *_cells(one, list(CHECKS)))
    return shown


def _cells(one: "Verdict", checks: list[str]) -> list[str]:
    if one.refused:
        return ["–"] * len(checks) + ["does not fit"]
    told = ["[red]FAILED[/]" if one.failed.get(name) else "[green]OK[/]" for name in checks]
    ran = [text if name in one.failed else "not run" for name, text in zip(checks, told, strict=True)]
    return [*ran, "yes" if one.acts else "no"]


def _details(verdicts: "list[Verdict]", repeats: bool) -> list[str]:
    lines = [""]
    lines += [f"{one.patch.name} does not fit: {one.refused}" for one in verdicts if one.refused]
    lines += [
        f"{one.patch.name}, {name}: {why}" for one in verdicts for name, why in one.failed.items() if why
    ]
    lines += [f"{one.patch.name}: {note}" for one in verdicts for note in one.notes]
    if not repeats:
        lines.append(
            "The unpatched model does not repeat itself bit by bit, so exact checks say little here."
        )
    bad = sum(not one.good for one in verdicts)
    tried = sum(not one.refused for one in verdicts)
    return [*lines, f"{tried - bad} of {tried} patches that fit keep their promises on this model."]


def _as_json(one: "Verdict") -> dict[str, Any]:
    return {
        "patch": one.patch.name,
        "settings": repr(one.patch),
        "ok": one.good,
        "refused": one.refused,
        "checks": {name: why or "OK" for name, why in one.failed.items()},
        "changes_the_answer": one.acts,
        "notes": list(one.notes),
    }
