"""The latent-truth model of sentences: all are seen, and some are more typical than others, true or not."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from vlmtools.crosscheck._latent_em import Belief, Problem, State, log_sigmoid, logit

LEAST_GAP = 1.0
"""Log odds by which every model is at least assumed to support true sentences more readily than false ones."""


@dataclass(frozen=True)
class SentenceBelief(Belief):
    """Beliefs about sentences, with the part of them that speaks for false."""

    false_nodes: Float[np.ndarray, "boot pattern node"]


class SentenceProblem(Problem):
    """What an EM step needs when all claims are sentences.

    What sentences have in common beside truth, that they name the typical or the particular, moves the support of all
    models up and down together. For objects this concerns what is there alone; here it has to be the same for
    true and false: otherwise a sentence that everybody and one that nobody supports could both be called true.
    """

    def believe(self, state: State) -> SentenceBelief:
        """Beliefs about the patterns."""
        prior = logit(np.clip(np.array(self.settings.present), 1e-6, 1.0 - 1e-6))
        true = self._votes(state.sees) + log_sigmoid(prior)
        false = self._votes(state.invents) + log_sigmoid(-prior)
        top = np.maximum(true.max(axis=2), false.max(axis=2))
        true, false = np.exp(true - top[:, :, None]), np.exp(false - top[:, :, None])
        total = true.sum(axis=2) + false.sum(axis=2)
        return SentenceBelief(true / total[:, :, None], top + np.log(total), false / total[:, :, None])

    def step(self, state: State, seen: Float[np.ndarray, "boot pattern"]) -> State:
        """One EM step; a vote for a sentence never speaks against it."""
        belief = self.believe(state)
        sees = self.newton(state.sees, belief.true_nodes * seen[:, :, None], middle=0.5)
        invents = self.newton(state.invents, belief.false_nodes * seen[:, :, None], middle=0.1)
        centre, half = (sees + invents) / 2.0, np.maximum(sees - invents, LEAST_GAP) / 2.0
        return State(centre + half, centre - half)

    def _votes(self, at: Float[np.ndarray, "boot model"]) -> Float[np.ndarray, "boot pattern node"]:
        level = at[:, :, None] + self.settings.spread * self.settings.nodes
        votes = (self.says * self.trust) @ log_sigmoid(level) + (self.silent * self.trust) @ log_sigmoid(
            -level
        )
        return np.asarray(votes + np.log(self.settings.node_weights))
