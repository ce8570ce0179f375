"""`vlmtools score` whose judge is asked on a cluster, killed with -9: the same line asks only what was not stored."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from judged_data import judged
from misbehaving_server import Log, question, serving
from places import ROOT

from vlmtools import lines

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray"),
    pytest.mark.filterwarnings("ignore::FutureWarning:ray"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

N = 40


def stored(folder: Path) -> list[str]:
    """What every whole stored answer says; this server repeats the question."""
    file = folder / "judge" / "answers.jsonl"
    records = [
        lines.decode(line) for line in (file.read_bytes() if file.exists() else b"").split(b"\n") if line
    ]
    return [str(record["text"]).removeprefix("echo ").strip() for record in records if record is not None]


def asked(log: Log) -> Counter[str]:
    with log.lock:
        return Counter(question(body).strip() for body in log.bodies)


@pytest.mark.parametrize("wanted", [4, 30, 75])
def test_only_what_was_not_stored_is_asked_again(cluster: Any, tmp_path: Path, wanted: int) -> None:
    made = judged("avhallubench", tmp_path, N)
    path = os.pathsep.join((str(ROOT), os.environ.get("PYTHONPATH", "")))
    env = {**os.environ, "PYTHONPATH": path}
    with serving(delay_s=0.1) as log:
        command = [sys.executable, "-m", "vlmtools", "score", made.answers, "--bench", made.bench]
        command += ["--data", made.data, "--judge-model", f"server:judge@{log.url}", "--out", "run"]
        command += ["--engine", f"ray:{cluster.address}", "--workers", "2", "--block", "2"]
        driver = subprocess.Popen(
            command, cwd=tmp_path, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        while driver.poll() is None and len(stored(tmp_path / "run")) < wanted:
            time.sleep(0.02)
        driver.send_signal(signal.SIGKILL)
        _, said = driver.communicate()
        assert driver.returncode == -signal.SIGKILL, said.decode()[-2000:]
        _wait_until_nobody_asks(log)
        there, before = stored(tmp_path / "run"), asked(log)
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-2000:]
        after = asked(log) - before
    every = stored(tmp_path / "run")
    assert wanted <= len(there) < len(every) == len(set(every)) == N * 3
    assert set(there) <= before.keys()
    assert after == Counter(set(every) - set(there)), "each missing verdict is asked once, no stored one is"
    evaluation = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert evaluation["n"] == N


def _wait_until_nobody_asks(log: Log) -> None:
    n = -1
    while n != len(log.bodies):
        n = len(log.bodies)
        time.sleep(2)
