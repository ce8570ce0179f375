"""A run killed with SIGKILL again and again ends with the bytes of an undisturbed one."""

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vlmtools.store import Store

N = 3_000
RUN = """
import sys
from vlmtools.store import Store, call_key
n = int(sys.argv[2])
with Store(sys.argv[1]) as store:
    store.bind({"n": n})
    print("open", flush=True)
    for i in range(0, n, 3):
        keys = [(call_key("answers", {"i": j}), {"item": str(j), "text": "wörd " * (j % 50)}) for j in range(i, i + 3)]
        store.append_many("answers", [pair for pair in keys if not store.has("answers", pair[0])])
        store.append("votes", call_key("votes", {"i": i}), {"item": str(i), "support": [i / n]})
"""


def start(folder: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", RUN, str(folder), str(N)], stdout=subprocess.PIPE)


def finish(folder: Path) -> None:
    with start(folder) as run:
        run.communicate()
    assert run.returncode == 0


def test_a_run_killed_ten_times_ends_with_the_bytes_of_an_undisturbed_one(tmp_path: Path) -> None:
    began = time.monotonic()
    finish(tmp_path / "calm")
    took = time.monotonic() - began
    chance, killed, sizes = random.Random(0), 0, set()
    for _ in range(10):
        with start(tmp_path / "killed") as run:
            assert run.stdout is not None and run.stdout.readline() == b"open\n"
            time.sleep(chance.uniform(0, took / 10))
            run.kill()
        killed += run.returncode == -9
        answers = tmp_path / "killed" / "answers.jsonl"
        sizes.add(answers.stat().st_size if answers.exists() else 0)
    assert killed > 0 and len(sizes) > 1, "no run was stopped half way: the test tested nothing"
    finish(tmp_path / "killed")
    for name in ("answers.jsonl", "votes.jsonl", "run.json"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "calm" / name).read_bytes()
    with Store(tmp_path / "killed") as store:
        assert store.count("answers") == N and store.repaired == {}


@pytest.mark.slow
def test_a_run_stopped_after_every_single_byte_ends_with_the_same_bytes(tmp_path: Path) -> None:
    pairs = [(f"k{i}", {"text": "ü\u2028" * i}) for i in range(8)]
    with Store(tmp_path / "calm") as store:
        store.append_many("answers", pairs)
    whole = (tmp_path / "calm" / "answers.jsonl").read_bytes()
    for size in range(len(whole) + 1):
        folder = tmp_path / str(size)
        folder.mkdir()
        (folder / "answers.jsonl").write_bytes(whole[:size])
        with Store(folder) as store:
            store.append_many("answers", pairs)
        assert (folder / "answers.jsonl").read_bytes() == whole
