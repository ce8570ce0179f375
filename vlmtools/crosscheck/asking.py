"""Votes that are not stored yet are asked for and stored as they come; stored ones are read back."""

from collections.abc import Callable, Iterable, Iterator, Sequence

from vlmtools.crosscheck.collect import Progress, Tally, missing_chunks, silent
from vlmtools.crosscheck.compared import Part
from vlmtools.crosscheck.judges.base import Judge
from vlmtools.crosscheck.judging import Judging, worth_it
from vlmtools.crosscheck.voting import VoteCall, Votes
from vlmtools.engine.base import Engine, Failed
from vlmtools.store import Store
from vlmtools.types import Json

CHUNK = 2048
"""Questions handed to a judge at once."""

Keyed = tuple[str, VoteCall]
"""What a vote is stored under, and what is asked."""
Calls = Callable[[Part], Iterable[Keyed]]
"""From a part of the items to the votes it needs."""


class Stream:
    """The votes of a stage, made out part by part, so that few wait in memory.

    Args:
        parts: The items; taken as they are needed.
        n_items: How many there are in all.
        calls_of: From a part to its votes.
    """

    def __init__(self, parts: Iterator[Part], n_items: int, calls_of: Calls) -> None:
        self._parts, self._n_items, self._calls_of = parts, n_items, calls_of
        self._n_seen = self._n_calls = 0
        self._first = self._next()

    @property
    def total(self) -> int:
        """How many votes there will be: an estimate from the parts seen so far, exact at the end."""
        return round(self._n_calls * self._n_items / self._n_seen) if self._n_seen else 0

    def __iter__(self) -> Iterator[Keyed]:
        """All votes; once only."""
        calls = self._first
        self._first = None
        while calls is not None:
            yield from calls
            calls = self._next()

    def _next(self) -> list[Keyed] | None:
        part = next(self._parts, None)
        if part is None:
            return None
        calls = list(self._calls_of(part))
        self._n_seen += len(part.items)
        self._n_calls += len(calls)
        return calls


def vote(
    store: Store,
    judge: Judge,
    calls: Stream,
    *,
    stage: str = "votes",
    progress: Progress = silent,
    offline: bool = False,
    engine: Engine | None = None,
) -> Tally:
    """Ask the judge what the store does not hold, storing each verdict as it comes, also when the judge gives up.

    Args:
        store: The run folder.
        judge: Who is asked.
        calls: All votes of the stage.
        stage: Its name.
        progress: Told after each vote.
        offline: Ask nothing that costs.
        engine: Where the judge is asked; None is in this process.
    """
    maker, tally = worth_it(engine, judge, calls.total), Tally()

    def stored(key: str) -> bool:
        there = store.has("votes", key)
        tally.reused += there
        return there

    def report() -> None:
        done = tally.reused + tally.asked
        progress(stage, done, max(done, calls.total))

    chunks = missing_chunks(calls, stored, maker.size(CHUNK))
    if offline and judge.costs:
        n_missing = sum(map(len, chunks))
        if n_missing:
            tally.failed["not stored, and the run is offline"] = n_missing
    else:
        _ask(store, judge, maker, chunks, tally, report)
    report()
    return tally


def _ask(
    store: Store,
    judge: Judge,
    engine: Engine,
    chunks: Iterable[list[Keyed]],
    tally: Tally,
    report: Callable[[], None],
) -> None:
    pending: list[tuple[str, dict[str, Json]]] = []
    try:
        for (key, call), votes in engine.map(chunks, Judging(judge)):
            if isinstance(votes, Failed):
                tally.fail(votes.why)
                continue
            record = _record(call, [vote.support for vote in votes], sum(not vote.parsed for vote in votes))
            raw = [vote.raw for vote in votes]
            if any(raw):
                record["raw"] = raw
            pending.append((key, record))
            tally.asked += 1
            report()
            if judge.costs or len(pending) == CHUNK:
                store.append_many("votes", pending)
                pending.clear()
    finally:
        store.append_many("votes", pending)


def _record(call: VoteCall, support: list[float], n_unparsed: int) -> dict[str, Json]:
    return {
        "item": call.item,
        "target": call.target,
        "evidence": call.evidence,
        "draw": call.draw,
        "claims": list(call.question.claims),
        "support": support,
        "unparsed": n_unparsed,
    }


def read_back(store: Store, calls: Iterable[Keyed], votes: Votes) -> int:
    """Add the stored verdicts of `calls` to `votes`; returns how many are missing."""
    missing = 0
    for key, call in calls:
        record = store.get("votes", key)
        if record is None:
            missing += 1
        else:
            votes.add(call, [float(value) for value in record["support"]], int(record["unparsed"]))
    return missing


def listed(calls: Sequence[Calls], part: Part) -> Iterator[Keyed]:
    """All votes of all stages about a part.

    Args:
        calls: Of each stage.
        part: The items.
    """
    for calls_of in calls:
        yield from calls_of(part)
