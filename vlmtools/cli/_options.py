"""Options that several verbs have, declared once: the name, the help and the panel are the same everywhere."""

from pathlib import Path
from typing import Annotated, Any

import typer

ASK, CHANGE, SCORE, RUN, OUT = (
    "What is asked",
    "What is changed",
    "How it is scored",
    "How it runs",
    "What comes out",
)


def option(panel: str, *names: str, **more: Any) -> Any:
    """An option in a panel of `--help`.

    Args:
        panel: Its heading.
        names: Its names.
        more: What `typer.Option` takes.
    """
    return typer.Option(*names, rich_help_panel=panel, **more)


def prices(price: str | None) -> tuple[float, float] | None:
    """What was typed after `--price`.

    Args:
        price: Two numbers and a comma between; None is no price.

    Raises:
        BadInput: It is anything else.
    """
    from vlmtools.errors import BadInput

    if price is None:
        return None
    try:
        read, written = (float(part) for part in price.split(","))
        if not (0 <= read < float("inf") and 0 <= written < float("inf")):
            raise ValueError
    except ValueError:
        raise BadInput(
            f"--price {price!r}: expected two numbers from 0, as in 0.15,0.60 per million tokens."
        ) from None
    return read, written


Quant = Annotated[str | None, option(RUN, "--quant", help="4bit or 8bit.")]
Dtype = Annotated[str, option(RUN, "--dtype", help="auto, float32, bfloat16 or float16.")]
BatchSize = Annotated[
    int | None, option(RUN, "--batch-size", min=1, help="Of local models.", show_default="auto")
]
Concurrency = Annotated[
    int | None, option(RUN, "--concurrency", min=1, help="Open calls per server.", show_default="8")
]
TrustRemoteCode = Annotated[
    bool, option(RUN, "--trust-remote-code", help="Run code that a checkpoint brings.")
]
Engine = Annotated[
    str,
    option(RUN, "--engine", help="local, ray or ray:ADDRESS: where the calls are made (docs/scale.md)."),
]
Workers = Annotated[
    int | None,
    option(RUN, "--workers", min=1, help="Of --engine ray, per model.", show_default="all there is room for"),
]
GpusPerWorker = Annotated[
    float | None,
    option(RUN, "--gpus-per-worker", min=0.0, help="0.25 puts four on a GPU.", show_default="by memory"),
]
MemoryPerWorker = Annotated[
    float | None,
    option(
        RUN,
        "--memory-per-worker",
        min=0.0,
        help="GB of each worker with a model, for how many fit; 0: not counted.",
        show_default="estimated",
    ),
]
CpusPerWorker = Annotated[float, option(RUN, "--cpus-per-worker", help="Cores set aside for each worker.")]
Block = Annotated[
    int | None,
    option(
        RUN, "--block", min=1, help="Calls a worker gives back together.", show_default="16; 128 of judges"
    ),
]
Patches = Annotated[
    list[str] | None,
    option(CHANGE, "--patch", help="NAME or NAME:key=value,… (vlmtools patch list). Again for more."),
]
PatchFiles = Annotated[
    list[Path] | None, option(CHANGE, "--patch-file", help="TOML, as `vlmtools patch save` writes it.")
]
Prune = Annotated[
    str | None,
    option(CHANGE, "--prune", help="NAME:keep=0.33,… of the visual tokens (vlmtools list pruners)."),
]
Limit = Annotated[int | None, option(ASK, "--limit", min=1, help="Use the first N items.")]
AsJson = Annotated[bool, option(OUT, "--json", help="Print the result as JSON.")]
Bench = Annotated[
    str,
    option(
        SCORE, "--bench", "-b", help="NAME or NAME:key=value,… (vlmtools bench list).", show_default=False
    ),
]
Data = Annotated[
    Path | None,
    option(SCORE, "--data", "--truth", "-d", help="File or folder with the benchmark's published data."),
]
Protocol = Annotated[
    str | None,
    option(
        SCORE,
        "--protocol",
        "--rule",
        help="official, lenient, … (vlmtools bench show NAME).",
        show_default="official",
    ),
]
Baseline = Annotated[
    Path | None, option(SCORE, "--baseline", help="Answers of a baseline, for the benchmark's controls.")
]
AnswerId = Annotated[
    str | None,
    option(
        ASK, "--id-field", help="Field of the item's id in a file of answers.", show_default="usual names"
    ),
]
AnswerText = Annotated[
    str | None, option(ASK, "--text-field", help="Field of the answer.", show_default="usual names")
]
Partial = Annotated[
    bool, option(SCORE, "--partial", help="Score the items there are answers to, although some lack one.")
]
Bootstrap = Annotated[int, option(SCORE, "--bootstrap", min=2, help="Resamples behind the intervals.")]
Level = Annotated[float, option(SCORE, "--level", min=0.5, max=0.999, help="Coverage of the intervals.")]
Seed = Annotated[int, option(SCORE, "--seed", help="Of the resampling and of random draws.")]
JudgeModel = Annotated[
    str | None,
    option(SCORE, "--judge-model", help="Model or server:MODEL@URL, for benchmarks that have a judge."),
]
