"""A run killed at random moments ends with the same files as an undisturbed one."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from describers import describer
from misbehaving_server import Trouble, serving

from vlmtools.types import Request, Sample

N_ITEMS = 400
FILES = (
    "items.jsonl",
    "answers.jsonl",
    "votes.jsonl",
    "run.json",
    "ranking.json",
    "ranking.csv",
    "ranking.md",
    "report.html",
)


@pytest.fixture
def answers(tmp_path: Path) -> list[str]:
    paths = []
    for name, lies in {"honest": 0.0, "careless": 0.4, "dreaming": 0.9}.items():
        say, path = describer(lies), tmp_path / f"{name}.jsonl"
        rows = [{"id": f"{n}", "text": say(Request(Sample(f"{n}")))} for n in range(N_ITEMS)]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        paths.append(str(path))
    return paths


def command(answers: list[str], out: Path) -> list[str]:
    line = [
        "crosscheck",
        *answers,
        "--judge",
        "ngram",
        "--weights",
        "uniform",
        "--bootstrap",
        "100",
        "--out",
        str(out),
    ]
    return [sys.executable, "-m", "vlmtools", *line]


def content(folder: Path) -> dict[str, bytes]:
    # The folder's own name is part of the command that the report repeats.
    return {name: (folder / name).read_bytes().replace(folder.name.encode(), b"RUN") for name in FILES}


def written(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*.jsonl"))


def kill_at(line: list[str], folder: Path, n_bytes: int) -> bool:
    """Start the run and kill it as soon as its files hold so many bytes; False when it was done before."""
    process = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and written(folder) < n_bytes:
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    return process.wait() == -signal.SIGKILL


def test_a_run_killed_ten_times_ends_with_the_same_files(tmp_path: Path, answers: list[str]) -> None:
    whole, cut = tmp_path / "xfirstx", tmp_path / "xsecondx"
    subprocess.run(command(answers, whole), check=True, capture_output=True)
    chance = random.Random()
    places = sorted(chance.randrange(1, written(whole) - 5000) for _ in range(10))
    kills = [kill_at(command(answers, cut), cut, place) for place in places]
    assert sum(kills) == 10, f"killed {sum(kills)} times at {places}"
    subprocess.run(command(answers, cut), check=True, capture_output=True)
    assert content(cut) == content(whole), f"differs after kills at {places}"


def test_a_server_that_fails_a_third_of_its_calls_costs_no_answer(tmp_path: Path) -> None:
    items = tmp_path / "items.jsonl"
    items.write_text(
        "".join(json.dumps({"id": f"{n}", "prompt": f"What is in picture {n}?"}) + "\n" for n in range(24))
    )
    chance = random.Random(1)
    troubles = ["500", "wait:0.1", "truncated", "mid-body", "reset", "html"]

    def third(_n: int, _body: object) -> Trouble:
        return chance.choice(troubles) if chance.random() < 1 / 3 else None

    with serving(third) as log:
        sources = [f"server:one@{log.url}", f"server:two@{log.url}"]
        line = ["crosscheck", *sources, "--items", str(items), "--judge", "ngram", "--weights", "uniform"]
        line += ["--out", str(tmp_path / "run"), "--bootstrap", "50", "--concurrency", "8", "--json"]
        done = subprocess.run(
            [sys.executable, "-m", "vlmtools", *line],
            capture_output=True,
            text=True,
            env=os.environ | {"VLMTOOLS_API_KEY": "secret-key"},
        )
    assert done.returncode == 0, done.stderr
    stored = [json.loads(line) for line in (tmp_path / "run" / "answers.jsonl").read_text().splitlines()]
    assert len(log.bodies) > 48, "no call failed, so the test shows nothing"
    assert len(stored) == 48 and all(
        row["text"].strip() == f"echo What is in picture {row['item']}?" for row in stored
    )
    assert [row["n_items"] for row in json.loads(done.stdout)["ranking"]] == [24, 24]
    assert not any(
        b"secret-key" in path.read_bytes() for path in (tmp_path / "run").iterdir() if path.is_file()
    )
