"""Claims and votes as arrays: what every score, weight and statistic is computed from."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int


@dataclass(frozen=True)
class ClaimTable:
    """Every distinct claim of a run, who made it and who supports it.

    With object claims a row is an (item, object) pair that one or more models mention; with sentence claims a row is
    one sentence of one model.

    Args:
        models: Names, in the order of the model axes.
        n_items: Number of items of the run; `item` counts from 0 to `n_items - 1`.
        item: Which item each claim is about.
        kind: Which kind of thing is claimed (the object's number in `kinds`), or -1 for sentences.
        kinds: Names of the kinds.
        mentions: How often each model makes the claim; 0 where it does not.
        support: How far what a model says about the item supports the claim, 0 to 1 (mean over its samples); NaN where
            nobody asked, or where the model said nothing about the item.
    """

    models: tuple[str, ...]
    n_items: int
    item: Int[np.ndarray, "claim"]
    kind: Int[np.ndarray, "claim"]
    kinds: tuple[str, ...]
    mentions: Float[np.ndarray, "claim model"]
    support: Float[np.ndarray, "claim model"]

    def take(self, models: Sequence[int]) -> "ClaimTable":
        """The same table for some of the models only; claims that nobody of them makes are dropped."""
        chosen = list(models)
        keep = self.mentions[:, chosen].sum(axis=1) > 0
        return ClaimTable(
            models=tuple(self.models[index] for index in chosen),
            n_items=self.n_items,
            item=self.item[keep],
            kind=self.kind[keep],
            kinds=self.kinds,
            mentions=self.mentions[np.ix_(keep, chosen)],
            support=self.support[np.ix_(keep, chosen)],
        )
