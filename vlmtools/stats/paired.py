"""Is one model really better than another on the same items?"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from jaxtyping import Float

from vlmtools.errors import BadInput
from vlmtools.stats.ranks import SAME
from vlmtools.stats.resample import percentile


@dataclass(frozen=True)
class Difference:
    """Paired difference of two models, in the order of the list they came from.

    Args:
        a: Index of the first.
        b: Index of the second.
        difference: Score of b minus score of a.
        ci: Its percentile interval over the resamples.
        p: Two-sided bootstrap p-value.
        p_holm: The same, corrected for all pairs of the table by Holm's method.
        detectable: Smallest true difference that so many items would show with 80 % power.
    """

    a: int
    b: int
    difference: float
    ci: tuple[float, float]
    p: float
    p_holm: float
    detectable: float


def paired(
    resampled: Float[np.ndarray, "boot target"],
    observed: Float[np.ndarray, "target"],
    order: Sequence[int] | None = None,
    level: float = 0.95,
    n_items: int | None = None,
) -> tuple[Difference, ...]:
    """Every pair's difference with interval, p-value, Holm's correction and detectable difference.

    p is twice the share of resamples on the far side of zero. Where none is, counting cannot tell small
    p-values apart (2,000 resamples end at 0.001, which Holm's correction over 190 pairs would turn into
    0.19), so the normal tail of difference / standard error is used below that. With n items no p is smaller
    than 2^(1-n), the least an exact sign-flip test could give.

    Args:
        resampled: Scores in each resample, all targets on the same items.
        observed: Scores on the data.
        order: Indices from best to worst: pairs come in this order. None keeps the given order.
        level: Coverage of the intervals, between 0 and 1.
        n_items: Number of items resampled; widens intervals and bounds p for few items. None (neutral) does
            neither.
    """
    pairs = list(combinations(range(len(observed)) if order is None else order, 2))
    if not pairs:
        return ()
    first, second = np.array(pairs).T
    gaps = resampled[:, second] - resampled[:, first]
    gap = np.asarray(observed)[second] - np.asarray(observed)[first]
    low, high = percentile(gaps, level, n_items)
    error = np.nanstd(gaps, axis=0, ddof=1) if len(gaps) > 1 else np.zeros(len(pairs))
    p = np.array([_p_value(gaps[:, i], gap[i], error[i], n_items) for i in range(len(pairs))])
    corrected = holm(p)
    return tuple(
        Difference(a, b, float(gap[i]), (float(low[i]), float(high[i])), float(p[i]), float(corrected[i]),
                   detectable(float(error[i]), 1 - level))
        for i, (a, b) in enumerate(pairs)
    )  # fmt: skip


def holm(p: Sequence[float] | Float[np.ndarray, "test"]) -> Float[np.ndarray, "test"]:
    """Holm's step-down correction of several p-values.

    Rejecting where the result is at most alpha keeps the chance of any false rejection at alpha.

    Args:
        p: Uncorrected p-values, 0 to 1.

    Reference: Holm 1979, Scandinavian Journal of Statistics 6(2), 65-70.
    """
    values = np.asarray(p, dtype=float)
    if values.size and not ((values >= 0) & (values <= 1)).all():
        raise BadInput(f"p-values lie between 0 and 1; these go from {values.min()} to {values.max()}.")
    order = np.argsort(values, kind="stable")
    stepped = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1)) if len(values) else values
    result = np.empty_like(values)
    result[order] = np.minimum(stepped, 1.0)
    return result


def detectable(standard_error: float, alpha: float = 0.05, power: float = 0.8) -> float:
    """Smallest true difference a two-sided test at `alpha` finds with probability `power`.

    Args:
        standard_error: Of the paired difference, from the bootstrap or from items (deviation / √n).
        alpha: Significance level, between 0 and 1.
        power: Wanted probability of finding it, between `alpha` and 1.
    """
    from scipy.special import ndtri

    return float((ndtri(1 - alpha / 2) + ndtri(power)) * standard_error)


def _p_value(gaps: Float[np.ndarray, "boot"], gap: float, error: float, n_items: int | None) -> float:
    from scipy.special import ndtr

    kept = gaps[~np.isnan(gaps)]
    # Equal scores may differ by rounding: such a resample speaks for neither.
    n_far = min(int((kept <= SAME).sum()), int((kept >= -SAME).sum()))
    p = min(1.0, 2 * (n_far + 1) / (len(kept) + 1))
    if n_far == 0 and error > 0:
        p = min(p, 2 * float(ndtr(-abs(gap) / error)))
    return p if n_items is None else max(p, min(1.0, 2.0 ** (1 - n_items)))
