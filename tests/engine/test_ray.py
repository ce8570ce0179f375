"""The Ray engine on a real cluster of two nodes: the files of a run are those of the local engine."""

from pathlib import Path
from typing import Any

import pytest
from recording import Recording, calls, items, processes

from vlmtools.crosscheck.collect import Draws, collect
from vlmtools.engine.base import Engine
from vlmtools.engine.local import Local
from vlmtools.engine.ray import RayData
from vlmtools.store import Store

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
