"""First-order resampling of the latent-truth estimate: one linear step per resample instead of a refit.

The estimate solves F(θ; w) = 0, where w says how often each pattern occurs and F is linear in w. Another w moves it
by H⁻¹ F(θ; w), with H = -∂F/∂θ taken once, at the estimate: the infinitesimal jackknife.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int

from vlmtools.crosscheck._latent_em import Problem, State, sigmoid
from vlmtools.crosscheck._latent_merged import per_item, summed
from vlmtools.crosscheck._latent_patterns import Patterns, mention_counts, pattern_counts
from vlmtools.crosscheck._latent_sentences import SentenceBelief
from vlmtools.crosscheck.table import ClaimParts, ClaimTable
from vlmtools.stats.resample import Counts

_STEP = 1e-4
_FARTHEST = 2.0
"""Logits that a parameter may move: beyond that the line says nothing about the curve."""

Vector = Float[np.ndarray, "parameter"]


def moved_rates(
    claims: ClaimParts,
    once: ClaimTable,
    found: Patterns,
    problem: Problem,
    state: State,
    counts: Counts,
) -> Float[np.ndarray, "boot model"]:
    """Expected share of false mentions in every resample, to first order; NaN where a model says nothing.

    Args:
        claims: The claims.
        once: The same in one table, perhaps merged.
        found: Its patterns.
        problem: The same, prepared.
        state: The estimate in which every item counts once.
        counts: How often each item was drawn in each resample.
    """
    at = np.concatenate([state.sees[0], state.invents[0]])
    true, rows, size = _true(problem, at), _equations(problem, at), problem.n_models

    def columns(table: ClaimTable, place: Int[np.ndarray, "claim"]) -> Float[np.ndarray, "item column"]:
        false = table.mentions * (1.0 - true[place])[:, None]
        return per_item(table, np.concatenate([rows[place], false, table.mentions], axis=1))

    seen = pattern_counts(found, once, np.ones((1, once.n_items)))[0]
    by_model = mention_counts(once, found, np.ones(once.n_items))
    sums = summed(claims, found, counts, columns)
    moves = _moves(problem, at, seen, sums[:, : 2 * size] - seen @ rows)
    slopes = _derivative(lambda vector: _true(problem, vector), at)
    false = sums[:, 2 * size : 3 * size] - moves @ (by_model.T @ slopes).T
    made = sums[:, 3 * size :]
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.clip(false / made, 0.0, 1.0))


def _moves(
    problem: Problem,
    at: Vector,
    seen: Float[np.ndarray, "pattern"],
    more: Float[np.ndarray, "boot parameter"],
) -> Float[np.ndarray, "boot parameter"]:
    """How far the estimate moves where F is `more` than with every item once."""

    def total(vector: Vector) -> Vector:
        return np.asarray(seen @ _equations(problem, vector) + _pull(problem, vector))

    bend = -_derivative(total, at)
    return np.asarray(np.clip(more @ np.linalg.pinv(bend, rcond=1e-10).T, -_FARTHEST, _FARTHEST))


def _true(problem: Problem, vector: Vector) -> Float[np.ndarray, "pattern"]:
    return np.asarray(problem.believe(_state(vector, problem.n_models)).true[0, : problem.n_seen])


def _derivative(function: Callable[[Vector], Vector], at: Vector) -> Float[np.ndarray, "value parameter"]:
    steps = np.eye(len(at)) * _STEP
    return np.stack([(function(at + step) - function(at - step)) / (2 * _STEP) for step in steps], axis=1)


def _state(vector: Vector, size: int) -> State:
    return State(vector[None, :size], vector[None, size:])


def _equations(problem: Problem, vector: Vector) -> Float[np.ndarray, "pattern parameter"]:
    """Each seen pattern's part of F, with its share of the candidates that nobody mentions."""
    state = _state(vector, problem.n_models)
    belief, spread = problem.believe(state), problem.settings.spread * problem.settings.nodes
    nodes = belief.true_nodes[0]
    true = nodes.sum(axis=1)
    chance = sigmoid(state.sees[0][:, None] + spread)
    sees = problem.says * true[:, None] - problem.asked * (nodes @ chance.T)
    invents = (problem.says - problem.asked * sigmoid(state.invents[0])) * (1.0 - true)[:, None]
    if isinstance(belief, SentenceBelief):
        chance = sigmoid(state.invents[0][:, None] + spread)
        invents = problem.says * (1.0 - true)[:, None] - problem.asked * (belief.false_nodes[0] @ chance.T)
    rows = np.concatenate([sees, invents], axis=1)
    if not (problem.audience >= 0).any():
        return rows
    hidden = np.exp(problem.unseen(state)[0])
    shared = rows[problem.n_seen :] * (hidden / (1.0 - hidden))[:, None]
    added = np.where((problem.audience >= 0)[:, None], shared[np.maximum(problem.audience, 0)], 0.0)
    return np.asarray(rows[: problem.n_seen] + added)


def _pull(problem: Problem, vector: Vector) -> Vector:
    """What the prior assumptions add to F."""
    size, pooling = problem.n_models, problem.settings.pooling
    parts = []
    for values, middle in ((vector[:size], 0.5), (vector[size:], 0.1)):
        parts.append((middle - sigmoid(values)) - (values - values.mean()) / pooling**2)
    return np.concatenate(parts)
