"""Statistics for people who rank models: resampling, ranks, paired differences, correlations.

Nothing here knows what a model or a benchmark is: arrays in, numbers with their intervals out. All of it is
deterministic given the seed.
"""

from vlmtools.stats.association import (
    KINDS,
    Correlation,
    coefficients,
    correlation,
    permutation_p,
    resampled_correlation,
)
from vlmtools.stats.paired import Difference, detectable, holm, paired
from vlmtools.stats.ranks import rank_intervals, ranks, tie_groups
from vlmtools.stats.resample import bca, item_counts, jackknife_counts, percentile

__all__ = [
    "KINDS",
    "Correlation",
    "Difference",
    "bca",
    "coefficients",
    "correlation",
    "detectable",
    "holm",
    "item_counts",
    "jackknife_counts",
    "paired",
    "percentile",
    "permutation_p",
    "rank_intervals",
    "ranks",
    "resampled_correlation",
    "tie_groups",
]
