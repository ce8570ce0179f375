"""How much each evidence model's word counts when a target is scored."""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from jaxtyping import Bool, Float

from vlmtools.crosscheck.arrays import VoteArrays
from vlmtools.errors import BadInput, UnknownName, suggest

Weights = Literal["uniform", "softmax", "loo"]
Average = Literal["micro", "macro"]
OwnVotes = Literal["never", "listed", "always"]


@dataclass(frozen=True)
class Scheme:
    """From votes to scores: which evidence, how weighted, how averaged.

    The default, `EQUAL`, puts every target on the same terms: it is judged by every other model, never by
    itself, all with equal weight. `PAPER` is what CrossCheckGPT does.

    Args:
        weights: `uniform` trusts all evidence alike. `softmax` trusts models that agree with themselves:
            w_n ∝ exp(-U_n / beta) with U_n the mean self-inconsistency over all claims of n; it needs
            samples. `loo` is ours, not the paper's, and needs none: U_n for target m is how much the
            remaining evidence models, without m and n, contradict n.
        beta: Temperature of `softmax` and `loo`, above 0; large values approach `uniform`.
        average: `micro` is the mean over all claims, `macro` the mean over items of the item's mean.
        include_self: `never`: a target does not judge itself. `listed`: it does when it is in `evidence`.
            `always`: it is added to its own evidence, as in the paper.
        evidence: Names of the evidence models; None takes all there are.

    Reference: arXiv:2405.13684, section 3.
    """

    weights: Weights = "uniform"
    beta: float = 0.1
    average: Average = "micro"
    include_self: OwnVotes = "never"
    evidence: tuple[str, ...] | None = None


EQUAL = Scheme()
"""Every model judges every other one, with equal weight: our default."""
PAPER = Scheme(weights="softmax", beta=0.1, average="micro", include_self="always")
"""CrossCheckGPT's text setting."""
SELF = Scheme(include_self="always", evidence=())
"""SelfCheck: every model is judged by its own samples alone."""


def weights(
    arrays: VoteArrays, scheme: Scheme = EQUAL, counts: Float[np.ndarray, "boot item"] | None = None
) -> Float[np.ndarray, "boot target evidence"]:
    """Weight of each evidence model for each target; every row sums to 1.

    A pair that shares no item gets weight 0 and the rest is normalised over what is there.

    Args:
        arrays: The votes.
        scheme: How to weight.
        counts: How often each item was drawn in each resample; None is the data as they are (one resample).
            `uniform` weights do not depend on it and come back with a `boot` axis of length 1.

    Raises:
        BadInput: beta is not positive, a target has no evidence, `softmax` is asked without votes on own
            claims, or `loo` with evidence models whose answers nobody judged.
        UnknownName: An evidence model or a setting that does not exist.
    """
    _check(scheme)
    allowed = judges(arrays, scheme)
    if scheme.weights == "uniform":
        raw = allowed[None].astype(float)
    else:
        drawn = np.ones((1, arrays.n_items)) if counts is None else np.asarray(counts, dtype=float)
        distrust = _self_distrust if scheme.weights == "softmax" else _loo_distrust
        raw = _softmax(distrust(arrays, allowed, drawn), allowed, scheme.beta)
    return np.asarray(raw / raw.sum(axis=2, keepdims=True))


def judges(arrays: VoteArrays, scheme: Scheme = EQUAL) -> Bool[np.ndarray, "target evidence"]:
    """Which evidence models speak about each target, N(m), as far as there are votes.

    Raises:
        UnknownName: An evidence model that does not exist.
        BadInput: A target that nobody speaks about.
    """
    chosen = arrays.evidence if scheme.evidence is None else scheme.evidence
    for name in set(chosen) - set(arrays.evidence):
        raise UnknownName(f"There is no evidence model {name!r}.{suggest(name, arrays.evidence)}")
    listed = np.isin(arrays.evidence, chosen) if chosen else np.zeros(len(arrays.evidence), dtype=bool)
    same = np.array(arrays.targets, dtype=object)[:, None] == np.array(arrays.evidence, dtype=object)[None, :]
    allowed = np.broadcast_to(listed, same.shape).copy()
    if scheme.include_self == "never":
        allowed &= ~same
    elif scheme.include_self == "always":
        allowed |= same
    allowed &= arrays.count.sum(axis=0) > 0
    _check_everyone_is_judged(arrays, scheme, allowed)
    return allowed


def self_inconsistency(
    arrays: VoteArrays, counts: Float[np.ndarray, "boot item"] | None = None
) -> Float[np.ndarray, "boot evidence"]:
    """U_n: mean inconsistency of each evidence model with its own samples, over all its claims.

    NaN where there are no such votes. In a resample that draws none of a model's items its value on all items
    stands in.
    """
    drawn = np.ones((1, arrays.n_items)) if counts is None else np.asarray(counts, dtype=float)
    result = np.full((drawn.shape[0], len(arrays.evidence)), np.nan)
    for target, evidence in arrays.own().values():
        total, count = arrays.total[:, target, evidence], arrays.count[:, target, evidence]
        seen = drawn @ count
        overall = np.full(len(seen), total.sum() / count.sum())
        result[:, evidence] = np.divide(drawn @ total, seen, out=overall, where=seen > 0)
    return result


def _self_distrust(
    arrays: VoteArrays, allowed: Bool[np.ndarray, "target evidence"], drawn: Float[np.ndarray, "boot item"]
) -> Float[np.ndarray, "boot target evidence"]:
    own = self_inconsistency(arrays, drawn)
    silent = [arrays.evidence[e] for e in np.flatnonzero(allowed.any(axis=0) & np.isnan(own).any(axis=0))]
    if silent:
        raise BadInput(
            f"Weights 'softmax' need each evidence model's votes on its own answers; {', '.join(silent)} "
            "gave none. Draw stochastic answers (--samples K), leave these models out, or use --weights loo."
        )
    return np.broadcast_to(own[:, None, :], (len(own), *allowed.shape))


def _loo_distrust(
    arrays: VoteArrays, allowed: Bool[np.ndarray, "target evidence"], drawn: Float[np.ndarray, "boot item"]
) -> Float[np.ndarray, "boot target evidence"]:
    """[b, m, n]: mean over evidence models k other than m and n of the inconsistency of n's claims with k."""
    missing = [
        arrays.evidence[e]
        for e in np.flatnonzero(allowed.any(axis=0))
        if arrays.evidence[e] not in arrays.targets
    ]
    if missing:
        raise BadInput(
            f"Weights 'loo' need the others' votes on each evidence model's answers; there are none on "
            f"{', '.join(missing)}. Add its answers, leave it out of the evidence, or use --weights uniform."
        )
    row = np.array([arrays.targets.index(name) if name in arrays.targets else 0 for name in arrays.evidence])
    used = np.asarray(allowed.any(axis=0))
    apart = _names_differ(arrays.evidence, arrays.evidence) & used[None, :]
    summed = np.einsum("bi,ink->bnk", drawn, arrays.total[:, row], optimize=True)
    counted = np.einsum("bi,ink->bnk", drawn, arrays.count[:, row], optimize=True)
    there = (counted > 0) & apart
    inconsistency = np.divide(summed, counted, out=np.zeros_like(summed), where=there)
    not_target = _names_differ(arrays.targets, arrays.evidence).astype(float)
    n_left = np.einsum("bnk,mk->bmn", there.astype(float), not_target, optimize=True)
    distrust = np.einsum("bnk,mk->bmn", inconsistency, not_target, optimize=True)
    return _filled(np.divide(distrust, n_left, out=np.full_like(distrust, np.nan), where=n_left > 0.5))


def _filled(distrust: Float[np.ndarray, "boot target evidence"]) -> Float[np.ndarray, "boot target evidence"]:
    """Models that nobody else judged are trusted like the average of the others."""
    known = ~np.isnan(distrust)
    n_known = known.sum(axis=2, keepdims=True)
    middle = np.where(known, distrust, 0.0).sum(axis=2, keepdims=True) / np.maximum(n_known, 1)
    return np.where(known, distrust, middle)


def _names_differ(left: tuple[str, ...], right: tuple[str, ...]) -> Bool[np.ndarray, "left right"]:
    return np.array([[a != b for b in right] for a in left], dtype=bool).reshape(len(left), len(right))


def _softmax(
    distrust: Float[np.ndarray, "boot target evidence"],
    allowed: Bool[np.ndarray, "target evidence"],
    beta: float,
) -> Float[np.ndarray, "boot target evidence"]:
    masked = np.where(allowed, distrust, np.inf)
    exponent = (masked - masked.min(axis=2, keepdims=True)) / beta
    # The floor keeps an item that only a hardly trusted model speaks about from vanishing for tiny beta.
    return np.where(allowed, np.exp(-np.minimum(exponent, 600.0)), 0.0)


def _check(scheme: Scheme) -> None:
    if not scheme.beta > 0:
        raise BadInput(
            f"beta is {scheme.beta}; it must be above 0. The paper uses 0.1; large values trust all alike."
        )
    for field, kinds in (("weights", Weights), ("average", Average), ("include_self", OwnVotes)):
        given = getattr(scheme, field)
        if given not in get_args(kinds):
            raise UnknownName(f"There is no {field} {given!r}.{suggest(str(given), get_args(kinds))}")


def _check_everyone_is_judged(
    arrays: VoteArrays, scheme: Scheme, allowed: Bool[np.ndarray, "target evidence"]
) -> None:
    alone = [arrays.targets[t] for t in np.flatnonzero(~allowed.any(axis=1))]
    if not alone:
        return
    listed = ", ".join(arrays.evidence if scheme.evidence is None else scheme.evidence) or "none"
    raise BadInput(
        f"Nobody judges {', '.join(alone)}: the evidence models are {listed}, include_self is "
        f"{scheme.include_self!r}, and no other votes exist. Add another model's answers to the same items."
    )
