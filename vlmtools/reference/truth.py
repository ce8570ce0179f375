"""Exact scores of captions and answers about scenes: nothing is guessed, because everything in a scene is known."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal

from vlmtools.reference.language import EXISTS, a
from vlmtools.reference.world import COMPANION, THEME_OF, THINGS, Scene

Sampling = Literal["random", "popular", "adversarial"]
SAMPLINGS: tuple[Sampling, ...] = ("random", "popular", "adversarial")

_NAMED = re.compile(rf"\b({'|'.join(sorted(THINGS, key=len, reverse=True))})s?\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class CaptionTruth:
    """What one caption gets right and wrong.

    Args:
        named: Things it names, in order, each once.
        invented: Those that are not there.
        missed: Things that are there and not named.
        n_words: Its length.
    """

    named: tuple[str, ...]
    invented: tuple[str, ...]
    missed: tuple[str, ...]
    n_words: int


@dataclass(frozen=True, slots=True)
class Probe:
    """A yes-or-no question with its truth.

    Args:
        name: The thing asked about.
        question: The question, in POPE's words.
        present: Whether it is there.
        sampling: How the thing was chosen, if it is absent.
    """

    name: str
    question: str
    present: bool
    sampling: Sampling


def named(text: str) -> tuple[str, ...]:
    """Things a text names, in order, each once. A plural counts; a negation is not understood.

    Args:
        text: Any text.
    """
    return tuple(dict.fromkeys(found.lower() for found in _NAMED.findall(text)))


def caption_truth(text: str, there: Sequence[str]) -> CaptionTruth:
    """Compare a caption with what is there.

    Args:
        text: What was written.
        there: Names of the things in the scene.
    """
    said = named(text)
    invented = tuple(name for name in said if name not in there)
    missed = tuple(name for name in there if name not in said)
    return CaptionTruth(said, invented, missed, len(text.split()))


def chair(truths: Sequence[CaptionTruth]) -> dict[str, float]:
    """CHAIR_i, CHAIR_s, recall and mean length over captions; rates in [0, 1], 0 where nothing was named.

    Args:
        truths: One per caption.

    Reference: arXiv:1809.02156, section 3.
    """
    n_named = sum(len(one.named) for one in truths)
    n_invented = sum(len(one.invented) for one in truths)
    n_found = n_named - n_invented
    n_there = n_found + sum(len(one.missed) for one in truths)
    return {
        "CHAIRi": n_invented / n_named if n_named else 0.0,
        "CHAIRs": sum(bool(one.invented) for one in truths) / len(truths) if truths else 0.0,
        "Recall": n_found / n_there if n_there else 0.0,
        "n_words": sum(one.n_words for one in truths) / len(truths) if truths else 0.0,
    }


def probes(scene: Scene, sampling: Sampling, popular: Sequence[str] = THINGS) -> Iterator[Probe]:
    """Up to three things that are there and as many that are not, in turn, as POPE asks.

    Args:
        scene: The scene.
        sampling: How absent things are chosen: `random`; `popular`, the most frequent of the whole set; or
            `adversarial`, those that usually come with what is there: companions first, then the same theme.
        popular: Things from the most frequent on, for `popular`.

    Reference: arXiv:2305.10355, section 5.1.
    """
    draw = Random(f"probes-{sampling}-{scene.id}")
    there = _shuffled(scene.names, draw)[:3]
    for name, missing in zip(there, _absent(scene, sampling, popular, draw), strict=False):
        yield Probe(name, EXISTS[0].format(a(name)), True, sampling)
        yield Probe(missing, EXISTS[0].format(a(missing)), False, sampling)


def by_frequency(scenes: Iterable[Scene]) -> tuple[str, ...]:
    """All things, the most frequent first; ties in the order of `THINGS`.

    Args:
        scenes: The set that is asked about.
    """
    counts = dict.fromkeys(THINGS, 0)
    for scene in scenes:
        for name in scene.names:
            counts[name] += 1
    return tuple(sorted(THINGS, key=lambda name: -counts[name]))


def _absent(scene: Scene, sampling: Sampling, popular: Sequence[str], draw: Random) -> list[str]:
    if sampling == "popular":
        return [name for name in popular if name not in scene.names]
    shuffled = _shuffled(scene.absent, draw)
    if sampling == "random":
        return shuffled
    companions = {COMPANION[name] for name in scene.names}
    themes = {THEME_OF[name] for name in scene.names}
    return sorted(shuffled, key=lambda name: (name not in companions, THEME_OF[name] not in themes))


def _shuffled(names: Sequence[str], draw: Random) -> list[str]:
    return [name for _, name in sorted((draw.random(), name) for name in names)]
