"""How many workers a cluster has room for: what one needs, what a node has, and what a GPU can be shared by."""

import math
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vlmtools.engine.base import Work
from vlmtools.errors import BadInput

GB = 10**9
PROCESS = 650 * 10**6
"""Bytes of a worker beside its model: Python, Ray, Arrow, torch and transformers (610 MB with a model of 22 MB)."""
CONTEXT = 600 * 10**6
"""Bytes that a process takes of a GPU for itself. Assumed, not measured."""
FILLED = 0.8
"""Share of a GPU that is planned for; prompts can be longer than the estimate supposes."""
MOST_PER_GPU = 4
"""Workers that share a GPU unasked: more would wait for the same cores."""
PROBE = ("nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits")


@dataclass(frozen=True, slots=True)
class Need:
    """Memory that a worker with a model takes, estimated.

    Args:
        weights: Bytes of the weights.
        calls: Bytes of what is computed together: keys and values, activations.
        beside: Bytes of everything else.
    """

    weights: int
    calls: int
    beside: int = PROCESS

    @property
    def total(self) -> int:
        """Bytes in all."""
        return self.weights + self.calls + self.beside

    def __str__(self) -> str:
        parts = (("weights", self.weights), ("calls under way", self.calls), ("the process", self.beside))
        return ", ".join(f"{name} {value / GB:.1f}" for name, value in parts)


@dataclass(frozen=True, slots=True)
class Asked:
    """What the user says about workers.

    Args:
        workers: Most of them, from 1; None is as many as there is room for.
        gpus: GPUs of each; None leaves it to the work and the estimate.
        cpus: Cores of each.
        memory: Bytes of each; None is estimated unless `workers` is given, 0 is not counted.
    """

    workers: int | None = None
    gpus: float | None = None
    cpus: float = 1.0
    memory: int | None = None


@dataclass(frozen=True, slots=True)
class Share:
    """What one worker gets of a node.

    Args:
        cpus: Cores.
        gpus: GPUs, a part of one or several whole ones.
        memory: Bytes of the machine's memory; 0 is not counted.
        why: Where the memory comes from, for messages.
    """

    cpus: float
    gpus: float = 0.0
    memory: int = 0
    why: str = ""


def share(
    asked: Asked,
    work: Work[Any, Any],
    nodes: Sequence[Mapping[str, Any]],
    gpu_bytes: Callable[[], int | None],
) -> Share:
    """What a worker gets: what the user says, else what the estimate says, else a core, and a GPU where there are any.

    Args:
        asked: What the user says.
        work: What is done.
        nodes: As `ray.nodes()` gives them.
        gpu_bytes: Finds the memory of the smallest GPU; called only when it decides something.
    """
    there = any(one.get("GPU", 0) for one in _alive(nodes))
    on_gpu = work.loads_a_model and (there if asked.gpus is None else asked.gpus > 0)
    gpus = asked.gpus if asked.gpus is not None else float(on_gpu)
    need = _need(asked, work, on_gpu)
    if need is None:
        return Share(asked.cpus, gpus)
    if not on_gpu:
        return Share(asked.cpus, gpus, need.total, _why(asked, work, need))
    if asked.gpus is None and (each := gpu_bytes()):
        gpus = of_gpu(need.total, each)
    return Share(asked.cpus, gpus, why=_why(asked, work, need))


def _why(asked: Asked, work: Work[Any, Any], need: Need) -> str:
    return f"for {work.name!r}, " + ("as asked for" if asked.memory else f"estimated in GB: {need}")


def _need(asked: Asked, work: Work[Any, Any], on_gpu: bool) -> Need | None:
    if asked.memory is not None:
        return Need(0, 0, asked.memory) if asked.memory and work.loads_a_model else None
    return needed(work, on_gpu) if asked.workers is None else None


def needed(work: Work[Any, Any], on_gpu: bool) -> Need | None:
    """What the responder behind the work says it needs; None when nobody knows.

    Args:
        work: Of a responder, or of a judge with one.
        on_gpu: Whether the model lies on a GPU.
    """
    responder: Any = getattr(getattr(work, "judge", work), "responder", None)
    if not work.loads_a_model or not hasattr(responder, "memory"):
        return None
    found: tuple[int, int] | None = responder.memory(on_gpu)
    return found and Need(*found, CONTEXT if on_gpu else PROCESS)


def of_gpu(need: float, gpu: float) -> float:
    """GPUs of one worker: 1/n when n of them fit on one, else as many as one needs.

    Args:
        need: Bytes of a worker on GPUs, above 0.
        gpu: Bytes of the smallest GPU, above 0.
    """
    fit = int(FILLED * gpu / need)
    if not fit:
        return float(math.ceil(need / (FILLED * gpu)))
    return math.floor(1e4 / min(fit, MOST_PER_GPU)) / 1e4  # Ray counts in ten-thousandths


def room(nodes: Sequence[Mapping[str, Any]], one: Share) -> int:
    """How many workers fit on the nodes that are alive.

    Args:
        nodes: As `ray.nodes()` gives them.
        one: What a worker gets.

    Raises:
        BadInput: Not a single one.
    """
    wanted = {kind: each for kind, each in _resources(one).items() if each > 0}
    fit = sum(
        min((int(node.get(kind, 0.0) / each + 1e-9) for kind, each in wanted.items()), default=0)
        for node in _alive(nodes)
    )
    if not fit:
        raise BadInput(
            f"No node of the cluster has room for a worker with {_told(_resources(one))}"
            f"{f' ({one.why})' if one.why else ''}. Its nodes have: "
            f"{'; '.join(map(_told, _alive(nodes))) or 'nothing'}. Ask for less (--cpus-per-worker, "
            "--gpus-per-worker, --memory-per-worker in GB, 0 to count no memory), make the model smaller (--quant, "
            "--dtype, --batch-size), or add a node with more. A cluster that grows on demand needs one such node first."
        )
    return fit


def _resources(one: Share) -> dict[str, float]:
    return {"CPU": one.cpus, "GPU": one.gpus, "memory": one.memory}


def _told(resources: Mapping[str, float]) -> str:
    memory = resources.get("memory", 0)
    told = f"{resources.get('CPU', 0):g} CPUs, {resources.get('GPU', 0):g} GPUs"
    return f"{told}, {memory / GB:.1f} GB" if memory else told


def _alive(nodes: Sequence[Mapping[str, Any]]) -> list[Mapping[str, float]]:
    return [node["Resources"] for node in nodes if node["Alive"]]


def smallest_gpu() -> int | None:
    """Bytes of the smallest GPU of this machine, by nvidia-smi; None when that tells nothing."""
    try:
        done = subprocess.run(PROBE, capture_output=True, text=True, timeout=30, check=True)
        return min(int(line) for line in done.stdout.split()) * 2**20
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
