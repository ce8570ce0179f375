"""From votes to scores: the claims and votes of a run as arrays, and one estimate per way of weighting."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Float, Int

from vlmtools.crosscheck import latent
from vlmtools.crosscheck.arrays import VoteArrays
from vlmtools.crosscheck.panels import deal
from vlmtools.crosscheck.score import item_scores, rank_ranges, resampled_scores, scores, sensitivity
from vlmtools.crosscheck.table import ClaimTable
from vlmtools.crosscheck.voting import Subject, Votes
from vlmtools.crosscheck.weights import Scheme, weights
from vlmtools.errors import BadInput
from vlmtools.stats import ranks

ClaimScores = dict[tuple[str, str], list[float]]
"""(item, target) → hallucination score of each claim of the answer, 0 to 1; NaN where nobody judged it."""


@dataclass(frozen=True)
class Estimate:
    """Scores of every target with everything a ranking shows about them.

    Args:
        score: Hallucination score, 0 to 1.
        boot: The same in every resample of the items.
        per_item: Score of each answer; NaN where nobody judged it.
        claims: Score of every claim.
        rank_loo: Best and worst rank when any one evidence model is left out; None with too few models.
        sensitivity: Setting → {model: rank}.
        weight: Weight of each model as evidence, averaged over targets; None where it varies by claim.
        extra: Model → further figures.
        warnings: What a reader must know.
    """

    score: Float[np.ndarray, "target"]
    boot: Float[np.ndarray, "boot target"]
    per_item: Float[np.ndarray, "item target"]
    claims: ClaimScores
    rank_loo: tuple[tuple[int, int], ...] | None
    sensitivity: Mapping[str, Mapping[str, int]]
    weight: Mapping[str, float] | None = None
    extra: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Book:
    """All claims and votes of a run, addressable by name and as arrays.

    Args:
        items: Ids of the items, in run order.
        targets: Models that are scored.
        evidence: Models, or the reference, that vote.
        subjects: Answers and claims of every target.
        votes: What the judge said.
        own_support: Support of a model's own claim by itself when it has no samples to be checked against.
        panel: Models that judge each other about an item; 0 is everybody.
        seed: Of the deal.
    """

    items: tuple[str, ...]
    targets: tuple[str, ...]
    evidence: tuple[str, ...]
    subjects: Mapping[str, Subject]
    votes: Votes
    own_support: float = 1.0
    panel: int = 0
    seed: int = 0

    def support(self, item: str, target: str, evidence: str) -> list[float] | None:
        """Mean support of each claim over the evidence model's passages; None where nobody voted."""
        passages = self.votes.support.get((item, target, evidence))
        if passages is None:
            return None
        return [sum(column) / len(column) for column in zip(*passages, strict=True)]

    def arrays(self) -> VoteArrays:
        """Inconsistency summed per item."""
        shape = (len(self.items), len(self.targets), len(self.evidence))
        total, count = np.zeros(shape), np.zeros(shape)
        place = {item: index for index, item in enumerate(self.items)}
        column = {name: index for index, name in enumerate(self.evidence)}
        row = {name: index for index, name in enumerate(self.targets)}
        for item, target, evidence in self.votes.support:
            if item not in place or target not in row or evidence not in column:
                continue
            support = self.support(item, target, evidence) or []
            spot = place[item], row[target], column[evidence]
            total[spot], count[spot] = len(support) - sum(support), len(support)
        return VoteArrays(self.targets, self.evidence, total, count)

    def table(self, shared: bool) -> ClaimTable:
        """Claims as rows.

        Args:
            shared: True when equal claims of several models about one item are one row (objects), in each panel that
                judged them; False when every claim is its own (sentences).
        """
        rows: dict[tuple[int, str, int, int], dict[int, float]] = {}
        said: dict[tuple[int, str, int, int], dict[int, float]] = {}
        for t, target in enumerate(self.targets):
            for i, item in enumerate(self.items):
                claims = self.subjects[target].claims.get(item, ())
                supports = self._supports(item, target)
                # Within a panel everybody was asked about everything; across panels nobody was.
                panel = self._panel(item, target) if shared else 0
                for c, claim in enumerate(claims):
                    key = (i, claim.text, -1 - panel, -1) if shared else (i, claim.text, t, c)
                    mentions = rows.setdefault(key, {})
                    mentions[t] = mentions.get(t, 0.0) + 1.0
                    known = said.setdefault(key, {})
                    known.setdefault(t, self.own_support)
                    known.update({model: support[c] for model, support in supports.items()})
        return _as_table(self.targets, len(self.items), rows, said, shared)

    def _panel(self, item: str, target: str) -> int:
        return deal(item, self.targets, self.panel, self.seed)[target] if self.panel else 0

    def _supports(self, item: str, target: str) -> dict[int, list[float]]:
        each = {index: self.support(item, target, name) for index, name in enumerate(self.targets)}
        return {index: support for index, support in each.items() if support is not None}


def _as_table(
    models: tuple[str, ...],
    n_items: int,
    rows: Mapping[tuple[int, str, int, int], Mapping[int, float]],
    said: Mapping[tuple[int, str, int, int], Mapping[int, float]],
    shared: bool,
) -> ClaimTable:
    kinds = tuple(sorted({key[1] for key in rows})) if shared else ()
    number = {name: index for index, name in enumerate(kinds)}
    mentions, support = np.zeros((len(rows), len(models))), np.full((len(rows), len(models)), np.nan)
    for r, (key, made) in enumerate(rows.items()):
        mentions[r, list(made)] = list(made.values())
        support[r, list(said[key])] = list(said[key].values())
    return ClaimTable(
        models=models,
        n_items=n_items,
        item=np.array([key[0] for key in rows], dtype=np.int64),
        kind=np.array([number.get(key[1], -1) for key in rows], dtype=np.int64),
        kinds=kinds,
        mentions=mentions,
        support=support,
    )


def by_votes(book: Book, scheme: Scheme, counts: Int[np.ndarray, "boot item"]) -> Estimate:
    """Weighted inconsistency: `uniform`, `softmax` and `loo`.

    Args:
        book: Claims and votes.
        scheme: Evidence, weights and average.
        counts: How often each item was drawn in each resample.

    Reference: arXiv:2405.13684, section 3.
    """
    arrays = book.arrays()
    trust = weights(arrays, scheme)[0]
    return Estimate(
        score=scores(arrays, scheme),
        boot=resampled_scores(arrays, counts, scheme),
        per_item=item_scores(arrays, scheme),
        claims=_claim_scores(book, trust),
        rank_loo=rank_ranges(arrays, scheme),
        sensitivity=sensitivity(arrays, scheme),
        weight=dict(zip(book.evidence, trust.mean(axis=0).tolist(), strict=True)),
    )


def _claim_scores(book: Book, trust: Float[np.ndarray, "target evidence"]) -> ClaimScores:
    found: ClaimScores = {}
    for t, target in enumerate(book.targets):
        for item, claims in book.subjects[target].claims.items():
            above, below = np.zeros(len(claims)), 0.0
            for e, evidence in enumerate(book.evidence):
                support = book.support(item, target, evidence) if trust[t, e] > 0 else None
                if support is not None:
                    above, below = above + trust[t, e] * (1.0 - np.array(support)), below + trust[t, e]
            found[item, target] = (above / below if below > 0 else np.full(len(claims), np.nan)).tolist()
    return found


def by_latent_truth(
    book: Book, shared: bool, scheme: Scheme, counts: Int[np.ndarray, "boot item"]
) -> Estimate:
    """Expected share of false claims when the truth of every claim is treated as latent (docs/latent-truth.md).

    Args:
        book: Claims and votes.
        shared: Whether equal claims of several models are one claim (objects).
        scheme: The plain weighting shown beside it in the sensitivity table.
        counts: How often each item was drawn in each resample.
    """
    table = book.table(shared)
    result = latent.fit(table)
    per_claim = 1.0 - result.p_true
    made = np.zeros((len(book.items), len(book.targets)))
    false = np.zeros_like(made)
    np.add.at(made, table.item, table.mentions)
    np.add.at(false, table.item, table.mentions * per_claim[:, None])
    arrays = book.arrays()
    without = _without_each(table, np.asarray(result.rate))
    return Estimate(
        score=np.asarray(result.rate),
        boot=latent.bootstrap_rates(table, result, counts),
        per_item=np.divide(false, made, out=np.full(made.shape, np.nan), where=made > 0),
        claims=_row_scores(book, table, per_claim, shared),
        rank_loo=_rank_range([ranks(result.rate), *without.values()]),
        sensitivity=_latent_sensitivity(arrays, scheme, without),
        extra={
            name: {
                "sensitivity": float(result.sensitivity[m]),
                "false_mention": float(result.false_mention[m]),
            }
            for m, name in enumerate(book.targets)
        },
        warnings=_doubts(result, shared),
    )


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


def _row_scores(
    book: Book, table: ClaimTable, per_claim: Float[np.ndarray, "claim"], shared: bool
) -> ClaimScores:
    """Read each answer's claims back from the rows, in the order `Book.table` wrote them."""
    found: ClaimScores = {}
    score: dict[tuple[int, str, int], float] = {}
    if shared:  # a model's row is the one of its panel, which it mentions itself
        for r, m in zip(*np.nonzero(table.mentions), strict=True):
            score[int(table.item[r]), table.kinds[table.kind[r]], int(m)] = float(per_claim[r])
    rows = iter(per_claim.tolist())
    for t, target in enumerate(book.targets):
        for i, item in enumerate(book.items):
            claims = book.subjects[target].claims.get(item, ())
            found[item, target] = [score[i, claim.text, t] if shared else next(rows) for claim in claims]
    return found


def _without_each(table: ClaimTable, rate: Float[np.ndarray, "model"]) -> dict[str, Int[np.ndarray, "model"]]:
    """Ranks when each model in turn falls silent: the others are estimated without it, it keeps its own score."""
    size = len(table.models)
    if size < 3:
        return {}
    found = {}
    for silent, name in enumerate(table.models):
        others = [model for model in range(size) if model != silent]
        without = rate.copy()
        without[others] = latent.fit(table.take(others)).rate
        found[name] = ranks(without)
    return found


def _latent_sensitivity(
    arrays: VoteArrays, scheme: Scheme, without: Mapping[str, Int[np.ndarray, "model"]]
) -> dict[str, dict[str, int]]:
    """Ranks under the plain weightings, and under latent truth without each model."""
    try:
        plain = sensitivity(arrays, replace(scheme, weights="uniform"))
    except BadInput:
        plain = {}  # a model without a single claim has a latent-truth score but no plain one
    shown = {name: dict(row) for name, row in plain.items() if not name.startswith("without ")}
    for silent, row in without.items():
        shown[f"without {silent}"] = dict(zip(arrays.targets, row.tolist(), strict=True))
    return shown


def _rank_range(tables: Sequence[Int[np.ndarray, "model"]]) -> tuple[tuple[int, int], ...] | None:
    if len(tables) < 2:
        return None
    low, high = np.min(tables, axis=0), np.max(tables, axis=0)
    return tuple((int(best), int(worst)) for best, worst in zip(low, high, strict=True))
