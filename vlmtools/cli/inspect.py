"""`vlmtools inspect`: one page that shows where a model looked and which heads the picture moves."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from vlmtools.pruning.base import TokenPruner


def inspect(
    model: Annotated[str, typer.Argument(help="Hub name or folder of a model.", show_default=False)],
    image: Annotated[str, typer.Argument(help="The picture: a file.", show_default=False)],
    prompt: Annotated[
        str, typer.Option("--prompt", "-p", help="The question.")
    ] = "Describe this image in detail.",
    out: Annotated[Path, typer.Option("--out", "-o", help="The page to write.")] = Path("inspect.html"),
    heads: Annotated[
        str, typer.Option("--heads", help="vhr: mark the heads it would strengthen; none.")
    ] = "vhr",
    prune: Annotated[
        str | None,
        typer.Option(
            "--prune", help="NAME:keep=0.33,…: show which visual tokens it keeps, and the answer then."
        ),
    ] = None,
    max_new_tokens: Annotated[
        int, typer.Option("--max-new-tokens", min=1, help="Length limit of the answer.")
    ] = 48,
    k: Annotated[int, typer.Option("--k", min=1, help="Heads per layer that count for a word's T-VHD.")] = 8,
    distance: Annotated[str, typer.Option("--distance", help="Of head outputs: l2 or sq.")] = "l2",
    counterfactual: Annotated[
        str, typer.Option("--without", help="How the picture is taken away: drop, mask or blank.")
    ] = "drop",
    quant: Annotated[str | None, typer.Option("--quant", help="4bit or 8bit.")] = None,
    dtype: Annotated[str, typer.Option("--dtype", help="auto, float32, bfloat16 or float16.")] = "auto",
    device_map: Annotated[str, typer.Option("--device-map", help="auto, cpu, cuda, …")] = "auto",
    offline: Annotated[bool, typer.Option("--offline", help="Never reach the network.")] = False,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run Python code that comes with the checkpoint.")
    ] = False,
) -> None:
    """Write one offline page about one answer: where the model looked, which heads and words depend on the picture.

    `vlmtools inspect llava-hf/llava-1.5-7b-hf beach.jpg --prompt "How many boats are there?" --quant 4bit`
    """
    from vlmtools.vlm import load

    _check(heads, distance, counterfactual)
    pruner = _pruner(prune)
    vlm = load(
        model,
        dtype=dtype,
        quant=quant,
        device_map=device_map,
        trust_remote_code=trust_remote_code,
        local_files_only=offline,
    )
    from vlmtools.report.inspect import look, page

    found = look(
        vlm,
        image,
        prompt,
        max_new_tokens=max_new_tokens,
        heads=None if heads == "none" else heads,
        k=k,
        record=_record(model, image, prompt, dtype, quant),
        distance=distance,
        counterfactual=counterfactual,
        prune=pruner,
    )
    _write(page(found), out)
    typer.echo(found.answer)
    if found.kept is not None:
        kept = found.kept
        typer.echo(f"With {kept.n_after} of {kept.n_before} visual tokens: {kept.answer}")
    typer.echo(f"Wrote {out}")


_CHOICES = {
    "--heads": ("vhr", "none"),
    "--distance": ("l2", "sq"),
    "--without": ("drop", "mask", "blank"),
}


def _check(*given: str) -> None:
    from vlmtools.errors import BadInput, suggest

    for (option, known), value in zip(_CHOICES.items(), given, strict=True):
        if value not in known:
            raise BadInput(f"{option} {value!r} does not exist.{suggest(value, known)}")


def _pruner(text: str | None) -> "TokenPruner | None":
    if text is None:
        return None
    from vlmtools.pruning._spec import parse_pruner

    return parse_pruner(text)


def _record(model: str, image: str, prompt: str, dtype: str, quant: str | None) -> dict[str, object]:
    import torch
    import transformers

    from vlmtools import __version__

    return {
        "command": shlex.join(["vlmtools", *sys.argv[1:]]),
        "model": model,
        "image": image,
        "prompt": prompt,
        "decoding": "greedy",
        "dtype": dtype,
        "quant": quant or "none",
        "versions": {
            "vlmtools": __version__,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
    }


def _write(text: str, target: Path) -> None:
    from vlmtools.errors import BadInput

    try:
        target.write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        raise BadInput(
            f"{str(target)!r} cannot be written ({error.strerror or error}). Choose another file with --out."
        ) from error
