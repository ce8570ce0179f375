"""Ranks, how far they move between resamples, and which neighbours cannot be told apart."""

from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Float, Int

from vlmtools.errors import BadInput

SAME = 1e-12
"""Scores closer than this are equal: the same sums added in another order."""


def ranks(
    scores: Float[np.ndarray, "*boot target"], higher_is_better: bool = False
) -> Int[np.ndarray, "*boot target"]:
    """Rank along the last axis, 1 is best; equal scores share the better rank (1, 1, 3); NaN comes last.

    Args:
        scores: Scores of each target, in any number of resamples.
        higher_is_better: False (hallucination scores): the lowest is best.
    """
    return 1 + _n_below(_comparable(scores, higher_is_better))


def rank_intervals(
    resampled: Float[np.ndarray, "boot target"], level: float = 0.95, higher_is_better: bool = False
) -> Int[np.ndarray, "target 2"]:
    """Lowest and highest rank each target takes in the middle `level` of the resamples.

    A target that ties in a resample holds every rank of the tie, so models that cannot differ never get
    different intervals because of their order.

    Args:
        resampled: Scores in each resample, all targets on the same items.
        level: Coverage, between 0 and 1.
        higher_is_better: False (hallucination scores): the lowest is best.
    """
    if not 0 < level < 1:
        raise BadInput(
            f"A confidence level of {level} makes no interval; give a number between 0 and 1, like 0.95."
        )
    tail = (1.0 - level) / 2
    values = _comparable(resampled, higher_is_better)
    best, worst = 1 + _n_below(values), values.shape[1] - _n_below(-values)
    low = np.quantile(best, tail, axis=0, method="inverted_cdf")
    high = np.quantile(worst, 1.0 - tail, axis=0, method="inverted_cdf")
    return np.stack([low, high], axis=1).astype(np.int64)


def tie_groups(order: Sequence[int], different: Iterable[tuple[int, int]]) -> tuple[int, ...]:
    """Cut a sorted list into runs inside which no two members differ significantly.

    From the best model down, a model joins the current group if it differs from none of the members, and
    opens the next group otherwise. So groups are contiguous and never contradict a test: the same number
    means "not separable". The reverse is not promised (A~B and B~C, but A≠C gives {A, B}, {C}): neighbours in
    different groups may be inseparable too, which the pairwise table tells.

    Args:
        order: Models from best to worst.
        different: Pairs, in either order, whose difference is significant.

    Returns:
        Group number of each place in `order`, counted from 1.
    """
    apart = {frozenset(pair) for pair in different}
    groups: list[list[int]] = []
    for model in order:
        if not groups or any(frozenset((model, member)) in apart for member in groups[-1]):
            groups.append([])
        groups[-1].append(model)
    return tuple(number for number, group in enumerate(groups, start=1) for _ in group)


def _comparable(scores: np.ndarray, higher_is_better: bool) -> np.ndarray:
    signed = -np.asarray(scores, dtype=float) if higher_is_better else np.asarray(scores, dtype=float)
    return np.where(np.isnan(signed), np.finfo(float).max, signed)


def _n_below(values: np.ndarray) -> np.ndarray:
    """How many values of the last axis lie clearly below each; one column at a time keeps memory small."""
    columns = [(values < values[..., t, None] - SAME).sum(axis=-1) for t in range(values.shape[-1])]
    return np.stack(columns, axis=-1)
