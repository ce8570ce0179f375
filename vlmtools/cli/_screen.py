"""What verbs share: a console, JSON on stdout, a progress display with an ETA on stderr."""

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from vlmtools.types import Json

if TYPE_CHECKING:
    from rich.console import Console

    from vlmtools.crosscheck.collect import Progress

FEW = 20
"""Results before a time is estimated."""
QUIET_S = 30.0
"""Seconds between two lines of progress when the output is not a terminal."""


def console(stderr: bool = False) -> "Console":
    """A console that is plain when piped."""
    from rich.console import Console

    return Console(stderr=stderr, highlight=False)


def print_json(value: Json) -> None:
    """Write JSON to stdout, in UTF-8 whatever the terminal says."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=True) + "\n")


@contextmanager
def progress() -> "Iterator[Progress]":
    """One line per stage with bar, counts, rate and ETA; on a pipe, a plain line every half minute."""
    screen = console(stderr=True)
    if not screen.is_terminal:
        yield _plain(lambda line: print(line, file=sys.stderr, flush=True))
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("ETA"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=screen, transient=True) as shown:
        tasks: dict[str, object] = {}

        def told(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                # What an earlier run stored costs no time, so it must not count into the rate.
                tasks[stage] = shown.add_task(stage, total=total, completed=done)
            shown.update(tasks[stage], completed=done, total=total)  # type: ignore[arg-type]

        yield told


def _plain(say: Callable[[str], None]) -> "Progress":
    began: dict[str, tuple[float, int]] = {}
    last = [0.0]

    def told(stage: str, done: int, total: int) -> None:
        now = time.monotonic()
        start, already = began.setdefault(stage, (now, done))
        if now - start < QUIET_S or now - last[0] < QUIET_S:
            return
        last[0] = now
        rate = (done - already) / (now - start)
        # The first result also paid for loading the model, so it alone makes no estimate.
        left = f"{(total - done) / rate / 60:.1f} min left" if done - already >= FEW else "no estimate yet"
        say(f"{stage}: {done:,} of {total:,}, {left}")

    return told
