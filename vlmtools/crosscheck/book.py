"""The claims of some items with all votes on them, addressable by name and as arrays."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from vlmtools.crosscheck.arrays import VoteArrays
from vlmtools.crosscheck.panels import deal
from vlmtools.crosscheck.table import ClaimTable
from vlmtools.crosscheck.voting import Subject, Votes

_Key = tuple[int, str, int, int]


@dataclass(frozen=True)
class ClaimRows:
    """Every claim of every answer, target by target and item by item.

    Args:
        target: Who makes it.
        item: About which item, counted within the book.
        place: Which claim of the answer.
        same: The first claim of the answer with the same text.
        support: Mean support over the passages of each evidence model; NaN where nobody voted.
        row: Its row in the claim table; empty without one.
    """

    target: Int[np.ndarray, "claim"]
    item: Int[np.ndarray, "claim"]
    place: Int[np.ndarray, "claim"]
    same: Int[np.ndarray, "claim"]
    support: Float[np.ndarray, "claim evidence"]
    row: Int[np.ndarray, "claim"]


@dataclass(frozen=True)
class Book:
    """All claims and votes about some items.

    Args:
        items: Ids of the items, in run order.
        targets: Models that are scored.
        evidence: Models, or the reference, that vote.
        subjects: Answers and claims of every target.
        votes: What the judge said.
        own_support: Support of a model's own claim by itself when it has no samples to be checked against.
        panel: Models that judge each other about an item; 0 is everybody.
        seed: Of the deal.
    """

    items: tuple[str, ...]
    targets: tuple[str, ...]
    evidence: tuple[str, ...]
    subjects: Mapping[str, Subject]
    votes: Votes
    own_support: float = 1.0
    panel: int = 0
    seed: int = 0

    def support(self, item: str, target: str, evidence: str) -> list[float] | None:
        """Mean support of each claim over the evidence model's passages; None where nobody voted."""
        passages = self.votes.support.get((item, target, evidence))
        if passages is None:
            return None
        return [sum(column) / len(column) for column in zip(*passages, strict=True)]

    def arrays(self) -> VoteArrays:
        """Inconsistency summed per item."""
        shape = (len(self.items), len(self.targets), len(self.evidence))
        total, count = np.zeros(shape), np.zeros(shape)
        place = {item: index for index, item in enumerate(self.items)}
        column = {name: index for index, name in enumerate(self.evidence)}
        row = {name: index for index, name in enumerate(self.targets)}
        for item, target, evidence in self.votes.support:
            if item not in place or target not in row or evidence not in column:
                continue
            support = self.support(item, target, evidence) or []
            spot = place[item], row[target], column[evidence]
            total[spot], count[spot] = len(support) - sum(support), len(support)
        return VoteArrays(self.targets, self.evidence, total, count)

    def table(self, shared: bool) -> tuple[ClaimTable, Int[np.ndarray, "claim"]]:
        """Claims as rows.

        Args:
            shared: True when equal claims of several models about one item are one row (objects), in each panel that
                judged them; False when every claim is its own (sentences).

        Returns:
            The rows, and the row of each claim of each answer, in the order of `rows`.
        """
        mentions: dict[_Key, dict[int, float]] = {}
        said: dict[_Key, dict[int, float]] = {}
        number: dict[_Key, int] = {}
        row = []
        # Within a panel everybody was asked about everything; across panels nobody was.
        dealt = {item: self._dealt(item) for item in self.items} if shared else {}
        for t, target in enumerate(self.targets):
            for i, item in enumerate(self.items):
                supports = self._supports(item, target)
                for c, claim in enumerate(self.subjects[target].claims.get(item, ())):
                    key = (i, claim.text, -1 - dealt[item][target], -1) if shared else (i, claim.text, t, c)
                    row.append(number.setdefault(key, len(number)))
                    made = mentions.setdefault(key, {})
                    made[t] = made.get(t, 0.0) + 1.0
                    known = said.setdefault(key, {})
                    known.setdefault(t, self.own_support)
                    known.update({model: support[c] for model, support in supports.items()})
        table = _as_table(self.targets, len(self.items), mentions, said, shared)
        return table, np.array(row, dtype=np.int64)

    def rows(self, row: Int[np.ndarray, "claim"] | None = None) -> ClaimRows:
        """Every claim of every answer, as arrays.

        Args:
            row: Of each claim in the claim table.
        """
        where: list[tuple[int, int, int, int]] = []
        support: list[np.ndarray] = []
        for t, target in enumerate(self.targets):
            for i, item in enumerate(self.items):
                texts = [claim.text for claim in self.subjects[target].claims.get(item, ())]
                where += [(t, i, c, texts.index(text)) for c, text in enumerate(texts)]
                if texts:
                    support.append(self._matrix(item, target, len(texts)))
        columns = np.array(where, dtype=np.int64).reshape(len(where), 4)
        found = np.concatenate(support) if support else np.zeros((0, len(self.evidence)))
        row = np.zeros(0, dtype=np.int64) if row is None else row
        return ClaimRows(columns[:, 0], columns[:, 1], columns[:, 2], columns[:, 3], found, row)

    def _matrix(self, item: str, target: str, n_claims: int) -> Float[np.ndarray, "claim evidence"]:
        found = np.full((n_claims, len(self.evidence)), np.nan)
        for e, evidence in enumerate(self.evidence):
            support = self.support(item, target, evidence)
            if support is not None:
                found[:, e] = support
        return found

    def _dealt(self, item: str) -> Mapping[str, int]:
        if self.panel:
            return deal(item, self.targets, self.panel, self.seed)
        return dict.fromkeys(self.targets, 0)

    def _supports(self, item: str, target: str) -> dict[int, list[float]]:
        each = {index: self.support(item, target, name) for index, name in enumerate(self.targets)}
        return {index: support for index, support in each.items() if support is not None}


def _as_table(
    models: tuple[str, ...],
    n_items: int,
    mentions: Mapping[_Key, Mapping[int, float]],
    said: Mapping[_Key, Mapping[int, float]],
    shared: bool,
) -> ClaimTable:
    kinds = tuple(sorted({key[1] for key in mentions})) if shared else ()
    number = {name: index for index, name in enumerate(kinds)}
    made, support = np.zeros((len(mentions), len(models))), np.full((len(mentions), len(models)), np.nan)
    for r, (key, times) in enumerate(mentions.items()):
        made[r, list(times)] = list(times.values())
        support[r, list(said[key])] = list(said[key].values())
    return ClaimTable(
        models=models,
        n_items=n_items,
        item=np.array([key[0] for key in mentions], dtype=np.int64),
        kind=np.array([number.get(key[1], -1) for key in mentions], dtype=np.int64),
        kinds=kinds,
        mentions=made,
        support=support,
    )
