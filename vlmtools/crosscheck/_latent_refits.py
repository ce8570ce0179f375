"""The latent-truth estimate made anew in every resample, and the rates that follow from an estimate."""

import numpy as np
from jaxtyping import Float, Int

from vlmtools.crosscheck._latent_em import Problem, State, sigmoid
from vlmtools.crosscheck._latent_merged import Columns, per_item_and_pattern, summed
from vlmtools.crosscheck._latent_patterns import Patterns
from vlmtools.crosscheck.table import ClaimParts, ClaimTable
from vlmtools.stats.resample import Counts

_BLOCK = 1e7
"""Numbers computed at once."""


def rates(
    p_true: Float[np.ndarray, "boot pattern"], made: Float[np.ndarray, "boot pattern model"], state: State
) -> Float[np.ndarray, "boot model"]:
    """Expected share of false mentions; a model that says nothing gets what its parameters predict.

    Args:
        p_true: Probability that claims of each pattern are true.
        made: How often each model makes such claims.
        state: The parameters.
    """
    total = made.sum(axis=1)
    false = ((1.0 - p_true)[:, :, None] * made).sum(axis=1)
    predicted = sigmoid(state.invents) / (sigmoid(state.invents) + sigmoid(state.sees))
    return np.asarray(np.where(total > 0, false / np.where(total > 0, total, 1.0), predicted))


def refitted_rates(
    claims: ClaimParts, found: Patterns, problem: Problem, start: State, counts: Counts, n_iter: int
) -> Float[np.ndarray, "boot model"]:
    """The rates in every resample after so many EM steps.

    Args:
        claims: The claims.
        found: Their patterns; few.
        problem: The same, prepared.
        start: The estimate in which every item counts once.
        counts: How often each item was drawn in each resample.
        n_iter: Steps, at least 1.
    """
    size, n = problem.n_models, found.n_patterns
    sums = summed(claims, found, counts, _columns(n))
    seen, made = sums[:, :n], sums[:, n:].reshape(len(sums), size, n).transpose(0, 2, 1)
    block = max(1, int(_BLOCK / max(1, n * (len(problem.settings.nodes) + size))))
    parts = [
        _refitted(problem, start, seen[first : first + block], made[first : first + block], n_iter)
        for first in range(0, len(sums), block)
    ]
    return np.concatenate(parts) if parts else np.zeros((0, size))


def _columns(n_patterns: int) -> Columns:
    """By item: how often each pattern occurs, then how often each model makes claims of each pattern."""

    def columns(table: ClaimTable, place: Int[np.ndarray, "claim"]) -> Float[np.ndarray, "item column"]:
        each = (table.weight, *table.mentions.T)
        return np.concatenate(
            [per_item_and_pattern(table, place, n_patterns, values) for values in each], axis=1
        )

    return columns


def _refitted(
    problem: Problem,
    start: State,
    seen: Float[np.ndarray, "boot pattern"],
    made: Float[np.ndarray, "boot pattern model"],
    n_iter: int,
) -> Float[np.ndarray, "boot model"]:
    each = (len(seen), 1)
    state = State(np.tile(start.sees, each), np.tile(start.invents, each))
    for _ in range(n_iter):
        state = problem.step(state, seen)
    return rates(problem.believe(state).true[:, : made.shape[1]], made, state)
