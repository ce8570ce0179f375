"""Stage two of a crosscheck: every claim is put to every passage of evidence, and the votes are stored."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from vlmtools.crosscheck.collect import ByItem, Progress, Stored, Tally, missing_chunks, reporter, silent
from vlmtools.crosscheck.judges.base import Claim, Judge, Question
from vlmtools.crosscheck.judging import Judging, worth_it
from vlmtools.crosscheck.panels import Together
from vlmtools.engine.base import Engine, Failed
from vlmtools.store import Store, call_key, media_hash
from vlmtools.types import Json, Sample

CODE_VERSION = 1
"""Part of every vote's key; raised when the way claims are put to judges changes."""

CHUNK = 2048
"""Questions handed to a judge at once."""

REFERENCE = "reference"
"""Name of the evidence in the `ref` mode: the item's trusted answer."""

Splitter = Callable[[str], tuple[Claim, ...]]


@dataclass(frozen=True, slots=True)
class VoteCall:
    """One question with the names it is stored under.

    Args:
        item: The item.
        target: Whose claims are judged.
        evidence: Whose words (or eyes) judge them.
        draw: Which of the evidence's passages.
        question: What the judge is asked.
    """

    item: str
    target: str
    evidence: str
    draw: int
    question: Question


@dataclass
class Votes:
    """What the judge said about one target's claims, item by item and evidence by evidence.

    Args:
        support: (item, target, evidence) → one list of supports per passage, each as long as the claims.
        unparsed: (target) → (votes that could not be read, votes).
    """

    support: dict[tuple[str, str, str], list[list[float]]] = field(default_factory=dict)
    unparsed: dict[str, tuple[int, int]] = field(default_factory=dict)

    def add(self, call: VoteCall, support: list[float], n_unparsed: int) -> None:
        """Take in the votes of one question."""
        self.support.setdefault((call.item, call.target, call.evidence), []).append(support)
        bad, n = self.unparsed.get(call.target, (0, 0))
        self.unparsed[call.target] = (bad + n_unparsed, n + len(support))


@dataclass(frozen=True)
class Subject:
    """One target's answers and claims.

    Args:
        stored: Its answers by item.
        claims: Its claims by item.
    """

    stored: ByItem
    claims: Mapping[str, tuple[Claim, ...]]


def subjects(answers: Mapping[str, ByItem], split: Splitter) -> dict[str, Subject]:
    """Split every scored answer into claims."""
    return {
        model: Subject(by_item, {item: split(stored.answers.text) for item, stored in by_item.items()})
        for model, by_item in answers.items()
    }


def cross_calls(
    judge: Judge,
    targets: Mapping[str, Subject],
    samples: Mapping[str, Sample],
    pairs: Sequence[tuple[str, str]],
    same: Together | None = None,
) -> Iterator[tuple[str, VoteCall]]:
    """Every claim of a target against every passage of an evidence model, target by target.

    Args:
        judge: Who is asked; its identity is part of the key.
        targets: Answers and claims by model; evidence models must be among them.
        samples: The items.
        pairs: (target, evidence); a model with itself is a self-check against its own samples.
        same: Who judges whom about an item; None is everybody. Then calls come item by item.
    """
    identity = dict(judge.identity())
    for item, target, evidence in _cells(targets, pairs, same):
        claims, said = targets[target].claims[item], targets[evidence].stored
        if not claims or item not in said or item not in samples:
            continue
        if target == evidence and not said[item].answers.samples:
            continue  # an answer always supports itself: without samples there is nothing to check against
        texts = tuple(claim.text for claim in claims)
        for draw, key, passage in said[item].evidence:
            call = VoteCall(item, target, evidence, draw, Question(texts, passage, samples[item]))
            yield _key(identity, targets[target].stored[item], texts, key), call


def _cells(
    targets: Mapping[str, Subject], pairs: Sequence[tuple[str, str]], same: Together | None
) -> Iterator[tuple[str, str, str]]:
    """(item, target, evidence) of every vote."""
    if same is None:
        yield from ((item, target, evidence) for target, evidence in pairs for item in targets[target].claims)
        return
    for item in dict.fromkeys(item for subject in targets.values() for item in subject.claims):
        for target, evidence in pairs:
            if item in targets[target].claims and same(item, target, evidence):
                yield item, target, evidence


def reference_calls(
    judge: Judge, targets: Mapping[str, Subject], samples: Mapping[str, Sample]
) -> Iterator[tuple[str, VoteCall]]:
    """Every claim against the item's trusted answer (RefCheck); items without one are left out."""
    identity = dict(judge.identity())
    for target, subject in targets.items():
        for item, claims in subject.claims.items():
            reference = samples[item].reference if item in samples else None
            if not claims or reference is None:
                continue
            texts = tuple(claim.text for claim in claims)
            call = VoteCall(item, target, REFERENCE, 0, Question(texts, reference, samples[item]))
            yield (
                _key(identity, subject.stored[item], texts, call_key("reference", {"text": reference})),
                call,
            )


def media_calls(
    judge: Judge,
    evidence: str,
    targets: Mapping[str, Subject],
    samples: Mapping[str, Sample],
    skip_self: bool,
    same: Together | None = None,
) -> Iterator[tuple[str, VoteCall]]:
    """Every claim shown to one evidence model together with the item itself (CrossCheck-implicit)."""
    identity = dict(judge.identity())
    pairs = [(target, evidence) for target in targets if not (skip_self and target == evidence)]
    for item, target, _ in _cells(targets, pairs, same):
        subject = targets[target]
        claims = subject.claims[item]
        if not claims or item not in samples:
            continue
        sample = samples[item]
        seen = {"text": sample.text, "media": {kind: media_hash(where) for kind, where in sample.media}}
        texts = tuple(claim.text for claim in claims)
        call = VoteCall(item, target, evidence, 0, Question(texts, None, sample))
        key = call_key("seen", {"by": evidence, **seen})
        yield _key(identity, subject.stored[item], texts, key), call


def _key(identity: Mapping[str, Json], target: Stored, claims: tuple[str, ...], evidence_key: str) -> str:
    """Bound to the very answers compared: a vote on one model's words can never count for another's."""
    parts = {
        "code": CODE_VERSION,
        "judge": dict(identity),
        "target": target.keys[0],
        "evidence": evidence_key,
    }
    return call_key("vote", {**parts, "claims": list(claims)})


def vote(
    store: Store,
    judge: Judge,
    calls: Sequence[tuple[str, VoteCall]],
    *,
    stage: str = "votes",
    progress: Progress = silent,
    offline: bool = False,
    engine: Engine | None = None,
) -> Tally:
    """Ask the judge what the store does not hold, storing each verdict as it comes, also when the judge gives up."""
    maker = worth_it(engine, judge, len(calls))
    chunks = list(missing_chunks(calls, lambda key: store.has("votes", key), maker.size(CHUNK)))
    n_missing = sum(map(len, chunks))
    tally = Tally(reused=len(calls) - n_missing)
    if offline and n_missing and judge.costs:
        tally.failed["not stored, and the run is offline"] = n_missing
        chunks = []
    report = reporter(progress, stage, tally.reused, len(calls))
    _ask(store, judge, maker, chunks, tally, report)
    return tally


def _ask(
    store: Store,
    judge: Judge,
    engine: Engine,
    chunks: list[list[tuple[str, VoteCall]]],
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


def read_back(store: Store, calls: Sequence[tuple[str, VoteCall]], votes: Votes) -> int:
    """Add the stored verdicts of `calls` to `votes`; returns how many are missing."""
    missing = 0
    for key, call in calls:
        record = store.get("votes", key)
        if record is None:
            missing += 1
        else:
            votes.add(call, [float(value) for value in record["support"]], int(record["unparsed"]))
    return missing
