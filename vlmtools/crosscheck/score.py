"""Hallucination scores from votes, for the data as they are and for any number of resamples at once."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float, Int

from vlmtools.crosscheck.arrays import VoteArrays, VoteParts
from vlmtools.crosscheck.sums import VoteSums, vote_sums
from vlmtools.crosscheck.weights import EQUAL, Average, Scheme, judges, weights, weights_of
from vlmtools.stats import ranks
from vlmtools.stats.resample import Counts, drawn

BETAS = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""Temperatures the sensitivity of a ranking is shown for."""


def scores(votes: VoteParts, scheme: Scheme = EQUAL) -> Float[np.ndarray, "target"]:
    """Hallucination score of each target, 0 to 1, lower is better.

    S(claim) = Σ_n w_n(m) d(claim, n), averaged over claims (`micro`) or first within items (`macro`). Where
    an evidence model is silent about an item, the weights are renormalised over those that speak, item by
    item; items nobody speaks about are left out.

    Args:
        votes: The votes.
        scheme: Evidence, weights and average.

    Reference: arXiv:2405.13684, section 3.
    """
    return np.asarray(resampled_scores(votes, None, scheme)[0])


def resampled_scores(
    votes: VoteParts,
    counts: Counts | None,
    scheme: Scheme = EQUAL,
    fixed_weights: bool = False,
) -> Float[np.ndarray, "boot target"]:
    """The scores in every resample of the items.

    Args:
        votes: The votes.
        counts: How often each item was drawn in each resample (see `vlmtools.stats.item_counts`). NaN comes
            back where a resample holds no judged item of a target. None is the data as they are.
        scheme: Evidence, weights and average.
        fixed_weights: False computes the weights anew in each resample, as a new set of items would. True
            keeps those of the whole data: narrower intervals, which take the weights as known.
    """
    trust = weights(votes, scheme, None if fixed_weights else counts)
    return pooled(votes, counts, [(trust, scheme.average)])[0]


Trust = tuple[Float[np.ndarray, "boot target evidence"], Average]
"""Weights, with one row for each resample or one for all, and how claims are averaged."""


def pooled(
    votes: VoteParts, counts: Counts | None, schemes: Sequence[Trust]
) -> list[Float[np.ndarray, "boot target"]]:
    """Scores under several weightings, going through the votes once.

    Args:
        votes: The votes.
        counts: How often each item was drawn in each resample; None is the data as they are.
        schemes: Weights and averages.
    """
    shape = (1 if counts is None else counts.shape[0], len(votes.targets))
    above, below = ([np.zeros(shape) for _ in schemes] for _ in range(2))
    for first, part in votes.parts():
        times = drawn(counts, first, first + part.n_items)
        mean, there, n_claims = part.mean, part.count > 0, part.n_claims
        for number, (trust, average) in enumerate(schemes):
            size = n_claims if average == "micro" else (n_claims > 0).astype(float)
            for t in range(shape[1]):
                more = _pooled(trust[:, t], mean[:, t], there[:, t], size[:, t], times)
                above[number][:, t] += more[0]
                below[number][:, t] += more[1]
    return [_ratio(a, b) for a, b in zip(above, below, strict=True)]


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


def agreement(once: VoteSums) -> Float[np.ndarray, "target evidence"]:
    """Mean support of each target's claims by each evidence model, 0 to 1; NaN where nobody asked.

    Args:
        once: Votes summed over the items as they are.
    """
    return np.asarray(1.0 - _ratio(once.total[0], once.count[0]))


def without_each(once: VoteSums, scheme: Scheme = EQUAL) -> dict[str, Scheme]:
    """Evidence model → the scheme without it; models somebody cannot do without are not listed.

    Args:
        once: Votes summed over the items as they are.
        scheme: The setting that is varied.
    """
    used = judges(once, scheme)
    spoken = [name for e, name in enumerate(once.evidence) if used[:, e].any() and _listed(name, scheme)]
    spare = [name for name in spoken if _others_remain(used, once.evidence.index(name))]
    return {
        name: replace(scheme, evidence=tuple(other for other in spoken if other != name)) for name in spare
    }


def rank_ranges(votes: VoteParts, scheme: Scheme = EQUAL) -> tuple[tuple[int, int], ...] | None:
    """Best and worst rank of each target, with all evidence and with any one model left out.

    None when nobody can be left out, because some target would lose its only judge.
    """
    once = vote_sums(votes)
    return range_of(_ranks(votes, once, {"all": scheme, **_named(without_each(once, scheme))}))


def range_of(ranked: Mapping[str, Int[np.ndarray, "target"]]) -> tuple[tuple[int, int], ...] | None:
    """Best and worst rank in tables of ranks: the one with all evidence and those without one model.

    Args:
        ranked: Name → ranks; None comes back when there is only one.
    """
    if len(ranked) < 2:
        return None
    table = np.stack(list(ranked.values()))
    return tuple(
        (int(low), int(high)) for low, high in zip(table.min(axis=0), table.max(axis=0), strict=True)
    )


def sensitivity(
    votes: VoteParts, scheme: Scheme = EQUAL, betas: Sequence[float] = BETAS
) -> Mapping[str, Mapping[str, int]]:
    """Setting → {model: rank} for other weights, temperatures, averages and evidence sets.

    Settings that the votes cannot serve (`softmax` without samples, `loo` with unscored evidence) are left
    out.

    Args:
        votes: The votes.
        scheme: The setting that is varied.
        betas: Temperatures for the weights that have one.
    """
    once = vote_sums(votes)
    varied = _variants(once, scheme, betas) | _named(without_each(once, scheme))
    return {
        name: {model: int(rank) for model, rank in zip(votes.targets, row, strict=True)}
        for name, row in _ranks(votes, once, varied).items()
    }


def _named(schemes: Mapping[str, Scheme]) -> dict[str, Scheme]:
    return {f"without {name}": scheme for name, scheme in schemes.items()}


def _ranks(
    votes: VoteParts, once: VoteSums, schemes: Mapping[str, Scheme]
) -> dict[str, Int[np.ndarray, "target"]]:
    """Ranks under each setting, going through the votes once."""
    trusts = [(weights_of(once, once, scheme), scheme.average) for scheme in schemes.values()]
    found = pooled(votes, None, trusts)
    return {name: ranks(row[0]) for name, row in zip(schemes, found, strict=True)}


def _variants(once: VoteSums, scheme: Scheme, betas: Sequence[float]) -> dict[str, Scheme]:
    used = np.asarray(judges(once, scheme).any(axis=0))
    names = {name for name, speaks in zip(once.evidence, used, strict=True) if speaks}
    result = {"weights=uniform": replace(scheme, weights="uniform")}
    if names <= once.own().keys():
        result |= {f"weights=softmax, beta={b:g}": replace(scheme, weights="softmax", beta=b) for b in betas}
    if names <= set(once.targets) and len(names) > 2:
        result |= {f"weights=loo, beta={b:g}": replace(scheme, weights="loo", beta=b) for b in betas}
    other: Average = "macro" if scheme.average == "micro" else "micro"
    return result | {f"average={other}": replace(scheme, average=other)}


def _pooled(
    trust: Float[np.ndarray, "boot evidence"],
    mean: Float[np.ndarray, "item evidence"],
    there: Bool[np.ndarray, "item evidence"],
    size: Float[np.ndarray, "item"],
    times: Float[np.ndarray, "boot item"],
) -> tuple[Float[np.ndarray, "boot"], Float[np.ndarray, "boot"]]:
    """Numerator and denominator of a target's score in each resample; `trust` may have one row for all.

    Weights that are the same in all resamples give each item one score, and resamples are sums of those. Otherwise
    items about which the same evidence models speak share their renormalised weights, so each such set is one
    matrix product; with complete votes that is a single one.
    """
    if len(trust) == 1:
        spoken = there @ trust[0]
        share = _ratio((mean * there) @ trust[0], spoken)
        return times @ (np.nan_to_num(share) * size), times @ (size * (spoken > 0))
    above, below = np.zeros(len(times)), np.zeros(len(times))
    sets, member = np.unique(there & (trust > 0).any(axis=0), axis=0, return_inverse=True)
    for number, speaking in enumerate(sets):
        rows = slice(None) if len(sets) == 1 else np.flatnonzero(member.ravel() == number)
        part, spoken = times[:, rows], trust @ speaking
        sums = part @ (mean[rows] * speaking * size[rows, None])
        share = np.divide(1.0, spoken, out=np.zeros_like(spoken), where=spoken > 0)
        above += (trust * sums).sum(axis=1) * share
        below += (part @ size[rows]) * (spoken > 0)
    return above, below


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    return np.asarray(np.divide(above, below, out=np.full(above.shape, np.nan), where=below > 0))


def _listed(name: str, scheme: Scheme) -> bool:
    return scheme.evidence is None or name in scheme.evidence


def _others_remain(used: np.ndarray, index: int) -> bool:
    """Whether every target still has a judge when this one is gone."""
    return bool(np.delete(used, index, axis=1).any(axis=1).all())
