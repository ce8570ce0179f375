"""Claims and votes as arrays: what every score, weight and statistic is computed from."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from jaxtyping import Float, Int


class ClaimParts(Protocol):
    """The claims of a run, in memory or somewhere else, a stretch of its items at a time."""

    @property
    def models(self) -> tuple[str, ...]:
        """Names, in the order of the model axes."""
        ...

    @property
    def n_items(self) -> int:
        """Number of items."""
        ...

    def parts(self) -> "Iterator[tuple[int, ClaimTable]]":
        """(place of its first item, claims with items counted from 0) of every stretch; may be asked for again."""
        ...


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
        times: How many equal claims a row stands for; None is one each. `mentions` are summed over them.
    """

    models: tuple[str, ...]
    n_items: int
    item: Int[np.ndarray, "claim"]
    kind: Int[np.ndarray, "claim"]
    kinds: tuple[str, ...]
    mentions: Float[np.ndarray, "claim model"]
    support: Float[np.ndarray, "claim model"]
    times: Float[np.ndarray, "claim"] | None = None

    @property
    def weight(self) -> Float[np.ndarray, "claim"]:
        """How many claims each row stands for."""
        return np.ones(len(self.item)) if self.times is None else self.times

    def parts(self) -> "Iterator[tuple[int, ClaimTable]]":
        """All items are one stretch."""
        yield 0, self

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
            times=None if self.times is None else self.times[keep],
        )
