"""Workers started by one command on this machine: they ask, the command waits, and then it scores what they wrote."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from vlmtools.crosscheck.collect import Progress, silent
from vlmtools.errors import ResponderError
from vlmtools.evaluate.merging import FOLDER
from vlmtools.evaluate.workers import Worker

LAUNCHED = "VLMTOOLS_LAUNCHED"
"""Variable that tells a worker to ask and to leave the scoring to the process that started it."""
_EVERY_S = 0.5
_LAST_WORDS = 1500


def launch(words: Sequence[str], n: int, folder: Path, n_items: int = 0, progress: Progress = silent) -> None:
    """Run a command line in several processes and wait for all of them.

    Args:
        words: What stands behind `vlmtools`, without `--workers`.
        n: How many, from 2.
        folder: The run folder; what workers print goes into its folder `workers`.
        n_items: Items of the run, for the progress.
        progress: Told about every half second how many answers there are.

    Raises:
        ResponderError: A worker failed or was killed; the others were let finish, and every answer is kept.
    """
    place = folder / FOLDER
    place.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        started = [_start(words, rank, n, place, stack) for rank in range(n)]
        try:
            while any(one.poll() is None for one in started):
                progress(f"answers of {n} workers", min(_n_answers(place), n_items), n_items)
                time.sleep(_EVERY_S)
        except BaseException:
            for one in started:
                one.terminate()
            raise
    lost = [rank for rank, one in enumerate(started) if one.wait()]
    if lost:
        codes = ", ".join(f"worker {rank} with code {started[rank].returncode}" for rank in lost)
        raise ResponderError(
            f"{len(lost)} of {n} workers ended early: {codes}. The last words of worker {lost[0]}: "
            f"{_last_words(_log(place, lost[0], n))!r}. Every answer is kept: run the same line again, with any number "
            "of workers, to go on."
        )


def watch_parent() -> None:
    """End this process when the one that started it is gone: it holds the other end of the standard input."""

    def wait() -> None:
        while os.read(0, 1):  # not through sys.stdin, whose lock must be free when the interpreter ends
            pass
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def launched(environment: Mapping[str, str] | None = None) -> bool:
    """Whether `launch` started this process.

    Args:
        environment: Variables; None takes this process's.
    """
    return bool((os.environ if environment is None else environment).get(LAUNCHED))


def without(words: Sequence[str], option: str) -> list[str]:
    """A command line without an option and its value.

    Args:
        words: The line.
        option: Such as `--workers`; `--workers=2` is taken out too.
    """
    kept, skip = [], False
    for word in words:
        if skip:
            skip = False
        elif word == option:
            skip = True
        elif not word.startswith(f"{option}="):
            kept.append(word)
    return kept


def _start(
    words: Sequence[str], rank: int, n: int, place: Path, stack: ExitStack
) -> "subprocess.Popen[bytes]":
    told = {"RANK": f"{rank}", "LOCAL_RANK": f"{rank}", "WORLD_SIZE": f"{n}", LAUNCHED: "1"}
    # Threads of all workers together should not be more than there are cores.
    threads = {"OMP_NUM_THREADS": f"{max(1, (os.cpu_count() or 1) // n)}"}
    out = stack.enter_context(_log(place, rank, n).open("wb"))
    process = subprocess.Popen(
        [sys.executable, "-m", "vlmtools", *words],
        env={**threads, **os.environ, **told}, stdin=subprocess.PIPE, stdout=out, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert process.stdin is not None  # noqa: S101 - it was asked for a line above
    stack.callback(process.stdin.close)
    return process


def _log(place: Path, rank: int, n: int) -> Path:
    return place / f"{Worker(rank, n).folder(Path()).name}.log"


def _n_answers(place: Path) -> int:
    return sum(path.read_bytes().count(b"\n") for path in place.glob("*/answers.jsonl"))


def _last_words(path: Path) -> str:
    return path.read_bytes()[-_LAST_WORDS:].decode("utf-8", "replace").strip()
