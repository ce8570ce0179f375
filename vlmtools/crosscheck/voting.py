"""Stage two of a crosscheck: every claim is put to every passage of evidence, each under a key of its own."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from vlmtools.crosscheck.judges.base import Claim, Question
from vlmtools.crosscheck.panels import Together
from vlmtools.crosscheck.told import ByItem, Stored
from vlmtools.store import call_key, media_hash
from vlmtools.types import Json, Sample

CODE_VERSION = 1
"""Part of every vote's key; raised when the way claims are put to judges changes."""

REFERENCE = "reference"
"""Name of the evidence in the `ref` mode: the item's trusted answer."""


class Identified(Protocol):
    """A judge, or what stands for it where only its identity is wanted."""

    def identity(self) -> Mapping[str, Json]:
        """What decides its verdicts."""
        ...


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


def cross_calls(
    judge: Identified,
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
    judge: Identified, targets: Mapping[str, Subject], samples: Mapping[str, Sample]
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
    judge: Identified,
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
