"""Claims as the latent-truth model sees them: who says so, who was asked, and which claims look alike."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from vlmtools.crosscheck._latent_votes import decided
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
    """

    says: Float[np.ndarray, "pattern model"]
    asked: Bool[np.ndarray, "pattern model"]
    audience: Int[np.ndarray, "pattern"]
    audiences: Bool[np.ndarray, "audience model"]
    of_claim: Int[np.ndarray, "claim"]

    @property
    def n_patterns(self) -> int:
        """How many distinct patterns there are."""
        return len(self.says)


def patterns(table: ClaimTable) -> Patterns:
    """Group the claims of a table that nothing in the model tells apart."""
    mentioned = table.mentions > 0
    sentence = table.kind < 0
    known = ~np.isnan(table.support)
    # A model mentions the objects it mentions, whether or not a judge was asked about them; the author of a sentence
    # made it by definition, so its own support says nothing about the others' reliability.
    asked = np.where(sentence[:, None], known & ~mentioned, known | mentioned)
    said = np.where(known, np.clip(table.support, 0.0, 1.0), mentioned)
    said[sentence] = decided(said[sentence], asked[sentence])
    said = np.where(asked, said, 0.0)
    keys = np.column_stack([sentence, asked, np.round(said, 6)])
    distinct, of_claim = np.unique(keys, axis=0, return_inverse=True)
    n_models = len(table.models)
    found = distinct[:, 1 : 1 + n_models] > 0
    audiences, audience = _audiences(found, distinct[:, 0] == 0)
    return Patterns(distinct[:, 1 + n_models :], found, audience, audiences, of_claim.reshape(-1))


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
    found: Patterns, item: Int[np.ndarray, "claim"], counts: Float[np.ndarray, "boot item"]
) -> Float[np.ndarray, "boot pattern"]:
    """How often each pattern occurs in each resample of the items."""
    result = np.zeros((len(counts), found.n_patterns))
    for drawn, row in zip(counts, result, strict=True):
        row += np.bincount(found.of_claim, weights=drawn[item], minlength=found.n_patterns)
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
