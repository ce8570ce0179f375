"""Stage one of a crosscheck: every answer that is not stored yet is asked for, stored, and read back by model."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import groupby, islice
from typing import Protocol, TypeVar

from vlmtools.crosscheck.told import Told
from vlmtools.engine.answering import Answering, Keyed
from vlmtools.engine.base import Engine, Failed
from vlmtools.engine.local import Local
from vlmtools.responders.recorded import Recorded
from vlmtools.store import Store, call_key, media_hash
from vlmtools.store.spool import text_list
from vlmtools.types import Decoding, Json, Reply, Request, Responder, Sample

T = TypeVar("T")

CODE_VERSION = 1
"""Part of every answer's key; raised when what is sent to a model changes, so that old answers are not reused."""

CHUNK = 256
"""Requests handed to a responder at once: enough to fill its batches and sort them by length."""


class Progress(Protocol):
    """Told how far a stage is: (stage, done, total)."""

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Called after every stored result."""
        ...


def silent(stage: str, done: int, total: int) -> None:
    """A `Progress` that shows nothing."""


@dataclass(frozen=True)
class Draws:
    """Which answers are wanted from each model.

    Args:
        scored: How the answer that is scored is decoded; the default is greedy.
        evidence: How the stochastic samples are decoded.
        n_samples: How many samples of each item, the K of the paper; 0 uses the scored answer as evidence.
    """

    scored: Decoding = Decoding()
    evidence: Decoding = Decoding(temperature=1.0)
    n_samples: int = 0

    def requests(self, sample: Sample) -> list[Request]:
        """Draw 0, which is scored, and draws 1..K, which are evidence."""
        drawn = [Request(sample, self.evidence, draw=k) for k in range(1, self.n_samples + 1)]
        return [Request(sample, self.scored, draw=0), *drawn]


@dataclass
class Tally:
    """What a stage did.

    Args:
        asked: Calls made now.
        reused: Calls answered from the store.
        failed: Reasons of calls that gave nothing, with how often.
    """

    asked: int = 0
    reused: int = 0
    failed: dict[str, int] = field(default_factory=dict)

    def fail(self, reason: str) -> None:
        """Count one failure."""
        self.failed[reason] = self.failed.get(reason, 0) + 1


def answer_key(identity: Mapping[str, Json], request: Request) -> str:
    """Key of an answer: everything that decides it, and the item it belongs to."""
    sample, decoding = request.sample, asdict(request.decoding)
    decoding["seed"] = request.seed if request.decoding.temperature > 0 else None
    return call_key(
        "answer",
        {
            "code": CODE_VERSION,
            "model": dict(identity),
            "item": sample.id,
            "prompt": sample.prompt,
            "text": sample.text,
            "media": {kind: media_hash(where) for kind, where in sample.media} if request.show_media else {},
            "decoding": decoding,
            "draw": request.draw,
        },
    )


def wanted(responder: Responder, samples: Sequence[Sample], draws: Draws) -> Iterator[tuple[str, Request]]:
    """Every (key, request) a run wants from one source."""
    identity = responder.identity()
    for sample in samples:
        for request in _requests(responder, sample, draws):
            yield _key(responder, identity, request), request


def _requests(responder: Responder, sample: Sample, draws: Draws) -> list[Request]:
    """A recorded source has the draws it has; everyone else is asked for what the run wants."""
    if not isinstance(responder, Recorded):
        return draws.requests(sample)
    said = responder.answers.get(sample.id)
    n_draws = 0 if said is None else 1 + len(said.samples)
    return [Request(sample, draw=draw) for draw in range(n_draws)]


def _key(responder: Responder, identity: Mapping[str, Json], request: Request) -> str:
    """Recorded answers are known by their text: a file that grows or moves keeps its votes."""
    if not isinstance(responder, Recorded):
        return answer_key(identity, request)
    said = responder.answers[request.sample.id]
    text = said.text if request.draw == 0 else said.samples[request.draw - 1]
    parts = {"recorded": responder.name, "item": said.id, "draw": request.draw, "answer": text}
    return call_key("answer", parts)


def collect(
    store: Store,
    responder: Responder,
    samples: Sequence[Sample],
    draws: Draws,
    *,
    progress: Progress = silent,
    offline: bool = False,
    engine: Engine | None = None,
) -> tuple[Told, Tally]:
    """Everything `responder` says about `samples`, asking only for what the store does not hold.

    Args:
        store: The run folder; each answer is appended as it arrives.
        responder: Who is asked.
        samples: The items.
        draws: Which answers of each item.
        progress: Told after each answer.
        offline: Never ask; missing answers are left out and counted as failed.
        engine: Where the calls are made; None is here. Recorded answers are always read here.

    Returns:
        Answers by item id (items without a scored answer are left out), and what was done.
    """
    maker = Local() if engine is None or isinstance(responder, Recorded) else engine
    keys = text_list(key for key, _ in wanted(responder, samples, draws))

    def calls() -> Iterator[Keyed]:
        requests = (one for sample in samples for one in _requests(responder, sample, draws))
        return zip(keys, requests, strict=True)

    def stored(key: str) -> bool:
        return store.has("answers", key)

    tally = Tally(reused=sum(map(stored, keys)))
    n_missing = len(keys) - tally.reused
    report = reporter(progress, f"answers of {responder.name}", tally.reused, len(keys))
    if offline and n_missing and not isinstance(responder, Recorded):
        tally.failed["not stored, and the run is offline"] = n_missing
    elif n_missing:
        _ask(store, responder, maker, missing_chunks(calls(), stored, maker.size(CHUNK)), tally, report)
    told = Told(store, responder.name)
    for item, asked in groupby(calls(), key=lambda call: call[1].sample.id):
        told.add(item, [key for key, _ in asked])
    return told, tally


def missing_chunks(
    calls: Iterable[tuple[str, T]], stored: Callable[[str], bool], size: int
) -> Iterator[list[tuple[str, T]]]:
    """What is not stored, in chunks cut at fixed places of the whole list, each made when it is needed.

    Fixed places make a resumed run form the same chunks as an undisturbed one, so that both write the same files.
    """
    every = iter(calls)
    while chunk := list(islice(every, size)):
        if missing := [call for call in chunk if not stored(call[0])]:
            yield missing


def reporter(progress: Progress, stage: str, done: int, total: int) -> Callable[[], None]:
    """A function to call after each result; what is already stored is shown at once."""
    count = [done]
    progress(stage, done, total)

    def one_more() -> None:
        count[0] += 1
        progress(stage, count[0], total)

    return one_more


def _ask(
    store: Store,
    responder: Responder,
    engine: Engine,
    chunks: Iterable[list[Keyed]],
    tally: Tally,
    report: Callable[[], None],
) -> None:
    for (key, request), found in engine.map(chunks, Answering(responder)):
        reply = Reply(None, error=found.why) if isinstance(found, Failed) else found
        if reply.text is None:
            tally.fail(reply.error or "no text")
            failure = {
                "item": request.sample.id,
                "model": responder.name,
                "draw": request.draw,
                "error": reply.error,
            }
            store.append("failures", call_key("failure", {"call": key, "error": reply.error}), failure)
        else:
            tally.asked += 1
            store.append("answers", key, _record(responder.name, request, reply))
        report()


def _record(model: str, request: Request, reply: Reply) -> dict[str, Json]:
    sample = request.sample
    record: dict[str, Json] = {"item": sample.id, "model": model, "draw": request.draw, "text": reply.text}
    record["modality"] = list(reply.modality)
    if reply.truncated:
        record["truncated"] = True
    if reply.n_new_tokens is not None:
        record["n_prompt_tokens"], record["n_new_tokens"] = reply.n_prompt_tokens, reply.n_new_tokens
    return record


def keep_items(store: Store, samples: Iterable[Sample]) -> None:
    """Store the items, a thousand at a time.

    Args:
        store: The run folder.
        samples: The items.
    """
    every = iter(samples)
    while some := list(islice(every, 1000)):
        store.append_many("items", map(_item, some))


def _item(sample: Sample) -> tuple[str, dict[str, Json]]:
    record = {name: value for name, value in asdict(sample).items() if value}
    return call_key("item", record), record
