"""Calls are made by a pool of Ray actors, one model in each: Ray Data's `map_batches`, its results streamed back."""

import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

from vlmtools.engine.base import Call, Failed, Result, Work
from vlmtools.engine.block import Back, Worker
from vlmtools.engine.ledger import Ledger, numbers
from vlmtools.engine.sizing import GB, Asked, Share, room, share, smallest_gpu
from vlmtools.engine.underway import Underway
from vlmtools.errors import BadInput, NotInstalled

log = logging.getLogger(__name__)

AHEAD = 8
"""Blocks under way per worker: enough that none waits for the driver, and all that is kept in memory."""
SITTING = 65_536
"""Blocks after which workers start anew: what Ray remembers of each, some kB in the driver, is forgotten then."""
STARTS = 5
"""Workers that may die one after the other while they start; then nothing is wrong with a node, but with all."""
PROBE_S = 60
"""Seconds after which a node is not asked any longer how large its GPUs are."""
BLOCKS_PER_CHUNK = 16
"""A block is this part of a local chunk: all of it is lost when its worker dies, so it is small."""


class RayData:
    """A Ray cluster: the one this process is connected to, another one, or this machine alone.

    A worker takes a block and gives all its results back together. When it dies, or raises what is no error of
    vlmtools, it is replaced and the block is begun again; after `block.TRIES` times its calls are made one by one, and
    a call whose worker still dies every time is a `Failed`. So nothing that was given back is ever asked again.

    Args:
        address: As `ray.init` takes it; None is the cluster of this machine, started if there is none.
        workers: Most workers; None takes what the cluster has room for.
        gpus_per_worker: None is a share by memory for work that loads a model on a cluster with GPUs, else 0.
        cpus_per_worker: Cores set aside for each worker.
        block: Calls in a block; None is a sixteenth of a local chunk, at least a batch.
        batch: Calls that a model computes together, from 1.
        memory_per_worker: GB (10^9 bytes) of each worker that loads a model; 0 counts no memory, None is estimated
            unless `workers` is given.
    """

    def __init__(
        self,
        address: str | None = None,
        workers: int | None = None,
        gpus_per_worker: float | None = None,
        cpus_per_worker: float = 1.0,
        block: int | None = None,
        batch: int = 1,
        memory_per_worker: float | None = None,
    ) -> None:
        memory = None if memory_per_worker is None else round(memory_per_worker * GB)
        self.address, self.asked = address, Asked(workers, gpus_per_worker, cpus_per_worker, memory)
        self.block, self.batch = block, batch
        self._ours = False

    def size(self, chunk: int) -> int:
        """Calls in a block.

        Args:
            chunk: How many are handed over at once in one process.
        """
        return min(chunk, self.block or max(1, self.batch, chunk // BLOCKS_PER_CHUNK))

    def map(
        self, blocks: Iterable[Sequence[Call]], work: Work[Call, Result]
    ) -> Iterator[tuple[Call, Result | Failed]]:
        """Yield every call with its result, block by block, in any order.

        Args:
            blocks: Calls that one worker makes together.
            work: Copied to every worker.

        Raises:
            VlmToolsError: The setup is wrong here or on a node.
            NotInstalled: There is no Ray.
        """
        under_way: Underway[Call, Result] = Underway(blocks)
        while not under_way.over:
            for back in self._sitting(under_way, work):
                yield from under_way.back(back)
            yield from under_way.stand_up()
        if under_way.n_alone:
            log.warning("%s: %d calls whose worker ended were made one by one", work.name, under_way.n_alone)

    def close(self) -> None:
        """Leave the cluster, and end it if it was started here."""
        if self._ours:
            import ray

            ray.shutdown()
            self._ours = False

    def __enter__(self) -> Self:
        """For a `with` block."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def _sitting(self, under_way: Underway[Call, Result], work: Work[Call, Result]) -> Iterator[Back]:
        """What workers give back, as long as one pool of them lives; new blocks follow those that came back."""
        ray = self._ray()
        one, fit = self._pool(ray, work)
        # A node that is lost takes nothing along but its own work: the ledger stays with the driver.
        here = ray.get_runtime_context().get_node_id()
        stays = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(here, soft=False)
        ledger = ray.remote(num_cpus=0)(Ledger).options(scheduling_strategy=stays).remote()
        try:
            _hand_over(ray, ledger, under_way, work, AHEAD * fit)
            if not under_way.n:
                return
            results = self._results(ray, work, ledger, here, one, min(fit, under_way.n))
            with _hushed(), _in_our_words(ray, work.name):
                for frame in results:
                    for back in frame["back"]:
                        ray.get(ledger.done.remote(back.number))  # before anything is stored
                        yield back
                    _hand_over(ray, ledger, under_way, work, AHEAD * fit)
        finally:
            ray.kill(ledger)

    def _results(
        self, ray: Any, work: Work[Any, Any], ledger: Any, here: str, one: Share, size: int
    ) -> Iterator[Any]:
        import pandas as pd

        with _settings(ray):
            results = (
                ray.data.from_blocks([pd.DataFrame({"ledger": [0]})])
                .map_batches(
                    numbers,
                    fn_args=(ledger,),
                    batch_size=None,
                    batch_format="pandas",
                    num_cpus=0,
                    label_selector={"ray.io/node-id": here},
                )
                .map_batches(
                    Worker,
                    fn_constructor_args=(work, dict(work.identity()), ledger),
                    batch_size=1,  # a table has one row; with GPUs Ray insists on being told
                    batch_format="pandas",
                    compute=ray.data.ActorPoolStrategy(size=size),
                    num_cpus=one.cpus,
                    num_gpus=one.gpus or None,
                    memory=one.memory or None,
                )
            )
        # Nothing is fetched ahead: what waited here for its successor would keep that one from being handed over.
        return iter(results.iter_batches(batch_size=None, batch_format="pandas", prefetch_batches=0))

    def _pool(self, ray: Any, work: Work[Any, Any]) -> tuple[Share, int]:
        """What a worker gets, and how many of them there are."""
        one = share(self.asked, work, ray.nodes(), lambda: gpu_bytes(ray))
        fit = room(ray.nodes(), one)  # also refuses what fits nowhere: Ray would wait for ever
        log.info("%s: %s", work.name, one)
        return one, self.asked.workers or fit

    def _ray(self) -> Any:
        """Ray, connected."""
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is reported unasked
        try:
            import ray
            import ray.data
            import ray.exceptions
            import ray.util.scheduling_strategies
        except ImportError:
            raise NotInstalled.extra("ray[data]", "ray", "--engine ray") from None
        if not ray.is_initialized():
            try:
                ray.init(self.address, log_to_driver=False, logging_level=logging.ERROR)
            except (ConnectionError, ValueError, RuntimeError) as error:
                raise BadInput(
                    f"--engine ray:{self.address or ''} reaches no cluster ({_line(error)}). Without an address Ray "
                    "takes $RAY_ADDRESS, then a cluster of this machine, then starts one. Start the cluster with "
                    "`ray start --head`, or correct the address."
                ) from error
            self._ours = True
        return ray


def _hand_over(
    ray: Any, ledger: Any, under_way: Underway[Call, Result], work: Work[Call, Result], most: int
) -> None:
    """Fill up what is under way, and say when nothing will follow."""
    if under_way.closed:
        return
    blocks = under_way.more(most, SITTING)
    if blocks or under_way.closed:
        calls = {number: [work.travelling(call) for call in block] for number, block in blocks.items()}
        ray.get(ledger.add.remote(calls, under_way.closed))


def gpu_bytes(ray: Any) -> int | None:
    """Bytes of the smallest GPU of the cluster, asked of every node that has some; None when one of them cannot tell.

    Args:
        ray: Ray, connected.
    """
    probe = ray.remote(num_cpus=0)(smallest_gpu)
    there = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
    nodes = [node["NodeID"] for node in ray.nodes() if node["Alive"] and node["Resources"].get("GPU", 0)]
    asked = [probe.options(scheduling_strategy=there(node, soft=False)).remote() for node in nodes]
    try:
        found = ray.get(asked, timeout=PROBE_S)
    except ray.exceptions.RayError:
        return None
    return min(found) if found and None not in found else None


@contextmanager
def _settings(ray: Any) -> Iterator[None]:
    """Ray Data as we need it: it shows nothing, and a block that is lost does not end the others."""
    context = ray.data.DataContext.get_current()
    wanted = {
        "enable_progress_bars": False,
        "print_on_execution_start": False,
        "max_errored_blocks": -1,
        "target_max_block_size": 1,  # bytes: every table goes on at once instead of being joined with others
        "max_consecutive_actor_init_deaths": STARTS,  # a node may die while its worker starts
    }
    before = {name: getattr(context, name) for name in wanted if hasattr(context, name)}
    try:
        for name in before:
            setattr(context, name, wanted[name])
        yield
    finally:
        for name, value in before.items():
            setattr(context, name, value)


@contextmanager
def _in_our_words(ray: Any, name: str) -> Iterator[None]:
    """Ray's own errors end a run only when no worker can be started."""
    try:
        yield
    except ray.exceptions.RayError as error:
        raise BadInput(
            f"The cluster cannot start workers for {name!r}: {str(error).strip().splitlines()[-1][:300]} Every node "
            "needs vlmtools, the same packages and the same files as this one. Install them there; what is stored is "
            "kept."
        ) from error


@contextmanager
def _hushed() -> Iterator[None]:
    """Ray Data's own reports on lost blocks are left out: they are counted and told here."""
    logger = logging.getLogger("ray.data")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
