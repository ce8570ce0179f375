"""How often each model hallucinates, estimated from who mentions what: the truth of every claim is treated as latent.

Nothing but the answers is looked at. docs/latent-truth.md derives the model and says where it fails.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from vlmtools.crosscheck._latent_dependence import copies_of
from vlmtools.crosscheck._latent_em import Problem, Settings, State, logit, sigmoid
from vlmtools.crosscheck._latent_jackknife import moved_rates
from vlmtools.crosscheck._latent_merged import merged
from vlmtools.crosscheck._latent_patterns import Patterns, mention_counts, pattern_counts, patterns
from vlmtools.crosscheck._latent_refits import rates, refitted_rates
from vlmtools.crosscheck._latent_sentences import SentenceProblem
from vlmtools.crosscheck.table import ClaimParts, ClaimTable
from vlmtools.errors import BadInput
from vlmtools.stats.resample import Counts

_N_NODES = 5
_MOST_REFITTED = 400_000
"""Patterns times resamples up to which resamples are refitted; beyond, one linear step stands for the refit."""
_START = (0.5, 0.2)
"""Where the search starts: how often models mention what is there, and what is not."""


@dataclass(frozen=True)
class LatentTruth:
    """What the mentions alone say about claims and models.

    Args:
        p_true: Probability that each claim is true, 0 to 1.
        rate: Expected share of false claims among each model's mentions, repeats counted: an estimate of CHAIR_i.
        sensitivity: Probability that a model mentions (supports) a candidate that is true.
        false_mention: Probability that a model mentions (supports) a candidate that is false.
        prior: Estimated share of the items that show each kind of thing, 0 to 1; empty where kinds have no names.
        trust: Weight of each model as a witness where all are heard; below 1 where another one says nearly the same.
        copies: How far each model is a copy of each other one, 0 to 1.
        log_likelihood: Log-likelihood of the claims at the estimate.
        n_iter: EM steps taken.
        converged: Whether the steps had become negligible.
        identified: False with fewer than three models that share items: the ranking then rests on the prior alone.
        table: What it was estimated from.
        found: Patterns of the claims.
        state: The parameters.
        settings: What was assumed.
    """

    p_true: Float[np.ndarray, "claim"]
    rate: Float[np.ndarray, "model"]
    sensitivity: Float[np.ndarray, "model"]
    false_mention: Float[np.ndarray, "model"]
    prior: Float[np.ndarray, "kind"]
    trust: Float[np.ndarray, "model"]
    copies: Float[np.ndarray, "model model"]
    log_likelihood: float
    n_iter: int
    converged: bool
    identified: bool
    table: ClaimTable
    found: Patterns
    state: State
    settings: Settings

    def true(self, part: ClaimTable) -> Float[np.ndarray, "claim"]:
        """Probability that each claim is true, of some of the claims the estimate was made from.

        Args:
            part: These claims.
        """
        problem = _problem(self.found, self.copies, self.settings)
        return np.asarray(problem.believe(self.state).true[0][self.found.places(part)])


def fit(
    table: ClaimTable,
    *,
    present: float = 0.5,
    spread: float = 1.0,
    pooling: float = 1.0,
    discount_copies: bool = True,
    n_iter: int = 1000,
    item_weights: Float[np.ndarray, "item"] | None = None,
    init: LatentTruth | None = None,
) -> LatentTruth:
    """Estimate which claims are true and how often each model hallucinates, from the mentions alone.

    Args:
        table: Who claims what and who supports it.
        present: Share of the plausible objects of an item that are really there, or of the sentences that are true,
            in (0, 1), the same whoever says it. It cannot be learned from the mentions; the absolute rates depend on
            it more than the order of the models does.
        spread: How much more easily some things that are there are noticed than others, and some sentences supported:
            standard deviation on the logit scale, at least 0. 0 makes all equally easy.
        pooling: How far models may differ in either reliability before many claims prove it: standard deviation on
            the logit scale, above 0; infinity treats models as unrelated.
        discount_copies: Give models that say nearly the same less weight; False counts all alike.
        n_iter: Most EM steps to take, at least 1.
        item_weights: Weight of each item, at least 0; None counts each once.
        init: An earlier estimate of the same models to start from.

    Raises:
        BadInput: A setting outside its range, or an `init` for other models.
    """
    settings = _settings(present, spread, pooling)
    weights = np.ones(table.n_items) if item_weights is None else np.asarray(item_weights, dtype=float)
    _check(table, weights, init)
    _check_kind(table)
    found = patterns(table)
    copies = copies_of(table) if discount_copies else np.eye(len(table.models))
    problem = _problem(found, copies, settings)
    seen = pattern_counts(found, table, weights[None])
    state = _start(len(table.models)) if init is None else init.state
    state, steps, converged = _climb(problem, state, seen, n_iter)
    sentences = isinstance(problem, SentenceProblem)
    p_true = problem.believe(state).true[0, : found.n_patterns]
    per_claim = p_true[found.of_claim]
    return LatentTruth(
        p_true=per_claim,
        rate=rates(p_true[None], mention_counts(table, found, weights)[None], state)[0],
        sensitivity=_marginal(state.sees[0], settings),
        false_mention=_marginal(state.invents[0], settings) if sentences else sigmoid(state.invents[0]),
        prior=_shares(table, per_claim, weights),
        trust=np.asarray(1.0 / copies.sum(axis=1)),
        copies=copies,
        log_likelihood=float(problem.log_likelihood(state, seen)[0]),
        n_iter=steps,
        converged=converged,
        identified=_identified(found),
        table=table,
        found=found,
        state=state,
        settings=settings,
    )


def fit_parts(claims: ClaimParts) -> LatentTruth:
    """The same for any number of claims: those that the model cannot tell apart are counted, not kept.

    `p_true` has one entry for each row of the merged claims; `true` gives that of the claims themselves.

    Args:
        claims: All claims, a stretch of items at a time.
    """
    once, scales = merged(claims)
    result = fit(once)
    return replace(result, found=replace(result.found, scales=scales))


def rates_without_each(result: LatentTruth) -> list[Float[np.ndarray, "model"]]:
    """The rates when each model in turn falls silent: the others are estimated without it, it keeps its own.

    Graded support is read on the scales that all claims show. Empty with fewer than three models.

    Args:
        result: The estimate from all claims.
    """
    size = len(result.table.models)
    if size < 3:
        return []
    found = []
    for silent in range(size):
        others = [model for model in range(size) if model != silent]
        without = result.rate.copy()
        without[others] = fit(result.table.take(others)).rate
        found.append(without)
    return found


def bootstrap_rates(
    claims: ClaimParts, result: LatentTruth, counts: Counts, n_iter: int = 100
) -> Float[np.ndarray, "boot model"]:
    """The rates in every resample of the items.

    Objects with few distinct patterns are refitted in each resample from `result` with `n_iter` EM steps; otherwise,
    and for sentences, `result` is moved by one linear step. The discount for copies stays as it was, and so
    does where graded support counts as a vote.

    Args:
        claims: The claims `result` was estimated from.
        result: The estimate on all items.
        counts: How often each item was drawn in each resample.
        n_iter: EM steps per resample, at least 1.
    """
    found, n_boot = result.found, counts.shape[0]
    problem = _problem(found, result.copies, result.settings)
    if found.n_patterns * n_boot > _MOST_REFITTED or isinstance(problem, SentenceProblem):
        moved = moved_rates(claims, result.table, found, problem, result.state, counts)
        return np.where(np.isnan(moved), result.rate, moved)
    return refitted_rates(claims, found, problem, result.state, counts, n_iter)


def _settings(present: float, spread: float, pooling: float) -> Settings:
    if not (0 < present < 1 and spread >= 0 and pooling > 0):
        raise BadInput(
            f"present={present}, spread={spread}, pooling={pooling}: present must lie between 0 and 1, spread be at "
            "least 0 and pooling above 0. The defaults suit captions of photographs."
        )
    nodes, weights = np.polynomial.hermite_e.hermegauss(_N_NODES if spread > 0 else 1)
    return Settings(present, spread, pooling, nodes, weights / weights.sum())


def _check(table: ClaimTable, weights: Float[np.ndarray, "item"], init: LatentTruth | None) -> None:
    if weights.shape != (table.n_items,) or not (weights >= 0).all():
        raise BadInput(
            f"item_weights has shape {weights.shape}; there are {table.n_items} items. "
            "Give one number of at least 0 for each."
        )
    if init is not None and len(init.rate) != len(table.models):
        raise BadInput(
            f"init was estimated for {len(init.rate)} models; the table has {len(table.models)}. "
            "Leave init out, or pass an estimate of the same models."
        )


def _check_kind(table: ClaimTable) -> None:
    sentences = int((table.kind < 0).sum())
    if 0 < sentences < len(table.kind):
        raise BadInput(
            f"The table has {sentences} sentences and {len(table.kind) - sentences} objects. They follow different "
            "models; estimate each kind in a table of its own."
        )


def _problem(found: Patterns, copies: Float[np.ndarray, "model model"], settings: Settings) -> Problem:
    only_sentences = found.n_patterns > 0 and not len(found.audiences)
    return (SentenceProblem if only_sentences else Problem)(found, copies, settings)


def _start(n_models: int) -> State:
    sees, invents = (np.full((1, n_models), logit(np.array(share))) for share in _START)
    return State(sees, invents)


def _climb(
    problem: Problem, state: State, seen: Float[np.ndarray, "boot pattern"], n_iter: int
) -> tuple[State, int, bool]:
    for step in range(1, n_iter + 1):
        new = problem.step(state, seen)
        moved = max(
            float(np.abs(new.sees - state.sees).max(initial=0)),
            float(np.abs(new.invents - state.invents).max(initial=0)),
        )
        state = new
        if moved < 1e-5:
            return state, step, True
    return state, n_iter, False


def _marginal(level: Float[np.ndarray, "model"], settings: Settings) -> Float[np.ndarray, "model"]:
    chance = sigmoid(level[:, None] + settings.spread * settings.nodes)
    return np.asarray(chance @ settings.node_weights)


def _shares(
    table: ClaimTable, p_true: Float[np.ndarray, "claim"], weights: Float[np.ndarray, "item"]
) -> Float[np.ndarray, "kind"]:
    objects = table.kind >= 0
    if not table.kinds:
        return np.zeros(0)
    shown = np.bincount(
        table.kind[objects], weights=(p_true * weights[table.item])[objects], minlength=len(table.kinds)
    )
    return np.asarray(np.minimum(shown / max(weights.sum(), 1e-12), 1.0))


def _identified(found: Patterns) -> bool:
    objects = found.audiences.sum(axis=1) >= 3
    sentences = found.asked[found.audience < 0].sum(axis=1) >= 2
    return bool(objects.any() or sentences.any())
