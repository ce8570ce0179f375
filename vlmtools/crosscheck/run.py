"""Rank models by how much they hallucinate, with no reference answers."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from vlmtools.crosscheck.budget import Budget, Metered
from vlmtools.crosscheck.checks import check_settings
from vlmtools.crosscheck.collect import ByItem, Draws, Parts, Progress, Tally, collect, silent
from vlmtools.crosscheck.estimate import Book, Estimate, by_latent_truth, by_votes
from vlmtools.crosscheck.judges.base import Claim, Judge
from vlmtools.crosscheck.notes import (
    failure_notes,
    item_notes,
    mixed_inputs,
    shared_items,
    something_stored,
    talking,
)
from vlmtools.crosscheck.rank import ranking
from vlmtools.crosscheck.ranking import Ranking
from vlmtools.crosscheck.rounds import judge_record, parts, rounds
from vlmtools.crosscheck.sources import judge_by_name
from vlmtools.crosscheck.voting import (
    REFERENCE,
    Subject,
    VoteCall,
    Votes,
    read_back,
    subjects,
    vote,
)
from vlmtools.crosscheck.weights import OwnVotes, Scheme
from vlmtools.engine.base import Engine
from vlmtools.responders.recorded import Recorded
from vlmtools.store import Store, call_key
from vlmtools.types import Json, Responder, Sample, by_id

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
            BadInput: Fewer than two models to compare, or settings that do not go together.
            MixedModality: The sources saw different kinds of input.
            BudgetSpent: The budget is used up; everything so far is stored.
        """
        check_settings(self)
        store.append_many("items", [_item(sample) for sample in samples])
        judge = self.judge if isinstance(self.judge, Judge) else judge_by_name(self.judge)
        answered, tallies = self._answers(sources, samples, store, budget, offline, progress, engine)
        something_stored(answered, offline)
        targets, items, notes = self._subjects(judge, answered, samples)
        votes, lost = self._votes(
            judge, sources, targets, by_id(samples), store, budget, offline, progress, engine
        )
        book = self._book(targets, items, votes)
        notes += failure_notes(tallies) + lost
        full = {**self.record(judge, sources, tallies, items), **(record or {})}
        return ranking(
            book,
            self.estimate(book),
            by_id(samples),
            level=self.level,
            n_worst=self.n_worst,
            warnings=notes,
            record=full,
        )

    def vote_calls(
        self, judge: Judge, sources: Sequence[Responder], samples: Sequence[Sample], store: Store
    ) -> list[tuple[str, VoteCall]]:
        """Every vote a run would want, from the stored answers alone; nothing is asked."""
        answered, _ = self._answers(sources, samples, store, None, True, silent, None)
        targets, _, _ = self._subjects(judge, answered, samples)
        asked = rounds(self, judge, sources, targets, by_id(samples), None)
        return [call for _, calls, _ in asked for call in calls(targets)]

    def _subjects(
        self, judge: Judge, answered: Mapping[str, ByItem], samples: Sequence[Sample]
    ) -> tuple[dict[str, Subject], tuple[str, ...], list[str]]:
        """Answers and claims of the compared items, those items, and what is to be said about them."""
        notes = mixed_inputs(answered, self.mixed_modality)
        items = shared_items(answered, samples, least=1 if self.mode in ("self", "ref") else 2)
        notes += item_notes(answered, items)
        compared = {
            model: {item: by_item[item] for item in items if item in by_item}
            for model, by_item in answered.items()
        }
        targets, mute = talking(subjects(compared, self._splitter(judge)))
        return targets, items, notes + mute

    def estimate(self, book: Book) -> Estimate:
        """Scores of a run's targets from its claims and votes."""
        from vlmtools.stats import item_counts

        counts = item_counts(len(book.items), self.n_boot, self.seed)
        if self.weighting == "em":
            return by_latent_truth(book, self.claim_unit == "object", self.scheme, counts)
        return by_votes(book, self.scheme, counts)

    def record(
        self, judge: Judge, sources: Sequence[Responder], tallies: Mapping[str, Tally], items: Sequence[str]
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
            "n_items": len(items),
            "items_sha256": hashlib.sha256(json.dumps(list(items)).encode()).hexdigest(),
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
    ) -> tuple[dict[str, ByItem], dict[str, Tally]]:
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

    def _splitter(self, judge: Judge) -> Callable[[str], tuple[Claim, ...]]:
        if self.claim_unit == "object":
            own = getattr(judge, "split", None)
            if own is None:
                from vlmtools.crosscheck.judges.objects import Objects

                own = Objects().split
            split: Callable[[str], tuple[Claim, ...]] = own
            return split
        from vlmtools.crosscheck.claims import sentences

        return lambda text: sentences(text, min_tokens=self.min_tokens)

    def _votes(
        self,
        judge: Judge,
        sources: Sequence[Responder],
        targets: Mapping[str, Subject],
        samples: Mapping[str, Sample],
        store: Store,
        budget: Budget | None,
        offline: bool,
        progress: Progress,
        engine: Engine | None,
    ) -> tuple[Votes, list[str]]:
        votes, missing, reasons = Votes(), 0, Tally()
        for one, calls_of, stage in rounds(self, judge, sources, targets, samples, budget):
            told = Parts(progress)
            try:
                for part in parts(targets):
                    calls = list(calls_of(part))
                    tally = vote(
                        store, one, calls, stage=stage, progress=told, offline=offline, engine=engine
                    )
                    told.next()
                    for reason, n in tally.failed.items():
                        reasons.failed[reason] = reasons.failed.get(reason, 0) + n
                    missing += read_back(store, calls, votes)
            finally:
                one.close()
                if (behind := getattr(one, "responder", None)) is not None:
                    behind.close()  # one model in memory at a time
        if not missing:
            return votes, []
        why = "; ".join(reasons.failed) or "no reason given"
        return votes, [f"{missing:,} votes are missing ({why}). Run the same line again to ask for them."]

    def _book(self, targets: Mapping[str, Subject], items: tuple[str, ...], votes: Votes) -> Book:
        evidence = (REFERENCE,) if self.mode == "ref" else tuple(targets)
        return Book(items, tuple(targets), evidence, targets, votes, panel=self.panel, seed=self.seed)


def _item(sample: Sample) -> tuple[str, dict[str, Json]]:
    record = {name: value for name, value in asdict(sample).items() if value}
    return call_key("item", record), record
