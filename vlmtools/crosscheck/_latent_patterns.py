"""Claims as the latent-truth model sees them: who says so, who was asked, and which claims look alike."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Int

from vlmtools.crosscheck._latent_votes import Scale, decided, scales_of
from vlmtools.crosscheck.table import ClaimTable


@dataclass(frozen=True)
class Patterns:
    """Distinct rows of a claim table; claims of one pattern are equally likely to be true.

    Args:
        says: How far each model makes or supports the claim, 0 to 1; 0 where it was not asked.
        asked: Whether the model could have made or supported it.
        audience: Which of `audiences` could have made it; -1 for sentences.
        audiences: Distinct sets of models that were asked about an item, the candidates for unseen claims.
        of_claim: Pattern of each claim of the table.
        scales: How the models' graded support of sentences was read.
    """

    says: Float[np.ndarray, "pattern model"]
    asked: Bool[np.ndarray, "pattern model"]
    audience: Int[np.ndarray, "pattern"]
    audiences: Bool[np.ndarray, "audience model"]
    of_claim: Int[np.ndarray, "claim"]
    scales: Sequence[Scale] = ()

    @property
    def n_patterns(self) -> int:
        """How many distinct patterns there are."""
        return len(self.says)

    def places(self, table: ClaimTable) -> Int[np.ndarray, "claim"]:
        """Pattern of each claim of a part of the claims the patterns were found in.

        Args:
            table: The part.
        """
        distinct, place = np.unique(_keys(table, self.scales), axis=0, return_inverse=True)
        known = np.array([self._number[row.tobytes()] for row in distinct], dtype=np.int64)
        return np.asarray(known[place.reshape(-1)])

    @cached_property
    def _number(self) -> dict[bytes, int]:
        keys = np.column_stack([self.audience < 0, self.asked, self.says])
        return {row.tobytes(): number for number, row in enumerate(keys)}


def sentence_votes(
    table: ClaimTable,
) -> tuple[Float[np.ndarray, "claim model"], Bool[np.ndarray, "claim model"]]:
    """Support of the table's sentences by each model, and whose support counts."""
    sentence, mentioned = table.kind < 0, table.mentions > 0
    support = np.clip(table.support[sentence], 0.0, 1.0)
    return support, ~np.isnan(support) & ~mentioned[sentence]


def _keys(table: ClaimTable, scales: Sequence[Scale]) -> Float[np.ndarray, "claim column"]:
    mentioned = table.mentions > 0
    sentence = table.kind < 0
    known = ~np.isnan(table.support)
    # A model mentions the objects it mentions, whether or not a judge was asked about them; the author of a sentence
    # made it by definition, so its own support says nothing about the others' reliability.
    asked = np.where(sentence[:, None], known & ~mentioned, known | mentioned)
    said = np.where(known, np.clip(table.support, 0.0, 1.0), mentioned)
    said[sentence] = decided(said[sentence], asked[sentence], scales)
    said = np.where(asked, said, 0.0)
    return np.column_stack([sentence, asked, np.round(said, 6)])


def patterns(table: ClaimTable) -> Patterns:
    """Group the claims of a table that nothing in the model tells apart."""
    scales = scales_of([sentence_votes(table)])
    distinct, of_claim = np.unique(_keys(table, scales), axis=0, return_inverse=True)
    n_models = len(table.models)
    found = distinct[:, 1 : 1 + n_models] > 0
    audiences, audience = _audiences(found, distinct[:, 0] == 0)
    says = np.ascontiguousarray(distinct[:, 1 + n_models :])
    return Patterns(says, found, audience, audiences, of_claim.reshape(-1), scales)


def _audiences(
    asked: Bool[np.ndarray, "pattern model"], objects: Bool[np.ndarray, "pattern"]
) -> tuple[Bool[np.ndarray, "audience model"], Int[np.ndarray, "pattern"]]:
    number = np.full(len(objects), -1, dtype=np.int64)
    if not objects.any():
        return np.zeros((0, asked.shape[1]), dtype=bool), number
    audiences, inverse = np.unique(asked[objects], axis=0, return_inverse=True)
    number[objects] = inverse.reshape(-1)
    return audiences, number


def pattern_counts(
    found: Patterns, table: ClaimTable, counts: Float[np.ndarray, "boot item"]
) -> Float[np.ndarray, "boot pattern"]:
    """How often each pattern occurs in each resample of the items."""
    result = np.zeros((len(counts), found.n_patterns))
    for drawn, row in zip(counts, result, strict=True):
        weights = drawn[table.item] * table.weight
        row += np.bincount(found.of_claim, weights=weights, minlength=found.n_patterns)
    return result


def mention_counts(
    table: ClaimTable, found: Patterns, drawn: Float[np.ndarray, "item"]
) -> Float[np.ndarray, "pattern model"]:
    """How often each model makes claims of each pattern, repeats counted, in one resample of the items."""
    weighted = table.mentions * drawn[table.item][:, None]
    columns = [
        np.bincount(found.of_claim, weights=column, minlength=found.n_patterns) for column in weighted.T
    ]
    return np.array(columns).T.reshape(found.n_patterns, len(table.models))
