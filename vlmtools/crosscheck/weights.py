"""How much each evidence model's word counts when a target is scored."""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from jaxtyping import Bool, Float

from vlmtools.crosscheck.arrays import VoteParts
from vlmtools.crosscheck.sums import VoteSums, vote_sums
from vlmtools.errors import BadInput, UnknownName, suggest
from vlmtools.stats.resample import Counts

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
    votes: VoteParts, scheme: Scheme = EQUAL, counts: Counts | None = None
) -> Float[np.ndarray, "boot target evidence"]:
    """Weight of each evidence model for each target; every row sums to 1.

    A pair that shares no item gets weight 0 and the rest is normalised over what is there.

    Args:
        votes: The votes.
        scheme: How to weight.
        counts: How often each item was drawn in each resample; None is the data as they are (one resample).
            `uniform` weights do not depend on it and come back with a `boot` axis of length 1.

    Raises:
        BadInput: beta is not positive, a target has no evidence, `softmax` is asked without votes on own
            claims, or `loo` with evidence models whose answers nobody judged.
        UnknownName: An evidence model or a setting that does not exist.
    """
    once = vote_sums(votes)
    return weights_of(
        once, once if counts is None or scheme.weights == "uniform" else vote_sums(votes, counts), scheme
    )


def weights_of(
    once: VoteSums, resampled: VoteSums, scheme: Scheme = EQUAL
) -> Float[np.ndarray, "boot target evidence"]:
    """The same from sums that are known already.

    Args:
        once: Sums over the items as they are.
        resampled: Sums in each resample, or `once` again.
        scheme: How to weight.
    """
    _check(scheme)
    allowed = judges(once, scheme)
    if scheme.weights == "uniform":
        raw = allowed[None].astype(float)
    else:
        distrust = _self_distrust if scheme.weights == "softmax" else _loo_distrust
        raw = _softmax(distrust(once, resampled, allowed), allowed, scheme.beta)
    return np.asarray(raw / raw.sum(axis=2, keepdims=True))


def judges(once: VoteSums, scheme: Scheme = EQUAL) -> Bool[np.ndarray, "target evidence"]:
    """Which evidence models speak about each target, N(m), as far as there are votes.

    Args:
        once: Sums over the items as they are.
        scheme: Who is asked.

    Raises:
        UnknownName: An evidence model that does not exist.
        BadInput: A target that nobody speaks about.
    """
    chosen = once.evidence if scheme.evidence is None else scheme.evidence
    for name in set(chosen) - set(once.evidence):
        raise UnknownName(f"There is no evidence model {name!r}.{suggest(name, once.evidence)}")
    listed = np.isin(once.evidence, chosen) if chosen else np.zeros(len(once.evidence), dtype=bool)
    same = np.array(once.targets, dtype=object)[:, None] == np.array(once.evidence, dtype=object)[None, :]
    allowed = np.broadcast_to(listed, same.shape).copy()
    if scheme.include_self == "never":
        allowed &= ~same
    elif scheme.include_self == "always":
        allowed |= same
    allowed &= once.count[0] > 0
    _check_everyone_is_judged(once, scheme, allowed)
    return allowed


def self_inconsistency(once: VoteSums, resampled: VoteSums) -> Float[np.ndarray, "boot evidence"]:
    """U_n: mean inconsistency of each evidence model with its own samples, over all its claims.

    NaN where there are no such votes. In a resample that draws none of a model's items its value on all items
    stands in.

    Args:
        once: Sums over the items as they are.
        resampled: Sums in each resample.
    """
    result = np.full((len(resampled.total), len(once.evidence)), np.nan)
    for target, evidence in once.own().values():
        total, count = resampled.total[:, target, evidence], resampled.count[:, target, evidence]
        overall = once.total[0, target, evidence] / once.count[0, target, evidence]
        result[:, evidence] = np.divide(total, count, out=np.full(len(count), overall), where=count > 0)
    return result


def _self_distrust(
    once: VoteSums, resampled: VoteSums, allowed: Bool[np.ndarray, "target evidence"]
) -> Float[np.ndarray, "boot target evidence"]:
    own = self_inconsistency(once, resampled)
    silent = [once.evidence[e] for e in np.flatnonzero(allowed.any(axis=0) & np.isnan(own).any(axis=0))]
    if silent:
        raise BadInput(
            f"Weights 'softmax' need each evidence model's votes on its own answers; {', '.join(silent)} "
            "gave none. Draw stochastic answers (--samples K), leave these models out, or use --weights loo."
        )
    return np.broadcast_to(own[:, None, :], (len(own), *allowed.shape))


def _loo_distrust(
    once: VoteSums, resampled: VoteSums, allowed: Bool[np.ndarray, "target evidence"]
) -> Float[np.ndarray, "boot target evidence"]:
    """[b, m, n]: mean over evidence models k other than m and n of the inconsistency of n's claims with k."""
    missing = [
        once.evidence[e] for e in np.flatnonzero(allowed.any(axis=0)) if once.evidence[e] not in once.targets
    ]
    if missing:
        raise BadInput(
            f"Weights 'loo' need the others' votes on each evidence model's answers; there are none on "
            f"{', '.join(missing)}. Add its answers, leave it out of the evidence, or use --weights uniform."
        )
    row = np.array([once.targets.index(name) if name in once.targets else 0 for name in once.evidence])
    used = np.asarray(allowed.any(axis=0))
    apart = _names_differ(once.evidence, once.evidence) & used[None, :]
    summed, counted = resampled.total[:, row], resampled.count[:, row]
    there = (counted > 0) & apart
    inconsistency = np.divide(summed, counted, out=np.zeros_like(summed), where=there)
    not_target = _names_differ(once.targets, once.evidence).astype(float)
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
    once: VoteSums, scheme: Scheme, allowed: Bool[np.ndarray, "target evidence"]
) -> None:
    alone = [once.targets[t] for t in np.flatnonzero(~allowed.any(axis=1))]
    if not alone:
        return
    listed = ", ".join(once.evidence if scheme.evidence is None else scheme.evidence) or "none"
    raise BadInput(
        f"Nobody judges {', '.join(alone)}: the evidence models are {listed}, include_self is "
        f"{scheme.include_self!r}, and no other votes exist. Add another model's answers to the same items."
    )
