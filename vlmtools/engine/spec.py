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
) -> Engine:
    """The engine of a name; nothing is started before its first call.

    Args:
        spec: `local`; `ray` for the cluster this machine belongs to, else one on this machine alone; `ray:ADDRESS` for
            a cluster elsewhere, such as `ray:10.0.0.1:6379`; `ray:local` for one on this machine alone in any case.
        workers: Most workers per responder or judge, from 1; None takes what the cluster has room for.
        gpus_per_worker: GPUs of each worker, 0.25 for four workers on one GPU; None is 1 where the cluster has GPUs and
            the work loads a model, else 0.
        cpus_per_worker: CPU cores set aside for each worker, above 0.
        block: Calls a worker takes at once and gives back together; None is a sixteenth of a local chunk, at least a
            batch.
        batch_size: What a model computes together; None when it finds out itself.

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
        _refuse_for_local(spec, address, workers, gpus_per_worker, block)
        from vlmtools.engine.local import Local

        return Local()
    _check(workers, gpus_per_worker, cpus_per_worker, block)
    from vlmtools.engine.ray import RayData

    return RayData(_address(address), workers, gpus_per_worker, cpus_per_worker, block, batch_size or 1)


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


def _refuse_for_local(
    spec: str, address: str, workers: int | None, gpus: float | None, block: int | None
) -> None:
    if address or workers is not None or gpus is not None or block is not None:
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


def _check(workers: int | None, gpus: float | None, cpus: float, block: int | None) -> None:
    given = {"workers": workers, "block": block}
    small = [name for name, value in given.items() if value is not None and value < 1]
    if small or (gpus is not None and gpus < 0) or cpus <= 0:
        raise BadInput(
            f"A cluster cannot work with workers={workers}, gpus per worker={gpus}, cpus per worker={cpus}, "
            f"block={block}. Workers and blocks count from 1, GPUs from 0, CPUs above 0. Correct them, or leave them "
            "out."
        )
