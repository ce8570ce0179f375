"""The claims that are supported least, found by going through all claims once."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from vlmtools.crosscheck.estimate import ClaimScores
from vlmtools.crosscheck.pages import Page, Pages

DIGITS = 9
"""Scores that agree so far are equal, the same sums added in another order: the earlier item then comes first."""


@dataclass(frozen=True)
class Suspect:
    """One claim that is supported little.

    Args:
        target: Who makes it.
        item: Place of the item.
        place: Which claim of the answer.
        score: Its hallucination score.
        scores: Those of all claims of the answer.
    """

    target: int
    item: int
    place: int
    score: float
    scores: tuple[float, ...]


@dataclass(frozen=True)
class Review:
    """What going through all claims found.

    Args:
        n_claims: Claims of each target that somebody judged.
        suspects: The least supported ones.
    """

    n_claims: Sequence[int]
    suspects: tuple[Suspect, ...]


def review(pages: Pages, claim_scores: ClaimScores, n_worst: int) -> Review:
    """Count the judged claims and find the least supported ones, taking turns between models.

    Turns keep one model from filling the list. Of equal claims about the same item by the same model the first stands
    for all.

    Args:
        pages: All claims.
        claim_scores: Their scores.
        n_worst: How many are wanted.
    """
    size = len(pages.targets)
    n_claims = np.zeros(size, dtype=np.int64)
    queues: list[list[Suspect]] = [[] for _ in range(size)]
    for page in pages:
        scores = claim_scores(page)
        known = ~np.isnan(scores)
        n_claims += np.bincount(page.claims.target[known], minlength=size)
        for target, queue in enumerate(queues):
            queues[target] = sorted([*queue, *_worst(page, scores, target, n_worst)], key=_order)[:n_worst]
    turns = [queue[turn] for turn in range(n_worst) for queue in queues if turn < len(queue)]
    return Review(n_claims.tolist(), tuple(turns[:n_worst]))


def _order(one: Suspect) -> tuple[float, int, int]:
    return -round(one.score, DIGITS), one.item, one.place


def _worst(page: Page, scores: Float[np.ndarray, "claim"], target: int, n_worst: int) -> list[Suspect]:
    claims = page.claims
    mine = np.flatnonzero((claims.target == target) & ~np.isnan(scores))
    order = mine[np.lexsort((claims.place[mine], claims.item[mine], -np.round(scores[mine], DIGITS)))]
    seen: set[tuple[int, int]] = set()
    found: list[Suspect] = []
    for index in order:
        if len(found) == n_worst:
            break
        name = int(claims.item[index]), int(claims.same[index])
        if name not in seen:
            seen.add(name)
            found.append(_suspect(page, scores, target, int(index)))
    return found


def _suspect(page: Page, scores: Float[np.ndarray, "claim"], target: int, index: int) -> Suspect:
    claims = page.claims
    answer = np.flatnonzero((claims.target == target) & (claims.item == claims.item[index]))
    return Suspect(
        target,
        page.first + int(claims.item[index]),
        int(claims.place[index]),
        float(scores[index]),
        tuple(scores[answer].tolist()),
    )
