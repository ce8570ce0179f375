"""The Ray engine on a real cluster of two nodes: the files of a run are those of the local engine."""

import threading
from pathlib import Path
from typing import Any

import pytest
from recording import Recording, calls, items, processes

from vlmtools.crosscheck.collect import Draws, collect
from vlmtools.engine import ray as engine_module
from vlmtools.engine.answering import Answering
from vlmtools.engine.base import Engine, Failed
from vlmtools.engine.local import Local
from vlmtools.engine.ray import RayData
from vlmtools.store import Store
from vlmtools.types import Request

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray"),
    pytest.mark.filterwarnings("ignore::FutureWarning:ray"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


def collected(folder: Path, responder: Recording, engine: Engine | None, n: int = 40) -> list[str]:
    """Lines of answers.jsonl after a run, sorted."""
    with Store(folder) as store:
        store.bind({"what": "test"})
        collect(store, responder, items(n), Draws(), engine=engine)
    return sorted((folder / "answers.jsonl").read_text().split("\n"))


def test_a_cluster_gives_the_answers_of_one_machine_asks_once_and_survives_a_poison_item(
    cluster: Any, tmp_path: Path
) -> None:
    log, poison = tmp_path / "log", ("item13",)
    engine = RayData(workers=2, block=4)
    there = collected(tmp_path / "ray", Recording(str(log), raises=poison, delay_s=0.05), engine)
    here = collected(tmp_path / "local", Recording(str(tmp_path / "other")), Local())
    assert [line for line in here if '"item13"' not in line] == there

    asked = calls(log)
    assert {item for item, _ in asked} == {one.id for one in items(40)}
    beside = {"item12", "item14", "item15"}  # in its block, which is begun twice and then taken apart
    assert all(n == 1 for (item, _), n in asked.items() if item not in {*beside, *poison})
    assert asked["item13", 0] == 4
    assert len(processes(log)) >= 2, "both nodes work"
    failures = (tmp_path / "ray" / "failures.jsonl").read_text()
    assert failures.count("\n") == 1
    assert "item13 is poison" in failures


@pytest.mark.slow
def test_one_pool_serves_a_run_and_a_very_long_one_begins_anew(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, n = tmp_path / "log", 200
    collected(tmp_path / "run", Recording(str(log)), RayData(workers=2, block=2), n)
    assert n // 2 > 2 * engine_module.AHEAD, "more blocks than are handed over at first"
    assert len(processes(log)) == 2
    monkeypatch.setattr(engine_module, "SITTING", 40)
    there = collected(
        tmp_path / "sittings", Recording(str(tmp_path / "other")), RayData(workers=2, block=2), n
    )
    assert len(processes(tmp_path / "other")) == 6, "100 blocks in three sittings of two workers"
    assert set(calls(tmp_path / "other").values()) == {1}
    assert len(there) == n + 1


class Unsendable(Answering):
    """Its second result cannot leave the process."""

    def do(self, calls: Any) -> Any:
        for index, result in super().do(calls):
            item = calls[index][1].sample.id
            yield index, threading.Lock() if item == "item1" else result


@pytest.mark.slow
def test_a_result_that_cannot_be_sent_has_failed_and_the_others_come(cluster: Any, tmp_path: Path) -> None:
    work = Unsendable(Recording(str(tmp_path / "log")))
    asked = [(one.id, Request(one)) for one in items(12)]
    blocks = [asked[start : start + 4] for start in range(0, 12, 4)]
    found = {key: result for (key, _), result in RayData(workers=1, block=4).map(blocks, work)}
    failed = {key: result.why for key, result in found.items() if isinstance(result, Failed)}
    assert found.keys() == {one.id for one in items(12)}
    assert failed.keys() == {"item1"}
    assert "cannot pickle" in failed["item1"]
