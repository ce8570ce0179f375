"""Pearson, Spearman and Kendall, each with an interval, a p-value and the name of the method behind both."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float

from vlmtools.errors import BadInput, UnknownName, suggest
from vlmtools.stats.resample import N_BOOT, item_counts, percentile

Kind = Literal["pearson", "spearman", "kendall"]
KINDS: tuple[Kind, ...] = get_args(Kind)
MANY_ROWS = 50
"""From here on rows are resampled; below, the bootstrap of a correlation is too narrow: a formula is used."""
EXACT_ROWS = 8
"""Up to here p comes from all n! orders (40,320 for 8)."""
_PAIRS_AT_ONCE = 4_000_000


@dataclass(frozen=True)
class Correlation:
    """One coefficient and what is known about it.

    Args:
        kind: `pearson`, `spearman` or `kendall` (tau-b).
        value: -1 to 1; NaN when a column is constant or fewer than 3 rows are left.
        ci: Interval; NaN where no method has enough rows.
        p: Two-sided p-value of "no association"; NaN when undefined.
        n: Rows used.
        interval: How the interval was made.
        test: How the p-value was made.
    """

    kind: Kind
    value: float
    ci: tuple[float, float]
    p: float
    n: int
    interval: str
    test: str


def correlation(
    x: Sequence[float] | Float[np.ndarray, "row"],
    y: Sequence[float] | Float[np.ndarray, "row"],
    kind: Kind = "spearman",
    level: float = 0.95,
    n_boot: int | None = None,
    seed: int = 0,
) -> Correlation:
    """Correlation of two columns; rows with a NaN in either are dropped.

    Intervals: Fisher's z for Pearson (standard error 1/√(n-3)) and Bonett and Wright's for Spearman
    (√((1+r²/2)/(n-3))) below 50 rows, the percentile bootstrap over rows from there on; Fieller's
    (√(.437/(n-4))) for Kendall. A rank coefficient of exactly ±1 is entered at the next value it could have taken, so
    that its interval has a width. p-values: up to 8 rows exact, over all n! orders; above, t for Pearson and
    Spearman, scipy's for Kendall.

    Args:
        x: One column.
        y: The other.
        kind: Which coefficient.
        level: Coverage of the interval, between 0 and 1.
        n_boot: Resamples of the rows, at any number of rows. None chooses by the number of rows.
        seed: Seed of the resampling.

    Reference: Bonett and Wright 2000, doi:10.1007/BF02294183; Fieller, Hartley and Pearson 1957,
        doi:10.1093/biomet/44.3-4.470.
    """
    a, b = _together(x, y)
    value = float(coefficients(a, b, kind)) if len(a) > 2 else np.nan
    if np.isnan(value):
        return Correlation(kind, np.nan, (np.nan, np.nan), np.nan, len(a), "none", "none")
    # Kendall looks at all pairs of rows: 2,000 resamples of many rows would take minutes and gain little.
    if n_boot is None and (len(a) < MANY_ROWS or kind == "kendall"):
        ci, interval = _formula_interval(value, len(a), kind, level)
    else:
        ci, interval = _row_bootstrap(a, b, kind, level, n_boot or N_BOOT, seed), "bootstrap over rows"
    p, test = (
        (permutation_p(a, b, kind), "exact permutation") if len(a) <= EXACT_ROWS else _formula_p(a, b, kind)
    )
    return Correlation(kind, value, ci, p, len(a), interval, test)


def resampled_correlation(
    resampled: Float[np.ndarray, "boot target"],
    observed: Float[np.ndarray, "target"],
    against: Float[np.ndarray, "target"],
    kind: Kind = "spearman",
    level: float = 0.95,
) -> Correlation:
    """Correlation of model scores with a fixed column, its interval from the items behind the scores.

    It says how much the coefficient owes to the choice of items, with these very models; `correlation` says
    how much it owes to the choice of models.

    Args:
        resampled: Scores in each resample.
        observed: Scores on the data.
        against: The other column.
        kind: Which coefficient.
        level: Coverage of the interval, between 0 and 1.
    """
    plain = correlation(observed, against, kind, level)
    low, high = percentile(coefficients(resampled, np.asarray(against, dtype=float), kind), level)
    return Correlation(
        kind, plain.value, (float(low), float(high)), plain.p, plain.n, "bootstrap over items", plain.test
    )


def coefficients(
    x: Float[np.ndarray, "*boot row"], y: Float[np.ndarray, "*boot row"], kind: Kind = "spearman"
) -> Float[np.ndarray, "*boot"]:
    """The coefficient along the last axis, for any number of resamples; NaN where a column is constant.

    Args:
        x: Columns.
        y: Columns of the same shape, or one column for all.
        kind: Which coefficient. Ties get average ranks (Spearman) or tau-b (Kendall).
    """
    if kind not in KINDS:
        raise UnknownName(f"There is no correlation {kind!r}.{suggest(kind, KINDS)}")
    a, b = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    if kind == "kendall":
        return _kendall(*np.broadcast_arrays(a, b))
    if kind == "spearman":
        from scipy.stats import rankdata

        a, b = rankdata(a, axis=-1), rankdata(b, axis=-1)
    return _pearson(a, b)


def permutation_p(x: Float[np.ndarray, "row"], y: Float[np.ndarray, "row"], kind: Kind = "spearman") -> float:
    """Exact two-sided p: the share of all n! orders of y with a coefficient at least as far from 0.

    Raises:
        BadInput: More than 9 rows, that is more than 362,880 orders.
    """
    if len(x) > 9:
        raise BadInput(f"All orders of {len(x)} rows are too many to try; use a formula above 9 rows.")
    a, b = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    orders = np.array(list(permutations(range(len(b)))))
    reached = np.abs(coefficients(a, b[orders], kind)) >= abs(coefficients(a, b, kind)) - 1e-12
    return float(np.mean(reached))


def _together(
    x: Sequence[float] | np.ndarray, y: Sequence[float] | np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    a, b = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    if a.shape != b.shape or a.ndim != 1:
        raise BadInput(
            f"Columns of shape {a.shape} and {b.shape} cannot be correlated; give two of the same length."
        )
    there = ~(np.isnan(a) | np.isnan(b))
    return a[there], b[there]


def _pearson(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    a, b = a - a.mean(axis=-1, keepdims=True), b - b.mean(axis=-1, keepdims=True)
    return _cosine((a * b).sum(axis=-1), (a**2).sum(axis=-1), (b**2).sum(axis=-1))


def _cosine(product: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    size = np.sqrt(left * right)
    value = np.divide(product, size, out=np.full(np.shape(product), np.nan), where=size > 1e-14 * (1 + left))
    return np.asarray(np.clip(value, -1.0, 1.0))


def _kendall(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """tau-b from the signs of all pairs of rows, some resamples at a time so that memory stays small."""
    first, second = np.triu_indices(a.shape[-1], 1)
    flat = a.reshape(-1, a.shape[-1]), b.reshape(-1, a.shape[-1])
    step = max(1, _PAIRS_AT_ONCE // max(1, len(first)))
    parts = []
    for start in range(0, len(flat[0]), step):
        s, t = (np.sign(v[start : start + step, first] - v[start : start + step, second]) for v in flat)
        parts.append(_cosine((s * t).sum(axis=-1), (s**2).sum(axis=-1), (t**2).sum(axis=-1)))
    return np.concatenate(parts).reshape(a.shape[:-1])


def _row_bootstrap(
    a: np.ndarray, b: np.ndarray, kind: Kind, level: float, n_boot: int, seed: int
) -> tuple[float, float]:
    counts = item_counts(len(a), n_boot, seed)
    drawn = np.stack([np.repeat(np.arange(len(a)), row) for row in counts])
    low, high = percentile(coefficients(a[drawn], b[drawn], kind), level)
    return float(low), float(high)


def _formula_interval(value: float, n: int, kind: Kind, level: float) -> tuple[tuple[float, float], str]:
    from scipy.special import ndtri

    name = {"pearson": "Fisher z", "spearman": "Bonett-Wright", "kendall": "Fieller"}[kind]
    spare = n - 4 if kind == "kendall" else n - 3
    if spare < 1:
        return (np.nan, np.nan), f"none: {name} needs {n - spare + 1} rows"
    centre = float(np.clip(value, -_next_to_one(n, kind), _next_to_one(n, kind)))
    variance = {"pearson": 1.0, "spearman": 1 + centre**2 / 2, "kendall": 0.437}[kind]
    reach = ndtri(0.5 + level / 2) * np.sqrt(variance / spare)
    low, high = np.tanh(np.arctanh(centre) - reach), np.tanh(np.arctanh(centre) + reach)
    return (float(min(low, value)), float(max(high, value))), name


def _next_to_one(n: int, kind: Kind) -> float:
    """Largest value below 1 that ranks without ties can give."""
    return {"pearson": 1 - 1e-12, "spearman": 1 - 12 / (n * (n**2 - 1)), "kendall": 1 - 4 / (n * (n - 1))}[
        kind
    ]


def _formula_p(a: np.ndarray, b: np.ndarray, kind: Kind) -> tuple[float, str]:
    from scipy import stats

    if kind == "kendall":
        return float(stats.kendalltau(a, b).pvalue), "Kendall's distribution"
    return float((stats.pearsonr if kind == "pearson" else stats.spearmanr)(a, b).pvalue), "t distribution"
