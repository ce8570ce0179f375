"""Hallucination scores from votes, for the data as they are and for any number of resamples at once."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float, Int

from vlmtools.crosscheck.arrays import VoteArrays
from vlmtools.crosscheck.weights import EQUAL, Average, Scheme, judges, weights
from vlmtools.stats import ranks

BETAS = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""Temperatures the sensitivity of a ranking is shown for."""


def scores(arrays: VoteArrays, scheme: Scheme = EQUAL) -> Float[np.ndarray, "target"]:
    """Hallucination score of each target, 0 to 1, lower is better.

    S(claim) = Σ_n w_n(m) d(claim, n), averaged over claims (`micro`) or first within items (`macro`). Where
    an evidence model is silent about an item, the weights are renormalised over those that speak, item by
    item; items nobody speaks about are left out.

    Args:
        arrays: The votes.
        scheme: Evidence, weights and average.

    Reference: arXiv:2405.13684, section 3.
    """
    return np.asarray(resampled_scores(arrays, np.ones((1, arrays.n_items)), scheme)[0])


def resampled_scores(
    arrays: VoteArrays,
    counts: Float[np.ndarray, "boot item"],
    scheme: Scheme = EQUAL,
    fixed_weights: bool = False,
) -> Float[np.ndarray, "boot target"]:
    """The scores in every resample of the items.

    Args:
        arrays: The votes.
        counts: How often each item was drawn in each resample (see `vlmtools.stats.item_counts`). NaN comes
            back where a resample holds no judged item of a target.
        scheme: Evidence, weights and average.
        fixed_weights: False computes the weights anew in each resample, as a new set of items would. True
            keeps those of the whole data: narrower intervals, which take the weights as known.
    """
    drawn = np.asarray(counts, dtype=float)
    trust = weights(arrays, scheme, None if fixed_weights else drawn)
    mean, there = arrays.mean, arrays.count > 0
    size = arrays.n_claims if scheme.average == "micro" else (arrays.n_claims > 0).astype(float)
    columns = [
        _pooled(trust[:, t], mean[:, t], there[:, t], size[:, t], drawn) for t in range(len(arrays.targets))
    ]
    return np.stack(columns, axis=1)


def item_scores(arrays: VoteArrays, scheme: Scheme = EQUAL) -> Float[np.ndarray, "item target"]:
    """Score of each answer: the mean over its claims; NaN where nobody judged it.

    Args:
        arrays: The votes.
        scheme: Evidence and weights; the weights come from all items.
    """
    trust = weights(arrays, scheme)[0]
    there = (arrays.count > 0).astype(float)
    summed, spoken = np.einsum("te,ite->it", trust, arrays.mean), np.einsum("te,ite->it", trust, there)
    return _ratio(summed, spoken)


def agreement(arrays: VoteArrays) -> Float[np.ndarray, "target evidence"]:
    """Mean support of each target's claims by each evidence model, 0 to 1; NaN where nobody asked."""
    return np.asarray(1.0 - _ratio(arrays.total.sum(axis=0), arrays.count.sum(axis=0)))


def evidence_left_out(arrays: VoteArrays, scheme: Scheme = EQUAL) -> dict[str, Int[np.ndarray, "target"]]:
    """Evidence model → ranks of all targets without it; models somebody cannot do without are not listed."""
    used = judges(arrays, scheme)
    spoken = [name for e, name in enumerate(arrays.evidence) if used[:, e].any() and _listed(name, scheme)]
    spare = [name for name in spoken if _others_remain(used, arrays.evidence.index(name))]
    rest = {name: tuple(other for other in spoken if other != name) for name in spare}
    return {name: ranks(scores(arrays, replace(scheme, evidence=rest[name]))) for name in spare}


def rank_ranges(arrays: VoteArrays, scheme: Scheme = EQUAL) -> tuple[tuple[int, int], ...] | None:
    """Best and worst rank of each target, with all evidence and with any one model left out.

    None when nobody can be left out, because some target would lose its only judge.
    """
    each = evidence_left_out(arrays, scheme)
    if not each:
        return None
    table = np.stack([ranks(scores(arrays, scheme)), *each.values()])
    return tuple(
        (int(low), int(high)) for low, high in zip(table.min(axis=0), table.max(axis=0), strict=True)
    )


def sensitivity(
    arrays: VoteArrays, scheme: Scheme = EQUAL, betas: Sequence[float] = BETAS
) -> Mapping[str, Mapping[str, int]]:
    """Setting → {model: rank} for other weights, temperatures, averages and evidence sets.

    Settings that the votes cannot serve (`softmax` without samples, `loo` with unscored evidence) are left
    out.

    Args:
        arrays: The votes.
        scheme: The setting that is varied.
        betas: Temperatures for the weights that have one.
    """
    table = {name: ranks(scores(arrays, other)) for name, other in _variants(arrays, scheme, betas).items()}
    table |= {f"without {name}": row for name, row in evidence_left_out(arrays, scheme).items()}
    return {
        name: {model: int(rank) for model, rank in zip(arrays.targets, row, strict=True)}
        for name, row in table.items()
    }


def _variants(arrays: VoteArrays, scheme: Scheme, betas: Sequence[float]) -> dict[str, Scheme]:
    used = np.asarray(judges(arrays, scheme).any(axis=0))
    names = {name for name, speaks in zip(arrays.evidence, used, strict=True) if speaks}
    result = {"weights=uniform": replace(scheme, weights="uniform")}
    if names <= arrays.own().keys():
        result |= {f"weights=softmax, beta={b:g}": replace(scheme, weights="softmax", beta=b) for b in betas}
    if names <= set(arrays.targets) and len(names) > 2:
        result |= {f"weights=loo, beta={b:g}": replace(scheme, weights="loo", beta=b) for b in betas}
    other: Average = "macro" if scheme.average == "micro" else "micro"
    return result | {f"average={other}": replace(scheme, average=other)}


def _pooled(
    trust: Float[np.ndarray, "boot evidence"],
    mean: Float[np.ndarray, "item evidence"],
    there: Bool[np.ndarray, "item evidence"],
    size: Float[np.ndarray, "item"],
    drawn: Float[np.ndarray, "boot item"],
) -> Float[np.ndarray, "boot"]:
    """One target's score in each resample; `trust` may have one row for all resamples.

    Items about which the same evidence models speak share their renormalised weights, so each such set is one
    matrix product; with complete votes that is a single one.
    """
    above, below = np.zeros(len(drawn)), np.zeros(len(drawn))
    sets, member = np.unique(there & (trust > 0).any(axis=0), axis=0, return_inverse=True)
    for number, speaking in enumerate(sets):
        rows = slice(None) if len(sets) == 1 else np.flatnonzero(member.ravel() == number)
        part, spoken = drawn[:, rows], trust @ speaking
        sums = part @ (mean[rows] * speaking * size[rows, None])
        share = np.divide(1.0, spoken, out=np.zeros_like(spoken), where=spoken > 0)
        above += (trust * sums).sum(axis=1) * share
        below += (part @ size[rows]) * (spoken > 0)
    return _ratio(above, below)


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    return np.asarray(np.divide(above, below, out=np.full(above.shape, np.nan), where=below > 0))


def _listed(name: str, scheme: Scheme) -> bool:
    return scheme.evidence is None or name in scheme.evidence


def _others_remain(used: np.ndarray, index: int) -> bool:
    """Whether every target still has a judge when this one is gone."""
    return bool(np.delete(used, index, axis=1).any(axis=1).all())
