"""What a cluster adds and what it gains, and how much memory the driver takes: measured on this machine.

    python benchmarks/speed/scale.py speed                    # engines: local, ray with 1 and with 2 workers
    python benchmarks/speed/scale.py answers 10000 100000     # memory of the driver while answers are collected
    python benchmarks/speed/scale.py ray 10000 100000         # the same, with the calls made by two Ray workers
    python benchmarks/speed/scale.py ranking 10000            # the same for a whole crosscheck of three recorded files
    python benchmarks/speed/scale.py ranking 10000 --models 20 --panel 4

`speed` lets the bundled model describe drawn scenes, with one thread per process; start-up (until the first answers are
stored) is told apart from the rate after it. The others use a responder that answers at once, so that nothing but the
tool itself is measured; each size runs in a process of its own. Needs the extra `ray`, and two idle cores for `speed`.
docs/scale.md shows the numbers.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from vlmtools.crosscheck.collect import Draws, collect
from vlmtools.engine.base import Engine
from vlmtools.engine.spec import open_engine
from vlmtools.responders.items import Items
from vlmtools.store import Store
from vlmtools.types import Decoding, Json, Reply, Request, Responder, Sample

PASSAGE = "There is a dog on a red couch beside a small table with a cup on it, and a cat looks at both. "
THINGS = ("cat", "dog", "bus", "car", "cup", "bed", "cow", "sheep")


class Echo:
    """Answers at once, about as long as a caption."""

    name = "echo"

    def identity(self) -> Mapping[str, Json]:
        """Nothing decides the answer."""
        return {"kind": "echo"}

    def answer(self, requests: Sequence[Request]) -> Iterator[tuple[Request, Reply]]:
        """The same caption for every item."""
        for request in requests:
            yield request, Reply(PASSAGE * 2, n_prompt_tokens=600, n_new_tokens=40, modality=("image",))

    def close(self) -> None:
        """Nothing to free."""


def resident_bytes() -> int:
    """Memory of this process now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def peak_bytes() -> int:
    """The most memory this process ever had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def items(n: int) -> Items:
    """Items as a file of pictures in an object store would give them."""
    return Items(
        Sample(f"item{k:09d}", "Describe this image.", f"s3://bucket/images/{k:012d}.jpg") for k in range(n)
    )


def answers(n: int, engine: Engine) -> dict[str, Json]:
    """Collect `n` answers from `Echo` into a new run folder.

    Args:
        n: Items.
        engine: Where the calls are made.
    """
    before = resident_bytes()
    asked = items(n)
    listed = resident_bytes()
    with tempfile.TemporaryDirectory() as folder, Store(folder) as store, engine:
        store.bind({"what": "scale"})
        started = time.perf_counter()
        found, tally = collect(store, Echo(), asked, Draws(), engine=engine)
        seconds = time.perf_counter() - started
        size = (Path(folder) / "answers.jsonl").stat().st_size
    if len(found) != n or tally.asked != n:
        raise SystemExit(f"{len(found)} of {n} answers came back")
    return {
        "items": n,
        "item list": listed - before,
        "peak above start": peak_bytes() - before,
        "items per s": n / seconds,
        "stored bytes per answer": size / n,
    }


def ranking(n: int, n_models: int = 3, panel: int = 0, n_boot: int = 2000) -> dict[str, Json]:
    """Rank files of recorded answers to `n` items with the judge `objects`.

    Args:
        n: Items.
        n_models: Files.
        panel: Models that judge each other about an item; 0 is everybody.
        n_boot: Resamples.
    """
    from vlmtools.crosscheck.api import crosscheck
    from vlmtools.crosscheck.panels import n_pairs

    with tempfile.TemporaryDirectory() as folder:
        files = [_recorded(Path(folder) / f"m{m}.jsonl", m, n) for m in range(n_models)]
        run = Path(folder) / "run"
        before = resident_bytes()
        started = time.perf_counter()
        crosscheck(files, out=run, n_boot=n_boot, panel=panel)
        seconds = time.perf_counter() - started
        stored = sum(path.stat().st_size for path in run.glob("*"))
    peak = peak_bytes() - before
    votes = n * n_pairs(n_models, panel)
    return {
        "items": n,
        "models": n_models,
        "panel": panel,
        "votes": votes,
        "resamples": n_boot,
        "peak above start": peak,
        "s": seconds,
        "votes per s": votes / seconds,
        "stored bytes per item": stored / n,
    }


def _recorded(path: Path, m: int, n: int) -> Path:
    """What model `m` said about `n` items: every item shows three things, and one that differs between models."""
    with path.open("w") as file:
        for i in range(n):
            text = f"Number {i} shows a {THINGS[i % 8]}, a {THINGS[(i + 1 + m) % 8]} and a cup."
            file.write(json.dumps({"id": f"{i}", "text": text}) + "\n")
    return path


def timed(responder: Responder, asked: Sequence[Sample], engine: Engine) -> dict[str, Json]:
    """Wall time of describing the items, and when the answers came.

    Args:
        responder: The model.
        asked: The items.
        engine: Where it runs.
    """
    when: list[float] = []
    started = time.perf_counter()

    def tell(stage: str, done: int, total: int) -> None:
        if done:
            when.append(time.perf_counter() - started)

    with tempfile.TemporaryDirectory() as folder, Store(folder) as store, engine:
        store.bind({"what": "scale"})
        draws = Draws(scored=Decoding(max_new_tokens=64))
        collect(store, responder, asked, draws, engine=engine, progress=tell)
        responder.close()
        wall = time.perf_counter() - started
        text = sorted((Path(folder) / "answers.jsonl").read_text().split("\n"))
    late = [moment for moment in when if moment > when[0]]
    first = len(when) - len(late)
    steady = len(late) / (when[-1] - when[0]) if late else 0.0
    return {
        "wall s": wall,
        "first after s": when[0],
        "of them": first,
        "items per s": steady,
        "answers": text,
    }


def speed(n: int, block: int) -> list[dict[str, Json]]:
    """Local, one worker, two workers: the same model, the same items, the same answers.

    Args:
        n: Items.
        block: Calls in a block, which is also the batch.
    """
    from vlmtools.reference.pictures import as_samples
    from vlmtools.reference.world import World
    from vlmtools.responders.hf import HF

    asked = list(as_samples(list(World(split="test").scenes(n, 9000))))
    rows = []
    for name, engine in (
        ("local", open_engine()),
        ("ray, 1 worker", open_engine("ray:local", workers=1, block=block)),
        ("ray, 2 workers", open_engine("ray:local", workers=2, block=block)),
    ):
        rows.append({"engine": name, **timed(HF("reference:clean", batch_size=block), asked, engine)})
        print(json.dumps({key: value for key, value in rows[-1].items() if key != "answers"}), flush=True)
    if any(row["answers"] != rows[0]["answers"] for row in rows):
        raise SystemExit("The engines did not give the same answers.")
    return rows


def main() -> None:
    """Measure one thing; sizes run in processes of their own."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("speed", "answers", "ray", "ranking"))
    parser.add_argument("sizes", nargs="*", type=int)
    parser.add_argument("--scenes", type=int, default=64)
    parser.add_argument("--block", type=int)
    parser.add_argument("--models", type=int, default=3)
    parser.add_argument("--panel", type=int, default=0)
    asked = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if asked.what == "speed":
        speed(asked.scenes, asked.block or 4)
    elif len(asked.sizes) == 1:
        print(json.dumps(_measured(asked, asked.sizes[0])), flush=True)
    else:
        rest = ["--models", f"{asked.models}", "--panel", f"{asked.panel}"]
        rest += ["--block", f"{asked.block}"] if asked.block else []
        for size in asked.sizes or (10_000, 100_000, 1_000_000):
            subprocess.run([sys.executable, __file__, asked.what, f"{size}", *rest], check=True)


def _measured(asked: argparse.Namespace, size: int) -> dict[str, Json]:
    if asked.what == "ranking":
        return ranking(size, asked.models, asked.panel)
    if asked.what == "ray":
        return answers(size, open_engine("ray:local", workers=2, block=asked.block or 512))
    return answers(size, open_engine())


if __name__ == "__main__":
    main()
