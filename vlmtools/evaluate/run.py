"""Ask a model a benchmark's questions and score what it says; a killed run goes on where it stopped."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from vlmtools.benchmarks._answers_file import AnswersFile, read_answers
from vlmtools.benchmarks._evaluation import Evaluation
from vlmtools.benchmarks.base import Benchmark, Row, Said, score_answers
from vlmtools.crosscheck.budget import Budget, Metered
from vlmtools.crosscheck.collect import Draws, Progress, Tally, collect, keep_items, silent
from vlmtools.crosscheck.told import ByItem
from vlmtools.engine.base import Engine
from vlmtools.errors import BadInput
from vlmtools.evaluate.controls import probed
from vlmtools.evaluate.media import check_found, located
from vlmtools.evaluate.merging import merge
from vlmtools.evaluate.scoring import Scoring, evaluation, items
from vlmtools.evaluate.used import shown, tokens
from vlmtools.store import Store, call_key
from vlmtools.types import Decoding, Json, Responder, Sample, by_id

RUNS = Path("runs")
"""Where runs go that were given no folder."""


@dataclass(frozen=True)
class Asking:
    """What a model is asked and how.

    Args:
        limit: The first so many items; None asks all.
        media: Folder with the pictures, videos or sounds.
        max_new_tokens: Length limit of an answer; None takes the benchmark's.
        temperature: 0 is greedy, as almost every benchmark wants it.
        top_p: Of random draws, in (0, 1].
        seed: Of random draws.
        partial: Go on although media are missing or calls fail.
        offline: Replay what is stored and ask nothing.
        n_probes: Items asked beforehand with the picture blanked and swapped, and one by one; 0 leaves it out.
    """

    limit: int | None = None
    media: Path | None = None
    max_new_tokens: int | None = None
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    partial: bool = False
    offline: bool = False
    n_probes: int = 6

    def decoding(self, benchmark: Benchmark) -> Decoding:
        """How answers are drawn."""
        return Decoding(
            self.temperature, self.top_p, self.max_new_tokens or benchmark.max_new_tokens, self.seed
        )


@dataclass(frozen=True)
class Question:
    """Everything that decides the answers but the model.

    Args:
        benchmark: Whose items.
        samples: Those that are asked, with their media found.
        decoding: How answers are drawn.
        n_missing: Items left out because their medium is not here.
        every: All items of the benchmark by id, asked or not.
    """

    benchmark: Benchmark
    samples: tuple[Sample, ...]
    decoding: Decoding
    n_missing: int = 0
    every: Mapping[str, Sample] = field(default_factory=dict)

    @property
    def identity(self) -> dict[str, Json]:
        """What a run folder is known by, but for the model."""
        asked = [[one.id, one.prompt, [list(pair) for pair in one.media]] for one in self.samples]
        return {
            "what": "evaluation",
            "benchmark": self.benchmark.name,
            "settings": self.benchmark.settings,
            "asked_sha256": hashlib.sha256(json.dumps(asked).encode("utf-8", "surrogatepass")).hexdigest(),
            "decoding": asdict(self.decoding),
        }


def question(benchmark: Benchmark, data: Path | None, asking: Asking) -> Question:
    """The items a model will be asked about, with their media found.

    Args:
        benchmark: Whose items.
        data: Its data.
        asking: Which, and how.

    Raises:
        BadInput: The data or the media are not there.
    """
    every = items(benchmark, data)
    found, missing = located(list(every.values())[: asking.limit], asking.media, data)
    check_found(found, missing, asking.media, asking.partial)
    return Question(benchmark, tuple(found), asking.decoding(benchmark), len(missing), every)


def default_folder(asked: Question, responder: Responder) -> Path:
    """The same question to the same model gets the same folder, so the same line resumes."""
    parts = {**asked.identity, "model": dict(responder.identity())}
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()
    return RUNS / f"{asked.benchmark.name}-{responder.name.replace('/', '-')}-{digest[:8]}"


def evaluate_model(
    responder: Responder,
    benchmark: Benchmark,
    data: Path | None,
    *,
    folder: Path | None = None,
    asking: Asking | None = None,
    scoring: Scoring | None = None,
    baseline: Path | None = None,
    budget: Budget | None = None,
    progress: Progress = silent,
    record: Mapping[str, Json] | None = None,
    engine: Engine | None = None,
) -> Evaluation:
    """Ask, store as answers come, score, and write evaluation.json.

    Args:
        responder: Who is asked.
        benchmark: What.
        data: The benchmark's data.
        folder: Run folder; None takes the one that belongs to this question and model.
        asking: Which items, and how answers are drawn.
        scoring: Intervals.
        baseline: Answers of a baseline, for the controls.
        budget: Limit on calls, tokens, time or money.
        progress: Told after every answer.
        record: Joined to the record.
        engine: Where the model is asked; None is in this process.

    Raises:
        BadInput: Data or media are missing, or every call failed.
        StoreMismatch: The folder belongs to another question or model.
        BudgetSpent: The budget is used up; what was answered is kept.
    """
    asking, scoring = asking or Asking(), scoring or Scoring()
    asked = question(benchmark, data, asking)
    with Store(folder or default_folder(asked, responder)) as store:
        run = Run(asked, responder, store, asking, scoring, engine)
        try:
            found = run.go(budget, progress, baseline, record)
        finally:
            responder.close()
        store.write_file("evaluation.json", json.dumps(found.to_json(full=True), indent=1) + "\n")
    return found


@dataclass(frozen=True)
class Run:
    """One model, one benchmark, one folder.

    Args:
        asked: The question.
        responder: Who is asked.
        store: The open run folder.
        asking: Offline or not, and how many probes.
        scoring: Intervals.
        engine: Where the model is asked; None is in this process.
    """

    asked: Question
    responder: Responder
    store: Store
    asking: Asking
    scoring: Scoring
    engine: Engine | None = None

    def go(
        self,
        budget: Budget | None = None,
        progress: Progress = silent,
        baseline: Path | None = None,
        record: Mapping[str, Json] | None = None,
    ) -> Evaluation:
        """Everything that is not stored yet, then the score.

        Args:
            budget: What calls are paid from.
            progress: Told after every answer.
            baseline: Answers of a baseline.
            record: Joined to the record.
        """
        controls = self.controls()
        answered, tally = self._collect(budget, progress)
        samples = by_id(self.asked.samples)
        read = self._read(answered, tally)
        full = {
            "model": {"name": self.responder.name, "identity": dict(self.responder.identity())},
            "decoding": asdict(self.asked.decoding),
            **(record or {}),
            "warnings": [*self._warnings(tally), *controls.get("warnings", [])],
        }
        setting = replace(self.scoring, partial=self.asking.partial or self.scoring.partial)
        found = evaluation(self.asked.benchmark, samples, read, setting, self._before(baseline), full)
        together = {
            **dict(found.record["controls"]),
            "model": controls,
            "tokens": tokens(self.store, answered.values()),
            "shown": shown(answered.values(), len(self.asked.samples)),
        }
        return Evaluation(
            found.bench,
            found.protocol,
            found.metrics,
            found.n,
            found.unparsed,
            {**found.record, "controls": together},
            found.rows,
        )

    def controls(self) -> dict[str, Json]:
        """What the model does with a blank and with a wrong picture; asked once, then read from the folder."""
        self.bind()
        key = call_key(
            "control",
            {"model": dict(self.responder.identity()), "n": self.asking.n_probes, **self.asked.identity},
        )
        stored = self.store.get("controls", key)
        if stored is None and not self.asking.offline and self.asking.n_probes:
            told = self.asked.samples, self.asked.decoding, self.asking.n_probes
            made = probed(self.engine, self.responder, *told)
            if made:
                self.store.append("controls", key, made)
            return made
        return {name: value for name, value in (stored or {}).items() if name != "key"}

    @property
    def identity(self) -> dict[str, Json]:
        """What the folder is about: the question, and who is asked."""
        model = json.loads(json.dumps(dict(self.responder.identity()), default=str))
        return {**self.asked.identity, "model": model}

    def bind(self) -> None:
        """Make the folder this run's, with what its workers have answered so far."""
        said = {"protocol": self.asked.benchmark.protocol, "name": self.responder.name}
        self.store.bind(self.identity, said)
        keep_items(self.store, self.asked.samples)
        merge(self.store, self.identity)

    def _collect(self, budget: Budget | None, progress: Progress) -> tuple[ByItem, Tally]:
        paid = self.responder if budget is None else Metered(self.responder, budget)
        draws = Draws(scored=self.asked.decoding)
        how = {"progress": progress, "offline": self.asking.offline, "engine": self.engine}
        return collect(self.store, paid, self.asked.samples, draws, **how)  # type: ignore[arg-type]

    def _read(self, answered: ByItem, tally: Tally) -> AnswersFile:
        said = {
            one.id: Said(answered[one.id].answers.text) for one in self.asked.samples if one.id in answered
        }
        missing = tuple(one.id for one in self.asked.samples if one.id not in said)
        some_will_do = self.asking.partial or self.scoring.partial or not self.asked.benchmark.whole
        if missing and not (said and some_will_do):
            reasons = "; ".join(f"{why} ({n})" for why, n in tally.failed.items()) or "no reason was given"
            raise BadInput(
                f"{len(missing):,} of {len(self.asked.samples):,} items have no answer: {reasons[:400]}. Every "
                "other answer is kept: run the same line again to ask for them, or add --partial to score without them."
            )
        return AnswersFile(said, (), missing)

    def _before(self, baseline: Path | None) -> tuple[Row, ...]:
        if baseline is None:
            return ()
        names = self.scoring.id_field, self.scoring.text_field
        read = read_answers(baseline, self.asked.benchmark, self.asked.every, *names)
        return score_answers(self.asked.benchmark, by_id(self.asked.samples), read.said)

    def _warnings(self, tally: Tally) -> list[str]:
        told = [f"{n:,} calls failed: {why}" for why, n in tally.failed.items()]
        if self.asked.n_missing:
            told.append(f"{self.asked.n_missing:,} items were left out because their medium is not here.")
        if self.asking.limit is not None:
            told.append(
                f"Only the first {len(self.asked.samples):,} items: not comparable with published numbers."
            )
        return told
