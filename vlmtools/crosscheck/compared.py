"""The items that are compared, with what every source said about them: gone through in parts, never held whole."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Self

from vlmtools.crosscheck.told import ByItem
from vlmtools.crosscheck.voting import Splitter, Subject
from vlmtools.errors import BadInput
from vlmtools.store.spool import text_list
from vlmtools.types import Sample, by_id

MOST_ITEMS, FEWEST_ITEMS = 1024, 16
PART_VOTES = 2**15
"""Votes about a part, unless it has the fewest items: with more models a part has fewer items."""


@dataclass(frozen=True)
class Part:
    """Some of the compared items.

    Args:
        first: Place of the first one among all.
        items: Their ids.
        samples: The items.
        subjects: Answers and claims by model.
    """

    first: int
    items: tuple[str, ...]
    samples: Mapping[str, Sample]
    subjects: Mapping[str, Subject]


class Coverage:
    """Who answered which part of the compared items.

    Args:
        models: Names.
    """

    def __init__(self, models: Sequence[str]) -> None:
        self.models = tuple(models)
        self._seen = Counter[frozenset[str]]()

    def add(self, who: Sequence[str]) -> None:
        """Count an item.

        Args:
            who: Models that answered it.
        """
        self._seen[frozenset(who)] += 1

    def answered(self, *models: str) -> int:
        """Items that all of the models answered.

        Args:
            models: Names.
        """
        return sum(n for who, n in self._seen.items() if who.issuperset(models))

    def apart(self, fewest: int) -> list[tuple[str, str, int]]:
        """Pairs of models that share fewer items, with their number.

        Args:
            fewest: Items that are enough.
        """
        shared = Counter[tuple[str, str]]()
        for who, n in self._seen.items():
            for a, b in combinations([model for model in self.models if model in who], 2):
                shared[a, b] += n
        return [(a, b, shared[a, b]) for a, b in combinations(self.models, 2) if shared[a, b] < fewest]


class Compared:
    """Answers and claims of the items that enough sources answered.

    Args:
        answered: Answers by model; they may lie on disk.
        samples: The items, in run order.
        least: Sources that must have answered an item.
        split: From an answer to its claims.

    Raises:
        BadInput: No item is left, or there is only one source to compare.
    """

    def __init__(
        self, answered: Mapping[str, ByItem], samples: Sequence[Sample], least: int, split: Splitter
    ) -> None:
        _enough(answered, least)
        self.answered, self.split = dict(answered), split
        self.items = text_list()
        self.coverage = Coverage(tuple(answered))
        self._samples = by_id(samples)
        for sample in samples:
            who = [model for model, by_item in answered.items() if sample.id in by_item]
            if len(who) >= least:
                self.items.append(sample.id)
                self.coverage.add(who)
        if not self.items:
            raise _nothing_shared(answered, least)

    @property
    def models(self) -> tuple[str, ...]:
        """Whose answers are compared."""
        return tuple(self.answered)

    def only(self, models: Sequence[str]) -> Self:
        """Leave out the others; the items stay.

        Args:
            models: Who is left.
        """
        self.answered = {model: self.answered[model] for model in models}
        return self

    def claims_anything(self, model: str) -> bool:
        """Whether any of the model's answers has a claim.

        Args:
            model: Its name.
        """
        by_item = self.answered[model]
        return any(self.split(by_item[item].answers.text) for item in self.items if item in by_item)

    def parts(self, n_passages: int = 1) -> Iterator[Part]:
        """All compared items in order.

        Args:
            n_passages: Passages of evidence per answer.
        """
        size = part_size(len(self.models), n_passages)
        for first in range(0, len(self.items), size):
            yield self.part(first, tuple(self.items.stretch(first, first + size)))

    def part(self, first: int, items: tuple[str, ...]) -> Part:
        """Some of the items.

        Args:
            first: Place of the first one.
            items: Ids.
        """
        return Part(
            first,
            items,
            {item: self._samples[item] for item in items},
            {model: self._subject(by_item, items) for model, by_item in self.answered.items()},
        )

    def digest(self) -> str:
        """SHA-256 of the list of ids, as JSON."""
        digest = hashlib.sha256(b"[")
        for place, item in enumerate(self.items):
            digest.update((", " if place else "").encode() + json.dumps(item).encode())
        digest.update(b"]")
        return digest.hexdigest()

    def _subject(self, by_item: ByItem, items: Sequence[str]) -> Subject:
        stored = {item: by_item[item] for item in items if item in by_item}
        return Subject(stored, {item: self.split(one.answers.text) for item, one in stored.items()})


def part_size(n_models: int, n_passages: int = 1) -> int:
    """Items of a part.

    Args:
        n_models: Models that judge each other.
        n_passages: Passages of each.
    """
    votes = max(1, n_models * n_models * n_passages)
    return max(FEWEST_ITEMS, min(MOST_ITEMS, PART_VOTES // votes))


def _enough(answered: Mapping[str, ByItem], least: int) -> None:
    if len(answered) < least:
        only = ", ".join(answered) or "none"
        raise BadInput(
            f"A ranking compares at least two sources; this run has {only}. Add another file, model or server."
        )


def _nothing_shared(answered: Mapping[str, ByItem], least: int) -> BadInput:
    sizes = ", ".join(f"{model}: {len(by_item)}" for model, by_item in answered.items())
    return BadInput(
        f"No item is answered by {least} of the sources ({sizes} answers). The ids must match between the "
        "files: check --id-field, and that the files are about the same images."
    )
