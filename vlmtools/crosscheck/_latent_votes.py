"""Graded support of sentences as votes: each model's scale is cut where its two groups of values part."""

import numpy as np
from jaxtyping import Bool, Float


def decided(
    support: Float[np.ndarray, "claim model"], asked: Bool[np.ndarray, "claim model"]
) -> Float[np.ndarray, "claim model"]:
    """Votes of 0 (against), 0.5 (undecided) and 1 (for) that the support amounts to, model by model.

    How high a judge's support is depends on how much the model says: long answers support everything better. So every
    model has its own scale, from the mean of its low values to the mean of its high ones; a third of the way up
    begins the undecided part, two thirds up the votes for. A model whose support is only ever 0, 0.5 or 1, or
    always the same, has voted already.

    Args:
        support: How far each model supports each claim, 0 to 1.
        asked: Whether it was asked; other values are left alone.
    """
    votes = np.array(support, dtype=float)
    for model in range(votes.shape[1]):
        given = votes[asked[:, model], model]
        low, high = two_means(given)
        if high > low and not np.isin(given, (0.0, 0.5, 1.0)).all():
            height = (given - low) / (high - low)
            votes[asked[:, model], model] = np.where(height < 1 / 3, 0.0, np.where(height > 2 / 3, 1.0, 0.5))
    return votes


def two_means(values: Float[np.ndarray, "value"]) -> tuple[float, float]:
    """Means of the low and of the high values, cut where their squared distances to the means are least.

    The same number twice where all values are equal; zeros where there are none.
    """
    ordered = np.sort(np.round(values, 6))
    cuts = np.flatnonzero(np.diff(ordered)) + 1
    if not len(cuts):
        level = float(ordered[0]) if len(ordered) else 0.0
        return level, level
    below = np.cumsum(ordered)[cuts - 1]
    low, high = below / cuts, (ordered.sum() - below) / (len(ordered) - cuts)
    best = int(np.argmax(cuts * (len(ordered) - cuts) * (high - low) ** 2))
    return float(low[best]), float(high[best])
