"""Expectation-maximisation for the latent-truth model, for many resamples at once."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from vlmtools.crosscheck._latent_patterns import Patterns


@dataclass(frozen=True)
class Settings:
    """What is assumed before any claim is seen; see `vlmtools.crosscheck.latent.fit`."""

    present: float
    spread: float
    pooling: float
    nodes: Float[np.ndarray, "node"]
    node_weights: Float[np.ndarray, "node"]


@dataclass(frozen=True)
class State:
    """Parameters of every resample, on the logit scale."""

    sees: Float[np.ndarray, "boot model"]
    invents: Float[np.ndarray, "boot model"]


@dataclass(frozen=True)
class Belief:
    """What the parameters say about every pattern."""

    true_nodes: Float[np.ndarray, "boot pattern node"]
    log_likelihood: Float[np.ndarray, "boot pattern"]

    @property
    def true(self) -> Float[np.ndarray, "boot pattern"]:
        """Probability that claims of the pattern are true."""
        return np.asarray(self.true_nodes.sum(axis=2))


def sigmoid(logit: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """Probability from log-odds, safe for large values."""
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * logit)))


def logit(probability: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """Log-odds of a probability strictly between 0 and 1."""
    return np.asarray(np.log(probability) - np.log1p(-probability))


def log_sigmoid(value: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """Logarithm of the probability, safe for large values."""
    return np.asarray(-np.logaddexp(0.0, -value))


def believe(
    state: State,
    says: Float[np.ndarray, "pattern model"],
    silent: Float[np.ndarray, "pattern model"],
    settings: Settings,
) -> Belief:
    """E-step: how likely each pattern is true, and its log-likelihood."""
    seen = state.sees[:, :, None] + settings.spread * settings.nodes
    if_true = says @ log_sigmoid(seen) + silent @ log_sigmoid(-seen) + np.log(settings.node_weights)
    false = (
        says @ log_sigmoid(state.invents)[:, :, None] + silent @ log_sigmoid(-state.invents)[:, :, None]
    )[:, :, 0]
    prior = logit(np.clip(np.array(settings.present), 1e-6, 1.0 - 1e-6))
    if_true = if_true + log_sigmoid(prior)
    false = false + log_sigmoid(-prior)
    top = np.maximum(if_true.max(axis=2), false)
    parts = np.exp(if_true - top[:, :, None])
    total = parts.sum(axis=2) + np.exp(false - top)
    return Belief(parts / total[:, :, None], top + np.log(total))


class Problem:
    """One set of patterns with the weights of every resample: what an EM step needs, computed once."""

    def __init__(self, found: Patterns, copies: Float[np.ndarray, "model model"], settings: Settings) -> None:
        """Prepare the arrays.

        Args:
            found: Patterns of the claims.
            copies: How far each model copies each other one. A model's likelihood has the exponent 1 over the number
                of its copies, itself included, that were asked about the same claim.
            settings: Prior assumptions.
        """
        self.settings = settings
        objects = len(found.audiences)
        self.says = np.concatenate([found.says, np.zeros((objects, found.says.shape[1]))])
        self.asked = np.concatenate([found.asked, found.audiences]).astype(float)
        self.silent = self.asked - self.says
        self.trust = 1.0 / np.maximum(self.asked @ copies, 1.0)
        self.audience = found.audience
        self.n_seen = found.n_patterns
        self.n_models = len(copies)

    def believe(self, state: State) -> Belief:
        """Beliefs about the seen patterns, then about the claims that nobody makes (one per audience)."""
        return believe(state, self.says * self.trust, self.silent * self.trust, self.settings)

    def weights(
        self, state: State, seen: Float[np.ndarray, "boot pattern"]
    ) -> Float[np.ndarray, "boot pattern"]:
        """Weights of the seen patterns and the expected number of candidates that nobody mentions."""
        unseen = np.exp(self.unseen(state))
        return np.concatenate([seen, self._by_audience(seen) * unseen / (1.0 - unseen)], axis=1)

    def _by_audience(self, seen: Float[np.ndarray, "boot pattern"]) -> Float[np.ndarray, "boot audience"]:
        """Sums over the patterns of each audience: row by row where panels make many audiences, else one by one."""
        size = len(self.asked) - self.n_seen
        number = np.zeros((len(seen), size))
        if len(seen) < size:
            objects = self.audience >= 0
            for row, out in zip(seen[:, objects], number, strict=True):
                out[:] = np.bincount(self.audience[objects], weights=row, minlength=size)
            return number
        for audience in range(size):
            number[:, audience] = seen[:, self.audience == audience].sum(axis=1)
        return number

    def unseen(self, state: State) -> Float[np.ndarray, "boot audience"]:
        """Log-probability that a candidate is mentioned by nobody."""
        rows = slice(self.n_seen, None)
        log = believe(state, self.says[rows], self.silent[rows], self.settings).log_likelihood
        return np.asarray(np.minimum(log, np.log(0.98)))

    def log_likelihood(
        self, state: State, seen: Float[np.ndarray, "boot pattern"]
    ) -> Float[np.ndarray, "boot"]:
        """Log-likelihood of the claims given that somebody makes them, tempered by `trust`."""
        log = self.believe(state).log_likelihood[:, : self.n_seen]
        hidden = np.log1p(-np.exp(self.unseen(state)))
        shown = (
            np.where(self.audience >= 0, hidden[:, np.maximum(self.audience, 0)], 0.0) if hidden.size else 0.0
        )
        return np.asarray((seen * (log - shown)).sum(axis=1))

    def step(self, state: State, seen: Float[np.ndarray, "boot pattern"]) -> State:
        """One EM step."""
        weight = self.weights(state, seen)
        belief = self.believe(state)
        true = belief.true_nodes * weight[:, :, None]
        false = weight - true.sum(axis=2)
        return State(self.newton(state.sees, true), self._newton_invents(state.invents, false))

    def newton(
        self,
        at: Float[np.ndarray, "boot model"],
        held: Float[np.ndarray, "boot pattern node"],
        middle: float = 0.5,
    ) -> Float[np.ndarray, "boot model"]:
        """M-step for the models' levels under one answer, of which `held` claims are thought at each node."""
        asked = np.matmul(self.asked.T, held)
        said = np.matmul(self.says.T, held.sum(axis=2)[:, :, None])[:, :, 0]
        for _ in range(2):
            chance = sigmoid(at[:, :, None] + self.settings.spread * self.settings.nodes)
            slope = said - (asked * chance).sum(axis=2)
            at = self._move(at, slope, (asked * chance * (1.0 - chance)).sum(axis=2), middle)
        return at

    def _newton_invents(
        self, invents: Float[np.ndarray, "boot model"], false: Float[np.ndarray, "boot pattern"]
    ) -> Float[np.ndarray, "boot model"]:
        asked, said = false @ self.asked, false @ self.says
        for _ in range(2):
            chance = sigmoid(invents)
            invents = self._move(invents, said - asked * chance, asked * chance * (1.0 - chance), middle=0.1)
        return invents

    def _move(
        self,
        at: Float[np.ndarray, "boot model"],
        slope: Float[np.ndarray, "boot model"],
        bend: Float[np.ndarray, "boot model"],
        middle: float,
    ) -> Float[np.ndarray, "boot model"]:
        """A damped Newton step; models are pulled towards their mean, and faintly towards `middle`."""
        pull = 1.0 / self.settings.pooling**2
        chance = sigmoid(at)
        slope = (
            slope + (middle - chance) - (at - at.sum(axis=1, keepdims=True) / max(self.n_models, 1)) * pull
        )
        bend = bend + chance * (1.0 - chance) + pull
        return np.asarray(np.clip(at + np.clip(slope / bend, -1.0, 1.0), -12.0, 12.0))
