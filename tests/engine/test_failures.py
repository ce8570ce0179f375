"""What dies is replaced, and only what was not stored is asked again: five runs each, on two real nodes."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from places import ROOT
from recording import Recording, begun, calls, items, processes

from vlmtools import lines
from vlmtools.crosscheck.collect import Draws, collect
from vlmtools.engine.ray import RayData
from vlmtools.errors import BadInput
from vlmtools.store import Store

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray"),
    pytest.mark.filterwarnings("ignore::FutureWarning:ray"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

N = 120
RUNS = range(5)


def stored(folder: Path) -> dict[str, str]:
    """Item → text of every whole record; a killed writer may leave a part of one."""
    raw = (folder / "answers.jsonl").read_bytes() if (folder / "answers.jsonl").exists() else b""
    records = [lines.decode(line) for line in raw.split(b"\n") if line]
    found = [(record["item"], record["text"]) for record in records if record is not None]
    assert len({item for item, _ in found}) == len(found), "an answer was stored twice"
    return dict(found)


def whole() -> dict[str, str]:
    return {f"item{k}": f"echo item{k} 0" for k in range(N)}


class Watched(Store):
    """Notes when each answer was stored."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.when: dict[str, float] = {}

    def append(self, kind: str, key: str, record: Any) -> bool:
        new = super().append(kind, key, record)
        if kind == "answers":
            self.when[record["item"]] = time.time()
        return new


def asked_after_they_were_stored(log: Path, when: dict[str, float]) -> list[str]:
    return [item for item, _, start in begun(log) if item in when and start > when[item]]


@pytest.mark.parametrize("run", RUNS)
def test_a_node_killed_in_the_middle_costs_only_what_it_was_doing(
    cluster: Any, tmp_path: Path, run: int
) -> None:
    log = tmp_path / "log"
    wait = random.Random(run).uniform(0.2, 0.8)

    def kill_when_it_works() -> None:
        while not log.exists() or len(processes(log)) < 2:
            time.sleep(0.05)
        time.sleep(wait)
        cluster.remove_node(cluster.second, allow_graceful=False)

    killer = threading.Thread(target=kill_when_it_works, daemon=True)
    killer.start()
    with Watched(tmp_path / "run") as store:
        store.bind({"what": "test"})
        responder = Recording(str(log), delay_s=0.1)
        _, tally = collect(store, responder, items(N), Draws(), engine=RayData(workers=2, block=4))
        when = dict(store.when)
    killer.join(30)
    assert not killer.is_alive(), "the node was never killed"
    assert stored(tmp_path / "run") == whole()
    assert not tally.failed
    assert asked_after_they_were_stored(log, when) == []
    again = sum(calls(log).values()) - N
    assert again <= 16, f"{again} calls were made again, and the node was on a few blocks of four"


@pytest.mark.parametrize("run", RUNS)
def test_a_process_that_an_item_ends_is_replaced_and_the_item_is_recorded_as_failed(
    cluster: Any, tmp_path: Path, run: int
) -> None:
    log, poison = tmp_path / "log", f"item{random.Random(run).randrange(N)}"
    with Watched(tmp_path / "run") as store:
        store.bind({"what": "test"})
        responder = Recording(str(log), kills=(poison,), delay_s=0.01)
        _, tally = collect(store, responder, items(N), Draws(), engine=RayData(workers=2, block=4))
        when = dict(store.when)
    assert sum(tally.failed.values()) == 1
    assert stored(tmp_path / "run") == {item: text for item, text in whole().items() if item != poison}
    assert asked_after_they_were_stored(log, when) == []
    assert calls(log)[poison, 0] == 4
    with Store(
        tmp_path / "run"
    ) as store:  # the cause is gone: the same line asks for the one that is missing
        before = sum(calls(log).values())
        collect(store, Recording(str(log)), items(N), Draws())
    assert stored(tmp_path / "run") == whole()
    assert sum(calls(log).values()) == before + 1


@pytest.mark.parametrize("run", RUNS)
def test_a_driver_killed_with_nine_goes_on_where_it_was(cluster: Any, tmp_path: Path, run: int) -> None:
    log, folder = tmp_path / "log", tmp_path / "run"
    path = os.pathsep.join((str(ROOT), str(ROOT / "tests" / "engine")))
    command = [sys.executable, str(ROOT / "tests" / "engine" / "drive.py")]
    command += [cluster.address, str(folder), str(log), str(N), "0.05"]
    wanted = random.Random(run).randrange(10, 80)
    driver = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": path}, stderr=subprocess.PIPE)
    try:
        while driver.poll() is None and len(stored(folder)) < wanted:
            time.sleep(0.02)
    finally:
        driver.send_signal(signal.SIGKILL)
    _, said = driver.communicate()
    assert driver.returncode == -signal.SIGKILL, said.decode()[-2000:]
    _wait_until_nobody_asks(log)
    there, n_before = stored(folder), len(begun(log))
    assert wanted <= len(there) < N
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert stored(folder) == whole()
    assert {item for item, _, _ in begun(log)[n_before:]} == whole().keys() - there.keys()


def _wait_until_nobody_asks(log: Path) -> None:
    size = -1
    while size != log.stat().st_size:
        size = log.stat().st_size
        time.sleep(2)


def test_a_run_begun_here_goes_on_there_and_back(cluster: Any, tmp_path: Path) -> None:
    log = tmp_path / "log"
    for n, engine in ((40, None), (80, RayData(workers=2, block=4)), (N, None)):
        with Store(tmp_path / "run") as store:
            store.bind({"what": "test"})
            collect(store, Recording(str(log)), items(n), Draws(), engine=engine)
    assert stored(tmp_path / "run") == whole()
    assert set(calls(log).values()) == {1}


def test_a_node_with_another_model_ends_the_run_and_stores_nothing(cluster: Any, tmp_path: Path) -> None:
    responder = Recording(str(tmp_path / "log"), elsewhere="another")
    with Store(tmp_path / "run") as store:
        store.bind({"what": "test"})
        with pytest.raises(BadInput, match=r"version is 'another', here 'same'"):
            collect(store, responder, items(8), Draws(), engine=RayData(workers=1, block=4))
    assert stored(tmp_path / "run") == {}
