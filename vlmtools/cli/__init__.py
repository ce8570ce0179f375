"""The `vlmtools` command: one file per verb, each a plain function registered here.

Nothing heavy is imported before a verb needs it, so `--help` answers at once.
"""

import importlib
import os
import sys
from collections.abc import Callable
from typing import Any

import typer

RUN, ANALYSE, SETUP = "Run", "Analyse", "Set up"

VERBS: tuple[tuple[str, str, str], ...] = (
    ("crosscheck", "crosscheck", RUN),
    ("generate", "generate", RUN),
    ("eval", "eval_", RUN),
    ("score", "score", RUN),
    ("demo", "demo", RUN),
    ("compare", "compare", ANALYSE),
    ("report", "report", ANALYSE),
    ("inspect", "inspect", ANALYSE),
    ("correlate", "correlate", ANALYSE),
    ("list", "list_", SETUP),
    ("doctor", "doctor", SETUP),
)
"""(verb, function in the file of the same name, help panel), in the order `--help` shows them."""

app = typer.Typer(
    name="vlmtools",
    help="Rank, look inside, patch and evaluate vision-language models by how much they hallucinate.",
    epilog="First steps: `vlmtools demo`, then `vlmtools crosscheck a.jsonl b.jsonl c.jsonl`.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(value: bool) -> None:
    if value:
        from vlmtools import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version."
    ),
) -> None:
    pass


def _verb(name: str) -> Callable[..., Any]:
    module, function = next((verb, called) for verb, called, _ in VERBS if verb == name)
    found: Callable[..., Any] = getattr(importlib.import_module(f"vlmtools.cli.{module}"), function)
    return found


for _name, _, _panel in VERBS:
    app.command(_name, rich_help_panel=_panel)(_verb(_name))

app.add_typer(importlib.import_module("vlmtools.cli.patch").patch_app, name="patch", rich_help_panel=ANALYSE)
app.add_typer(importlib.import_module("vlmtools.cli.bench").bench_app, name="bench", rich_help_panel=SETUP)


def main() -> None:
    """Run the command line; an error made on purpose is one message, never a traceback.

    Exit codes: 0 done, 1 a check failed, 2 bad input, 3 stopped by the budget, 130 interrupted.
    """
    from vlmtools.errors import BudgetSpent, VlmToolsError

    try:
        app()
    except BudgetSpent as stop:
        typer.secho(f"Stopped: {stop}", fg="yellow", err=True)
        sys.exit(3)
    except VlmToolsError as problem:
        if os.environ.get("VLMTOOLS_TRACEBACK"):
            raise
        typer.secho(f"Error: {problem}", fg="red", err=True)
        sys.exit(2)
    except KeyboardInterrupt:
        typer.secho(
            "Interrupted. Everything computed so far is kept; the same line goes on from here.", err=True
        )
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
