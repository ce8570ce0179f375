"""Votes summed over the items, as they are and in every resample: what weights are made from."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from vlmtools.crosscheck.arrays import VoteParts
from vlmtools.stats.resample import Counts, drawn


@dataclass(frozen=True)
class VoteSums:
    """Inconsistency summed over items.

    Args:
        targets: Models whose answers are scored.
        evidence: Models that speak about them.
        total: Sum of the inconsistency over all claims of all items, in each resample.
        count: Number of claims it is summed over.
    """

    targets: tuple[str, ...]
    evidence: tuple[str, ...]
    total: Float[np.ndarray, "boot target evidence"]
    count: Float[np.ndarray, "boot target evidence"]

    def own(self) -> dict[str, tuple[int, int]]:
        """Model → (target index, evidence index) of its votes on its own claims, where there are any."""
        places = {
            name: (t, self.evidence.index(name))
            for t, name in enumerate(self.targets)
            if name in self.evidence
        }
        return {name: (t, e) for name, (t, e) in places.items() if self.count[:, t, e].any()}


def vote_sums(votes: VoteParts, counts: Counts | None = None) -> VoteSums:
    """Sum the votes over the items.

    Args:
        votes: The votes.
        counts: How often each item was drawn in each resample; None is the data as they are (one resample).
    """
    shape = (len(votes.targets), len(votes.evidence))
    n_boot = 1 if counts is None else counts.shape[0]
    total, count = np.zeros((n_boot, *shape)), np.zeros((n_boot, *shape))
    for first, part in votes.parts():
        times = drawn(counts, first, first + part.n_items)
        total += (times @ part.total.reshape(part.n_items, -1)).reshape(total.shape)
        count += (times @ part.count.reshape(part.n_items, -1)).reshape(count.shape)
    return VoteSums(votes.targets, votes.evidence, total, count)
