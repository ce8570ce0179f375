"""Which models are nearly copies of each other: they agree beyond what the other models' agreement explains."""

import numpy as np
from jaxtyping import Bool, Float

from vlmtools.crosscheck.table import ClaimTable

_FEWEST = 8.0
"""Agreements (in the Mantel-Haenszel sense) below which a pair is too seldom seen together to be called copies."""


def trust_of(table: ClaimTable) -> Float[np.ndarray, "model"]:
    """Weight of each model as a witness where all are heard: 1 over the number that speak as it does, itself included.

    Args:
        table: Who claims what.
    """
    return np.asarray(1.0 / copies_of(table).sum(axis=1))


def copies_of(
    table: ClaimTable, tolerance: float = 1.0, width: float = 2.0
) -> Float[np.ndarray, "model model"]:
    """How far each model is a copy of each other one, 0 to 1; 1 on the diagonal.

    Two models count as copies of one another to the degree that their log odds ratio, among claims that equally many
    of the other models make, surely exceeds the lower quartile over all pairs: models that see the same pictures agree
    anyway, and most pairs are not copies. One standard error is given away for what few items cannot show.

    Args:
        table: Who claims what.
        tolerance: Excess that two models may show without being discounted, in log odds.
        width: Further excess at which they count as one model, in log odds, above 0.
    """
    size = len(table.models)
    ratio, error = _log_odds_ratios(table)
    known = np.isfinite(error)
    sure = np.tril(known, -1)
    if sure.sum() < 3:
        return np.eye(size)
    excess = np.where(known, ratio - np.where(known, error, 0.0) - np.quantile(ratio[sure], 0.25), 0.0)
    copies = np.clip((excess - tolerance) / width, 0.0, 1.0)
    np.fill_diagonal(copies, 1.0)
    return np.asarray(copies)


def _log_odds_ratios(
    table: ClaimTable,
) -> tuple[Float[np.ndarray, "model model"], Float[np.ndarray, "model model"]]:
    """Of every pair, with its standard error; infinite errors where nothing is known."""
    objects = table.kind >= 0
    makes = table.mentions[objects] > 0
    asked = ~np.isnan(table.support[objects]) | makes
    weight = table.weight[objects]
    size = makes.shape[1]
    ratio, error = np.zeros((size, size)), np.full((size, size), np.inf)
    for a in range(size):
        for b in range(a):
            both = asked[:, a] & asked[:, b]
            others = makes.sum(axis=1) - makes[:, a] - makes[:, b]
            found = _stratified(makes[both, a], makes[both, b], others[both], weight[both])
            ratio[a, b], error[a, b] = ratio[b, a], error[b, a] = found
    return ratio, error


def _stratified(
    a: Bool[np.ndarray, "claim"],
    b: Bool[np.ndarray, "claim"],
    others: Float[np.ndarray, "claim"],
    weight: Float[np.ndarray, "claim"],
) -> tuple[float, float]:
    """Mantel-Haenszel log odds ratio and a rough standard error, at most 1: exact copies hardly ever differ.

    Claims that nobody else makes are left out: among them the cell of neither is empty by construction.
    """
    above = below = 0.0
    for stratum in np.unique(others[others > 0]):
        inside = others == stratum
        x, y, n = a[inside], b[inside], weight[inside]
        size = n.sum() + 2.0
        above += (n[x & y].sum() + 0.5) * (n[~x & ~y].sum() + 0.5) / size
        below += (n[x & ~y].sum() + 0.5) * (n[~x & y].sum() + 0.5) / size
    if above < _FEWEST:
        return 0.0, float("inf")
    return float(np.log(above / below)), float(min(np.sqrt(0.5 / above + 0.5 / below), 1.0))
