"""Rank models by how much they hallucinate, with no reference answers."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from vlmtools.crosscheck.asking import Keyed, Stream, listed, vote
from vlmtools.crosscheck.budget import Budget, Metered
from vlmtools.crosscheck.checks import check_items, check_settings
from vlmtools.crosscheck.collect import Draws, Progress, Tally, collect, keep_items, silent
from vlmtools.crosscheck.compared import Compared
from vlmtools.crosscheck.estimate import Estimate, by_latent_truth, by_votes
from vlmtools.crosscheck.judges.base import Judge
from vlmtools.crosscheck.notes import failure_notes, item_notes, mixed_inputs, something_stored, talking
from vlmtools.crosscheck.pages import Pages, Table
from vlmtools.crosscheck.rank import ranking
from vlmtools.crosscheck.ranking import Ranking
from vlmtools.crosscheck.reading import Reading, splitter
from vlmtools.crosscheck.rounds import judge_record, rounds
from vlmtools.crosscheck.sources import judge_by_name
from vlmtools.crosscheck.told import Told
from vlmtools.crosscheck.weights import OwnVotes, Scheme
from vlmtools.engine.base import Engine
from vlmtools.responders.recorded import Recorded
from vlmtools.stats.resample import Resamples
from vlmtools.store import Store
from vlmtools.types import Json, Responder, Sample

PASSES = 8
"""How often all claims are gone through for a ranking, about: for the progress alone."""
Mode = Literal["explicit", "implicit", "self", "ref"]
Weighting = Literal["auto", "em", "uniform", "softmax", "loo"]


@dataclass(frozen=True)
class CrossCheck:
    """How models are ranked; the defaults need no model at all when the answers are recorded.

    Args:
        mode: `explicit`: other models' answers are the evidence. `implicit`: other models look at the item and judge
            each claim. `self`: a model's own samples are. `ref`: a trusted answer is (needs items with `reference`).
        judge: Name of a judge, `name:key=value,…`, or a `Judge`.
        weights: `em` treats the truth of each claim as latent (docs/latent-truth.md); `uniform`, `softmax` and `loo`
            weigh evidence models (see `Scheme`). `auto` is `em` for objects, else `uniform`.
        beta: Temperature of `softmax` and `loo`, above 0.
        average: `micro` pools all claims, `macro` averages items.
        include_self: Whether a model's own samples are part of its evidence, as in the paper. False compares all models
            on equal evidence.
        evidence: Names of the evidence models; empty takes every source.
        panel: Most models that judge each other about an item, dealt anew for every item, so that votes grow with the
            number of models instead of its square (docs/scale.md). 0 is everybody; else from 3, or 2 without `em`.
        unit: What answers are split into; `auto` is what the judge wants.
        min_tokens: Sentences with fewer words are dropped; 0 keeps all, 4 is the image script of the paper.
        draws: Which answers are asked of models and servers.
        n_boot: Bootstrap resamples of the items.
        level: Coverage of the intervals, between 0 and 1.
        seed: Seed of the bootstrap.
        n_worst: How many of the least supported claims the report shows.
        mixed_modality: `refuse` or `mark` a run whose sources saw different kinds of input.

    Reference: arXiv:2405.13684.
    """

    mode: Mode = "explicit"
    judge: str | Judge = "objects"
    weights: Weighting = "auto"
    beta: float = 0.1
    average: Literal["micro", "macro"] = "micro"
    include_self: bool = False
    evidence: tuple[str, ...] = ()
    panel: int = 0
    unit: Literal["auto", "sentence", "object"] = "auto"
    min_tokens: int = 0
    draws: Draws = Draws()
    n_boot: int = 2000
    level: float = 0.95
    seed: int = 0
    n_worst: int = 20
    mixed_modality: Literal["refuse", "mark"] = "refuse"

    @property
    def claim_unit(self) -> str:
        """What answers are really split into."""
        if self.unit != "auto":
            return self.unit
        judge = judge_by_name(self.judge) if isinstance(self.judge, str) else self.judge
        return judge.unit

    @property
    def weighting(self) -> str:
        """The weights really used; `auto` takes latent truth for objects, unless other settings exclude it."""
        if self.weights != "auto":
            return self.weights
        crossed = self.mode in ("explicit", "implicit") and self.average == "micro" and not self.evidence
        return "em" if crossed and self.claim_unit == "object" else "uniform"

    @property
    def scheme(self) -> Scheme:
        """The plain weighting, as `score.py` takes it."""
        own: OwnVotes = "always" if self.mode == "self" or self.include_self else "never"
        names: tuple[str, ...] | None = self.evidence or None
        if self.mode == "self":
            names = ()
        weights: Any = "uniform" if self.weighting == "em" else self.weighting
        return Scheme(weights, self.beta, self.average, own, names)

    def run(
        self,
        sources: Sequence[Responder],
        samples: Sequence[Sample],
        store: Store,
        *,
        budget: Budget | None = None,
        offline: bool = False,
        progress: Progress = silent,
        record: Mapping[str, Json] | None = None,
        engine: Engine | None = None,
    ) -> Ranking:
        """Collect answers, let the judge vote, rank.

        Args:
            sources: Who is ranked; one model is in memory at a time.
            samples: What they are asked.
            store: The run folder: everything is stored as it comes, nothing stored is asked again.
            budget: Limit on model and judge calls.
            offline: Replay what is stored and ask nothing.
            progress: Told how far each stage is.
            record: Joined to the run record.
            engine: Where the calls are made; None is in this process.

        Raises:
            BadInput: Fewer than two models to compare, two items of one id, or settings that do not go together.
            MixedModality: The sources saw different kinds of input.
            BudgetSpent: The budget is used up; everything so far is stored.
        """
        check_settings(self)
        check_items(samples)
        keep_items(store, samples)
        judge = self.judge if isinstance(self.judge, Judge) else judge_by_name(self.judge)
        answered, tallies = self._answers(sources, samples, store, budget, offline, progress, engine)
        something_stored(answered, offline)
        compared, notes = self._compared(judge, answered, samples)
        reading, lost = self._votes(
            judge, sources, compared, samples, store, budget, offline, progress, engine
        )
        n_items = len(compared.items)
        pages = reading.pages(self._table, lambda done: progress("reading the votes", done, n_items))
        pages.told = lambda done: progress("computing scores", done, max(done, PASSES * n_items))
        notes += failure_notes(tallies) + _missing(reading.missing, lost)
        full = {**self.record(judge, sources, tallies, compared), **(record or {})}
        result = ranking(
            reading,
            pages,
            self.estimate(pages),
            level=self.level,
            n_worst=self.n_worst,
            warnings=notes,
            record=full,
        )
        progress("computing scores", PASSES * n_items, PASSES * n_items)
        return result

    def vote_calls(
        self, judge: Judge, sources: Sequence[Responder], samples: Sequence[Sample], store: Store
    ) -> Iterator[Keyed]:
        """Every vote a run would want, from the stored answers alone; nothing is asked."""
        answered, _ = self._answers(sources, samples, store, None, True, silent, None)
        compared, _ = self._compared(judge, answered, samples)
        asked = [calls for _, calls, _ in rounds(self, judge, sources, compared.models, samples, None)]
        for part in compared.parts(self._n_passages):
            yield from listed(asked, part)

    def _compared(
        self, judge: Judge, answered: Mapping[str, Told], samples: Sequence[Sample]
    ) -> tuple[Compared, list[str]]:
        """Answers and claims of the compared items, and what is to be said about them."""
        notes = mixed_inputs(answered, self.mixed_modality)
        least = 1 if self.mode in ("self", "ref") else 2
        split = splitter(judge, self.claim_unit, self.min_tokens)
        compared = Compared(answered, samples, least, split)
        notes += item_notes(compared)
        return compared, notes + talking(compared)

    def estimate(self, pages: Pages) -> Estimate:
        """Scores of a run's targets from its claims and votes."""
        counts = Resamples(pages.n_items, self.n_boot, self.seed)
        if self.weighting == "em":
            return by_latent_truth(pages, self.scheme, counts)
        return by_votes(pages, self.scheme, counts)

    @property
    def _table(self) -> Table:
        if self.weighting != "em":
            return "none"
        return "shared" if self.claim_unit == "object" else "apart"

    @property
    def _n_passages(self) -> int:
        return max(1, self.draws.n_samples)

    def record(
        self, judge: Judge, sources: Sequence[Responder], tallies: Mapping[str, Tally], compared: Compared
    ) -> dict[str, Json]:
        """Everything that reproduces the numbers; holds no times, so a resumed run writes the same file."""
        from importlib.metadata import version

        settings = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "judge"}
        settings["draws"], settings["weights"] = asdict(self.draws), self.weighting
        return {
            "judge": judge.name,
            "unit": self.claim_unit,
            "settings": {
                **settings,
                "evidence": list(self.evidence),
                "judge": judge_record(self, judge, sources),
            },
            "sources": {source.name: dict(source.identity()) for source in sources},
            "n_items": len(compared.items),
            "items_sha256": compared.digest(),
            "failed_calls": {name: dict(tally.failed) for name, tally in tallies.items() if tally.failed},
            "versions": {name: version(name) for name in ("vlmtools", "numpy")},
        }

    def _answers(
        self,
        sources: Sequence[Responder],
        samples: Sequence[Sample],
        store: Store,
        budget: Budget | None,
        offline: bool,
        progress: Progress,
        engine: Engine | None,
    ) -> tuple[dict[str, Told], dict[str, Tally]]:
        answered, tallies = {}, {}
        for source in sources:
            paid = source if budget is None or isinstance(source, Recorded) else Metered(source, budget)
            try:
                answered[source.name], tallies[source.name] = collect(
                    store, paid, samples, self.draws, progress=progress, offline=offline, engine=engine
                )
            finally:
                source.close()
        return answered, tallies

    def _votes(
        self,
        judge: Judge,
        sources: Sequence[Responder],
        compared: Compared,
        samples: Sequence[Sample],
        store: Store,
        budget: Budget | None,
        offline: bool,
        progress: Progress,
        engine: Engine | None,
    ) -> tuple[Reading, Tally]:
        """Ask for every vote; what came of it, and why some did not."""
        asked, lost = list(rounds(self, judge, sources, compared.models, samples, budget)), Tally()
        for one, calls_of, stage in asked:
            try:
                calls = Stream(compared.parts(self._n_passages), len(compared.items), calls_of)
                tally = vote(
                    store, one, calls, stage=stage, progress=progress, offline=offline, engine=engine
                )
                for reason, n in tally.failed.items():
                    lost.failed[reason] = lost.failed.get(reason, 0) + n
            finally:
                one.close()
                if (behind := getattr(one, "responder", None)) is not None:
                    behind.close()  # one model in memory at a time
        every = [calls_of for _, calls_of, _ in asked]
        ref = self.mode == "ref"
        return Reading(compared, every, store, ref, self.panel, self.seed, self._n_passages), lost


def _missing(n: int, lost: Tally) -> list[str]:
    if not n:
        return []
    why = "; ".join(lost.failed) or "no reason given"
    return [f"{n:,} votes are missing ({why}). Run the same line again to ask for them."]
