"""Which models are nearly copies of each other: they agree beyond what the other models' agreement explains."""

import numpy as np
from jaxtyping import Bool, Float

from vlmtools.crosscheck.table import ClaimTable


def trust_of(table: ClaimTable, tolerance: float = 1.0, width: float = 1.0) -> Float[np.ndarray, "model"]:
    """Weight of each model as a witness: 1 over the square root of the number of models that speak as it does.

    Two models count as copies of one another to the degree that their log odds ratio, among claims that equally many
    of the other models make, exceeds the median over all pairs.

    Args:
        table: Who claims what.
        tolerance: Excess that two models may show without being discounted, in log odds.
        width: Further excess at which they count as one model, in log odds, above 0.
    """
    size = len(table.models)
    excess = _log_odds_ratios(table)
    pairs = excess[np.tril_indices(size, -1)]
    pairs = pairs[~np.isnan(pairs)]
    if len(pairs) < 3:
        return np.ones(size)
    copies = np.clip((np.nan_to_num(excess - np.median(pairs)) - tolerance) / width, 0.0, 1.0)
    np.fill_diagonal(copies, 1.0)
    return np.asarray(copies.sum(axis=1) ** -0.5)


def _log_odds_ratios(table: ClaimTable) -> Float[np.ndarray, "model model"]:
    objects = table.kind >= 0
    makes = table.mentions[objects] > 0
    asked = ~np.isnan(table.support[objects]) | makes
    size = makes.shape[1]
    result = np.full((size, size), np.nan)
    for a in range(size):
        for b in range(a):
            both = asked[:, a] & asked[:, b]
            others = makes.sum(axis=1) - makes[:, a] - makes[:, b]
            result[a, b] = result[b, a] = _stratified(makes[both, a], makes[both, b], others[both])
    return result


def _stratified(
    a: Bool[np.ndarray, "claim"], b: Bool[np.ndarray, "claim"], others: Float[np.ndarray, "claim"]
) -> float:
    """Mantel-Haenszel log odds ratio; claims that only these two can have made cannot show the empty cell."""
    above = below = 0.0
    for stratum in np.unique(others[others > 0]):
        inside = others == stratum
        x, y = a[inside], b[inside]
        size = len(x) + 2.0
        above += ((x & y).sum() + 0.5) * ((~x & ~y).sum() + 0.5) / size
        below += ((x & ~y).sum() + 0.5) * ((~x & y).sum() + 0.5) / size
    return float(np.log(above / below)) if below > 0 else float("nan")
