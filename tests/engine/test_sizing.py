"""How many workers: pure functions of what a worker needs and what nodes have, and a pool on declared nodes."""

import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from recording import Recording

from vlmtools.engine.answering import Answering
from vlmtools.engine.ray import RayData, gpu_bytes
from vlmtools.engine.sizing import (
    CONTEXT,
    FILLED,
    GB,
    MOST_PER_GPU,
    PROCESS,
    Asked,
    Need,
    Share,
    needed,
    of_gpu,
    room,
    share,
    smallest_gpu,
)
from vlmtools.errors import BadInput
from vlmtools.responders.hf import FIRST_GUESS, HF
from vlmtools.types import Json


def node(alive: bool = True, **resources: float) -> dict[str, Any]:
    return {"Alive": alive, "Resources": resources}


@dataclass(frozen=True)
class Model:
    """Work of a model that needs as much as it is told."""

    need: tuple[int, int] | None = (14 * GB, 2 * GB)
    loads_a_model: bool = True
    name: str = "seven"

    @property
    def responder(self) -> "Model":
        return self

    def memory(self, on_gpu: bool) -> tuple[int, int] | None:
        return self.need


def never() -> int:
    raise AssertionError("the GPUs were asked although nothing depends on them")


def test_room_counts_what_fits_on_each_node_that_is_alive() -> None:
    nodes = [node(CPU=8, GPU=2), node(CPU=3), node(alive=False, CPU=64, GPU=8)]
    assert room(nodes, Share(1)) == 11
    assert room(nodes, Share(2, 1)) == 2
    assert room(nodes, Share(1, 0.25)) == 8
    assert room([node(CPU=1, GPU=1)], Share(0.1, 0.1)) == 10, "a tenth fits ten times, whatever floats say"
    with pytest.raises(BadInput, match=r"8 CPUs, 2 GPUs; 3 CPUs, 0 GPUs"):
        room(nodes, Share(16))


def test_memory_bounds_the_pool_and_the_message_has_the_numbers() -> None:
    nodes = [node(CPU=64, memory=32e9), node(CPU=64, memory=15e9)]
    seven = share(Asked(), Model(), nodes, never)  # type: ignore[arg-type]
    assert seven == Share(1.0, 0.0, 16 * GB + PROCESS, seven.why)
    with pytest.raises(
        BadInput, match=r"16\.6 GB .*'seven', estimated in GB: weights 14\.0, calls under way 2\.0.*15\.0 GB"
    ):
        room(nodes[1:], seven)
    assert room(nodes, seven) == 1
    assert room(nodes, share(Asked(memory=0), Model(), nodes, never)) == 128  # type: ignore[arg-type]
    assert room(nodes, share(Asked(memory=5 * GB), Model(), nodes, never)) == 9  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("asked", "work"),
    [
        (Asked(workers=3), Model()),
        (Asked(memory=0), Model()),
        (Asked(), Model(need=None)),
        (Asked(), Model(loads_a_model=False)),
        (Asked(memory=GB), Model(loads_a_model=False)),
    ],
)
def test_where_nothing_is_estimated_memory_is_not_counted(asked: Asked, work: Any) -> None:
    assert share(asked, work, [node(CPU=2, memory=1e9)], never) == Share(1.0)


def test_a_gpu_is_shared_by_as_many_as_fit_and_a_large_model_takes_several() -> None:
    assert of_gpu(16 * GB, 80 * GB) == 0.25
    assert of_gpu(30 * GB, 80 * GB) == 0.5
    assert of_gpu(40 * GB, 80 * GB) == 1.0
    assert of_gpu(FILLED * 80 * GB, 80 * GB) == 1.0
    assert of_gpu(140 * GB, 80 * GB) == 3.0
    assert of_gpu(1, 80 * GB) == 1 / MOST_PER_GPU
    assert 3 * of_gpu(20 * GB, 80 * GB) <= 1


def test_on_gpus_the_share_comes_from_the_smallest_one_unless_the_user_says_it() -> None:
    nodes = [node(CPU=8, GPU=1, memory=64e9)]
    told = share(Asked(), Model(), nodes, lambda: 48 * GB)  # type: ignore[arg-type]
    assert (told.gpus, told.memory) == (0.5, 0)
    assert f"the process {CONTEXT / GB:.1f}" in told.why
    assert share(Asked(), Model(), nodes, lambda: None).gpus == 1.0  # type: ignore[arg-type]
    assert share(Asked(gpus=0.125), Model(), nodes, never).gpus == 0.125  # type: ignore[arg-type]
    assert share(Asked(workers=2), Model(), nodes, never) == Share(1.0, 1.0)  # type: ignore[arg-type]
    assert share(Asked(memory=12 * GB), Model(), nodes, lambda: 48 * GB).gpus == 0.3333  # type: ignore[arg-type]
    on_cpu = share(Asked(gpus=0), Model(), nodes, never)  # type: ignore[arg-type]
    assert (on_cpu.gpus, on_cpu.memory) == (0.0, 16 * GB + PROCESS)
    with pytest.raises(BadInput, match=r"4 GPUs .*'seven'.*8 CPUs, 1 GPUs"):
        room(nodes, share(Asked(), Model(need=(140 * GB, 0)), nodes, lambda: 48 * GB))  # type: ignore[arg-type]


def test_nvidia_smi_is_read_and_its_absence_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def prints(text: str) -> Any:
        return lambda *_, **__: subprocess.CompletedProcess([], 0, text, "")

    monkeypatch.setattr(subprocess, "run", prints("81559\n40960\n"))
    assert smallest_gpu() == 40960 * 2**20
    for nothing in ("", "[N/A]\n"):
        monkeypatch.setattr(subprocess, "run", prints(nothing))
        assert smallest_gpu() is None
    monkeypatch.undo()
    monkeypatch.setenv("PATH", "")
    assert smallest_gpu() is None


def test_a_reference_model_needs_what_its_weights_and_a_batch_take() -> None:
    clean = HF("reference:clean", batch_size=8)
    need = needed(Answering(clean), on_gpu=False)
    assert need is not None
    weights = 5_608_896  # stored as float16, loaded as float32
    assert need.weights == 4 * weights
    one = (2 * 6 * 6 * 32 + 4 * 192 + 3 * 512) * 1024 * 4 + 2 * 4 * 586
    assert (need.calls, need.beside) == (8 * one, PROCESS)
    assert HF("reference:clean", dtype="bfloat16").memory(False) == (2 * weights, 4 * _half(one))
    on_gpu = HF("reference:clean").memory(True)
    assert on_gpu == (4 * weights, FIRST_GUESS.get("cuda", 16) * one)
    assert needed(Answering(Recording("log")), on_gpu=False) is None


def _half(one: int) -> int:
    return (one - 8 * 586) // 2 + 8 * 586


@dataclass(frozen=True)
class Asks:
    """Work of a judge behind which a model stands, as the crosscheck has it."""

    judge: Any = field(default_factory=lambda: Judge())
    loads_a_model: bool = True
    name: str = "asks"


@dataclass(frozen=True)
class Judge:
    responder: Any = field(default_factory=Model)


def test_the_model_behind_a_judge_counts() -> None:
    assert needed(Asks(), on_gpu=False) == Need(14 * GB, 2 * GB)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Placed:
    """Work that says in which process and on which node it was done; it takes a while, so that all workers do some."""

    need: int
    name: str = "placed"
    loads_a_model: bool = True

    @property
    def responder(self) -> "Placed":
        return self

    def memory(self, on_gpu: bool) -> tuple[int, int]:
        return self.need - PROCESS, 0

    def identity(self) -> dict[str, Json]:
        return {}

    def travelling(self, call: int) -> int:
        return call

    def do(self, calls: Any) -> Any:
        import time

        import ray

        time.sleep(0.5)
        for index, _ in enumerate(calls):
            yield index, (ray.get_runtime_context().get_node_id(), os.getpid())

    def close(self) -> None:
        """Nothing."""


@pytest.fixture
def uneven(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Nodes of 1, 4 and 2 GB with four cores each, as far as Ray knows."""
    ray = pytest.importorskip("ray")
    root, here = Path(__file__).parents[2], Path(__file__).parent
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(root), str(here))))
    from ray.cluster_utils import Cluster

    more = {"num_cpus": 4, "object_store_memory": 100 * 2**20}
    head = {**more, "memory": GB, "include_dashboard": False}
    made = Cluster(initialize_head=True, head_node_args=head)
    try:
        nodes = {made.add_node(**more, memory=gb * GB).node_id: gb for gb in (4, 2)}
        ray.init(address=made.address, log_to_driver=False)
        yield nodes
    finally:
        ray.shutdown()
        made.shutdown()


def used(engine: RayData, need: int) -> set[Any]:
    """(node, process) of everybody who did something."""
    return {where for _, where in engine.map([[k] for k in range(24)], Placed(need))}


SLOW = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray"),
    pytest.mark.filterwarnings("ignore::FutureWarning:ray"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


def slow(test: Any) -> Any:
    for mark in SLOW:
        test = mark(test)
    return test


@slow
def test_the_pool_is_as_large_as_memory_allows_and_no_larger(uneven: dict[str, int]) -> None:
    import ray

    found = used(RayData(block=1), 3 * GB // 2)
    per_node = {name: len({pid for at, pid in found if at == name}) for name, _ in found}
    assert per_node == {name: {4: 2, 2: 1}[gb] for name, gb in uneven.items()}
    assert len(used(RayData(block=1, workers=4), 9 * GB)) == 4, "a number of workers wins over the estimate"
    for engine, words in (
        (RayData(), r"9\.0 GB \(for 'placed', est.*4\.0 GB"),
        (RayData(memory_per_worker=6), r"6\.0 GB \(for 'placed', as asked for"),
        (RayData(workers=1, cpus_per_worker=5), r"5 CPUs, 0 GPUs.*4 CPUs, 0 GPUs"),
        (RayData(workers=1, gpus_per_worker=1), r"1 CPUs, 1 GPUs.*4 CPUs, 0 GPUs"),
    ):
        with pytest.raises(BadInput, match=words):
            list(engine.map([[1]], Placed(9 * GB)))
    assert gpu_bytes(ray) is None, "no node has a GPU"


@slow
def test_the_nodes_with_gpus_are_asked_how_large_they_are(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ray = pytest.importorskip("ray")
    told = tmp_path / "nvidia-smi"
    told.write_text("#!/bin/sh\necho 40960\necho 24576\n")
    told.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    root, here = Path(__file__).parents[2], Path(__file__).parent
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(root), str(here))))
    from ray.cluster_utils import Cluster

    more = {"num_cpus": 4, "object_store_memory": 100 * 2**20}
    made = Cluster(initialize_head=True, head_node_args={**more, "include_dashboard": False})
    try:
        made.add_node(**more, num_gpus=2)
        ray.init(address=made.address, log_to_driver=False)
        assert gpu_bytes(ray) == 24576 * 2**20
        found = used(RayData(block=1), 8 * GB)
        assert len(found) == 4, "two of 8 GB fit on a GPU of 25.8 GB, of which four fifths are planned for"
    finally:
        ray.shutdown()
        made.shutdown()
