"""Graded support of sentences as votes: each model's scale is cut where its two groups of values part."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

Values = tuple[Float[np.ndarray, "value"], Float[np.ndarray, "value"]]
"""Different values in rising order, and how often each occurs."""


@dataclass(frozen=True)
class Scale:
    """How one model's support reads.

    Args:
        low: Mean of its low values.
        high: Mean of its high values.
        graded: False for a model that only ever says 0, 0.5 or 1, or always the same: it has voted already.
    """

    low: float
    high: float
    graded: bool

    def votes(self, support: Float[np.ndarray, "claim"]) -> Float[np.ndarray, "claim"]:
        """Votes of 0 (against), 0.5 (undecided) and 1 (for).

        Args:
            support: 0 to 1.
        """
        if not self.graded:
            return support
        height = (support - self.low) / (self.high - self.low)
        return np.asarray(np.where(height < 1 / 3, 0.0, np.where(height > 2 / 3, 1.0, 0.5)))


def decided(
    support: Float[np.ndarray, "claim model"],
    asked: Bool[np.ndarray, "claim model"],
    scales: Sequence[Scale] | None = None,
) -> Float[np.ndarray, "claim model"]:
    """Votes of 0 (against), 0.5 (undecided) and 1 (for) that the support amounts to, model by model.

    How high a judge's support is depends on how much the model says: long answers support everything better. So every
    model has its own scale, from the mean of its low values to the mean of its high ones; a third of the way up
    begins the undecided part, two thirds up the votes for. A model whose support is only ever 0, 0.5 or 1, or
    always the same, has voted already.

    Args:
        support: How far each model supports each claim, 0 to 1.
        asked: Whether it was asked; other values are left alone.
        scales: Of every model; None finds them in these very claims.
    """
    votes = np.array(support, dtype=float)
    for model, scale in enumerate(scales_of([(support, asked)]) if scales is None else scales):
        votes[asked[:, model], model] = scale.votes(votes[asked[:, model], model])
    return votes


def scales_of(
    parts: Iterable[tuple[Float[np.ndarray, "claim model"], Bool[np.ndarray, "claim model"]]],
) -> list[Scale]:
    """The scale of every model.

    Args:
        parts: Support and who was asked, some claims at a time. Values are looked at to six places, so that any number
            of them fits in memory.
    """
    seen: list[Values] = []
    for support, asked in parts:
        if not seen:
            seen = [(np.zeros(0), np.zeros(0)) for _ in range(support.shape[1])]
        seen = [_more(known, support[asked[:, model], model]) for model, known in enumerate(seen)]
    return [_scale(*values) for values in seen]


def _more(known: Values, given: Float[np.ndarray, "value"]) -> Values:
    both = np.concatenate([known[0], np.round(given, 6)])
    values, place = np.unique(both, return_inverse=True)
    times = np.concatenate([known[1], np.ones(len(given))])
    return values, np.bincount(place.reshape(-1), weights=times, minlength=len(values))


def _scale(values: Float[np.ndarray, "value"], times: Float[np.ndarray, "value"]) -> Scale:
    low, high = two_means(values, times)
    return Scale(low, high, bool(high > low and not np.isin(values, (0.0, 0.5, 1.0)).all()))


def two_means(
    values: Float[np.ndarray, "value"], times: Float[np.ndarray, "value"] | None = None
) -> tuple[float, float]:
    """Means of the low and of the high values, cut where their squared distances to the means are least.

    The same number twice where all values are equal; zeros where there are none.

    Args:
        values: Any numbers.
        times: How often each occurs; None is once.
    """
    ordered, place = np.unique(np.round(values, 6), return_inverse=True)
    often = np.bincount(place.reshape(-1), weights=times, minlength=len(ordered)).astype(float)
    if len(ordered) < 2:
        level = float(ordered[0]) if len(ordered) else 0.0
        return level, level
    n_below, below = np.cumsum(often)[:-1], np.cumsum(ordered * often)
    n_above = often.sum() - n_below
    low, high = below[:-1] / n_below, (below[-1] - below[:-1]) / n_above
    best = int(np.argmax(n_below * n_above * (high - low) ** 2))
    return float(low[best]), float(high[best])
