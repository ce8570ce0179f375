"""From what a user types after `--engine` to an engine."""

import re

from vlmtools.engine.base import Engine
from vlmtools.errors import BadInput, UnknownName, suggest

NAMES = ("local", "ray")


def open_engine(
    spec: str = "local",
    *,
    workers: int | None = None,
    gpus_per_worker: float | None = None,
    cpus_per_worker: float = 1.0,
    block: int | None = None,
    batch_size: int | None = None,
    memory_per_worker: float | None = None,
) -> Engine:
    """The engine of a name; nothing is started before its first call.

    Args:
        spec: `local`; `ray` for the cluster this machine belongs to, else one on this machine alone; `ray:ADDRESS` for
            a cluster elsewhere, such as `ray:10.0.0.1:6379`; `ray:local` for one on this machine alone in any case.
        workers: Most workers per responder or judge, from 1; None takes what the cluster has room for.
        gpus_per_worker: GPUs of each worker, 0.25 for four workers on one GPU; None is a share by the memory that the
            model is estimated to take, where the cluster has GPUs and the work loads a model, else 0.
        cpus_per_worker: CPU cores set aside for each worker, above 0.
        block: Calls a worker takes at once and gives back together; None is a sixteenth of a local chunk, at least a
            batch.
        batch_size: What a model computes together; None when it finds out itself.
        memory_per_worker: GB (10^9 bytes) of each worker that loads a model, of its GPU where it has one, from 0; 0
            counts no memory; None is estimated, unless `workers` is given.

    Raises:
        UnknownName: There is no such engine.
        BadInput: A number makes no sense, or options of a cluster are given to the local engine.
    """
    name, _, address = spec.partition(":")
    if name not in NAMES:
        raise UnknownName(
            f"There is no engine {name!r}.{suggest(name, NAMES)} A cluster elsewhere is written ray:ADDRESS."
        )
    if name == "local":
        _refuse_for_local(spec, address, workers, gpus_per_worker, block, memory_per_worker)
        from vlmtools.engine.local import Local

        return Local()
    _check(workers, gpus_per_worker, cpus_per_worker, block, memory_per_worker)
    from vlmtools.engine.ray import RayData

    where = _address(address)
    return RayData(
        where, workers, gpus_per_worker, cpus_per_worker, block, batch_size or 1, memory_per_worker
    )


def refuse_budget(spec: str, budget: object) -> None:
    """A budget is counted call by call in this process, which a cluster runs ahead of.

    Args:
        spec: What the user typed.
        budget: The budget, or None.

    Raises:
        BadInput: There is a budget, and the engine is not local.
    """
    if budget is not None and spec != "local":
        raise BadInput(
            f"--budget is counted before every call in this process, and --engine {spec} makes calls elsewhere, many "
            "at once. Say what it will take with --plan and ask for less (--limit, --samples), or use --engine local: "
            "it keeps budgets, and server:MODEL@URL1,URL2 spreads the calls."
        )


def _refuse_for_local(spec: str, address: str, *of_a_cluster: float | None) -> None:
    if address or any(value is not None for value in of_a_cluster):
        raise BadInput(
            f"--engine {spec!r} runs in this process, without address, workers or blocks. Those belong to a cluster: "
            "add --engine ray, or leave them out; --batch-size and --concurrency are the options of one machine."
        )


def _address(text: str) -> str | None:
    if re.search(r"[\s@]", text):
        raise BadInput(
            f"--engine 'ray:{text}': an address is host:port, auto or local. Correct it, or write "
            "--engine ray."
        )
    return text or None


def _check(
    workers: int | None, gpus: float | None, cpus: float, block: int | None, memory: float | None
) -> None:
    small = any(value is not None and value < 1 for value in (workers, block))
    if small or any(value is not None and value < 0 for value in (gpus, memory)) or cpus <= 0:
        raise BadInput(
            f"A cluster cannot work with workers={workers}, gpus per worker={gpus}, cpus per worker={cpus}, "
            f"memory per worker={memory}, block={block}. Workers and blocks count from 1, GPUs and memory from 0, CPUs "
            "above 0. Correct them, or leave them out."
        )
