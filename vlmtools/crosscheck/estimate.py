"""From votes to scores: one estimate per way of weighting."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Float, Int

from vlmtools.crosscheck import latent
from vlmtools.crosscheck.pages import Page, Pages
from vlmtools.crosscheck.score import agreement, pooled, range_of, rank_ranges, sensitivity
from vlmtools.crosscheck.sums import vote_sums
from vlmtools.crosscheck.table import ClaimTable
from vlmtools.crosscheck.weights import Scheme, weights_of
from vlmtools.errors import BadInput
from vlmtools.stats import ranks
from vlmtools.stats.resample import Counts

ClaimScores = Callable[[Page], Float[np.ndarray, "claim"]]
"""From a page to the hallucination score of each of its claims, 0 to 1; NaN where nobody judged it."""


@dataclass(frozen=True)
class Estimate:
    """Scores of every target with everything a ranking shows about them.

    Args:
        score: Hallucination score, 0 to 1.
        boot: The same in every resample of the items.
        claim_scores: Gives the scores of single claims.
        agreement: Mean support of each target's claims by each evidence model; NaN where nobody asked.
        rank_loo: Best and worst rank when any one evidence model is left out; None with too few models.
        sensitivity: Setting → {model: rank}.
        weight: Weight of each model as evidence, averaged over targets; None where it varies by claim.
        extra: Model → further figures.
        warnings: What a reader must know.
    """

    score: Float[np.ndarray, "target"]
    boot: Float[np.ndarray, "boot target"]
    claim_scores: ClaimScores
    agreement: Float[np.ndarray, "target evidence"]
    rank_loo: tuple[tuple[int, int], ...] | None
    sensitivity: Mapping[str, Mapping[str, int]]
    weight: Mapping[str, float] | None = None
    extra: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


def by_votes(pages: Pages, scheme: Scheme, counts: Counts) -> Estimate:
    """Weighted inconsistency: `uniform`, `softmax` and `loo`.

    Args:
        pages: Claims and votes.
        scheme: Evidence, weights and average.
        counts: How often each item was drawn in each resample.

    Reference: arXiv:2405.13684, section 3.
    """
    once = vote_sums(pages)
    trust = weights_of(once, once, scheme)
    resampled = trust if scheme.weights == "uniform" else weights_of(once, vote_sums(pages, counts), scheme)
    return Estimate(
        score=pooled(pages, None, [(trust, scheme.average)])[0][0],
        boot=pooled(pages, counts, [(resampled, scheme.average)])[0],
        claim_scores=lambda page: _weighted(page, trust[0]),
        agreement=agreement(once),
        rank_loo=rank_ranges(pages, scheme),
        sensitivity=sensitivity(pages, scheme),
        weight=dict(zip(pages.evidence, trust[0].mean(axis=0).tolist(), strict=True)),
    )


def _weighted(page: Page, trust: Float[np.ndarray, "target evidence"]) -> Float[np.ndarray, "claim"]:
    claims = page.claims
    above, below = np.zeros(len(claims.target)), np.zeros(len(claims.target))
    for e in range(trust.shape[1]):
        weight = np.where(np.isnan(claims.support[:, e]), 0.0, trust[claims.target, e])
        above += weight * (1.0 - np.nan_to_num(claims.support[:, e]))
        below += weight
    return np.asarray(np.divide(above, below, out=np.full(len(above), np.nan), where=below > 0))


def by_latent_truth(pages: Pages, scheme: Scheme, counts: Counts) -> Estimate:
    """Expected share of false claims when the truth of every claim is treated as latent (docs/latent-truth.md).

    Args:
        pages: Claims and votes, with a table of the claims: `shared` for objects, `apart` for sentences.
        scheme: The plain weighting shown beside it in the sensitivity table.
        counts: How often each item was drawn in each resample.
    """
    result = latent.fit_parts(pages.claims)
    each = latent.rates_without_each(result)
    without = {name: ranks(rate) for name, rate in zip(pages.targets, each, strict=False)}
    return Estimate(
        score=result.rate,
        boot=latent.bootstrap_rates(pages.claims, result, counts),
        claim_scores=lambda page: _false(page, result),
        agreement=agreement(vote_sums(pages)),
        rank_loo=range_of({"all": ranks(result.rate), **without}),
        sensitivity=_latent_sensitivity(pages, scheme, without),
        extra={
            name: {
                "sensitivity": float(result.sensitivity[m]),
                "false_mention": float(result.false_mention[m]),
            }
            for m, name in enumerate(pages.targets)
        },
        warnings=_doubts(result, pages.table == "shared"),
    )


def _false(page: Page, result: latent.LatentTruth) -> Float[np.ndarray, "claim"]:
    if not isinstance(page.table, ClaimTable):
        raise TypeError("latent truth needs pages with a claim table")
    return np.asarray((1.0 - result.true(page.table))[page.claims.row])


_TOO_MANY_FALSE = 0.5


def _doubts(result: latent.LatentTruth, shared: bool) -> tuple[str, ...]:
    said = []
    if not result.identified:
        said.append(
            "Fewer than three models share items: votes alone cannot tell who is right, so these scores rest on what "
            "is assumed about models in general. Add a third source."
        )
    if shared and float(np.mean(result.rate)) > _TOO_MANY_FALSE:
        said.append(
            "More than half of all claims are estimated to be false. Unless the models are that bad, the estimate may "
            "have taken true for false: compare with --weights uniform."
        )
    if not result.converged:
        said.append("The latent-truth estimate did not converge; treat its scores as rough.")
    return tuple(said)


def _latent_sensitivity(
    pages: Pages, scheme: Scheme, without: Mapping[str, Int[np.ndarray, "model"]]
) -> dict[str, dict[str, int]]:
    """Ranks under the plain weightings, and under latent truth without each model."""
    try:
        plain = sensitivity(pages, replace(scheme, weights="uniform"))
    except BadInput:
        plain = {}  # a model without a single claim has a latent-truth score but no plain one
    shown = {name: dict(row) for name, row in plain.items() if not name.startswith("without ")}
    for silent, row in without.items():
        shown[f"without {silent}"] = dict(zip(pages.targets, row.tolist(), strict=True))
    return shown
