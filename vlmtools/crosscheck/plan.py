"""What a run would ask, before anything is sent: calls, tokens, time and money."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from vlmtools.crosscheck.assumed import (
    BYTES_OF_INDEX,
    BYTES_PER_ANSWER,
    BYTES_PER_VOTE,
    CHARS_PER_TOKEN,
    CLAIMS_PER_ANSWER,
    TOKENS_PER_IMAGE,
    TOKENS_PER_S,
    TOKENS_PER_VERDICT,
    answer_length,
    prompt_tokens,
)
from vlmtools.crosscheck.collect import wanted
from vlmtools.crosscheck.judges.base import Judge
from vlmtools.crosscheck.panels import n_pairs
from vlmtools.crosscheck.rounds import pairs
from vlmtools.crosscheck.run import CrossCheck
from vlmtools.crosscheck.sources import find_evidence
from vlmtools.responders.recorded import Recorded
from vlmtools.store import Store
from vlmtools.types import Json, Responder, Sample

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclass(frozen=True)
class Step:
    """One kind of call to one model.

    Args:
        what: What is asked of whom.
        total: Calls in all.
        missing: Calls not stored yet; the ones that would be made.
        tokens_in: Tokens the missing calls would read.
        tokens_out: Tokens they would write.
        n_records: Records the run folder holds in the end.
        n_bytes: What they take on disk, the index included.
    """

    what: str
    total: int
    missing: int
    tokens_in: float = 0.0
    tokens_out: float = 0.0
    n_records: int = 0
    n_bytes: float = 0.0

    def times(self, factor: float) -> "Step":
        """The same for more items of the same kind."""
        return Step(
            self.what,
            round(self.total * factor),
            round(self.missing * factor),
            self.tokens_in * factor,
            self.tokens_out * factor,
            round(self.n_records * factor),
            self.n_bytes * factor,
        )


@dataclass(frozen=True)
class Plan:
    """What a run would do.

    Args:
        steps: Answers first, then votes.
        price: Price of a million tokens each way, when given.
        assumptions: Every number that is not counted but assumed.
    """

    steps: tuple[Step, ...]
    price: tuple[float, float] | None = None
    assumptions: Mapping[str, float] = field(default_factory=dict)

    @property
    def cost(self) -> float | None:
        """Money, in the currency of the price."""
        if self.price is None:
            return None
        read, written = sum(s.tokens_in for s in self.steps), sum(s.tokens_out for s in self.steps)
        return (read * self.price[0] + written * self.price[1]) / 1e6

    @property
    def n_bytes(self) -> float:
        """Size of the run folder in the end."""
        return sum(step.n_bytes for step in self.steps)

    def times(self, factor: float) -> "Plan":
        """The plan for more items of the same kind, found by multiplying: nothing is listed.

        Args:
            factor: Items wanted, divided by the items this plan was made for.
        """
        return replace(self, steps=tuple(step.times(factor) for step in self.steps))

    @property
    def hours(self) -> float:
        """Time for what is written, at the assumed speed: hours of one GPU, however many share the work."""
        return sum(step.tokens_out for step in self.steps) / self.assumptions["tokens_per_s"] / 3600

    def to_json(self) -> dict[str, Json]:
        """Steps, sums and assumptions."""
        return {
            "steps": [asdict(step) for step in self.steps],
            "calls": sum(step.missing for step in self.steps),
            "tokens_in": sum(step.tokens_in for step in self.steps),
            "tokens_out": sum(step.tokens_out for step in self.steps),
            "cost": self.cost,
            "hours": self.hours,
            "bytes": self.n_bytes,
            "assumptions": dict(self.assumptions),
        }

    def table(self) -> "RenderableType":
        """For the terminal."""
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        shown = Table(title="What this run would ask (nothing has been sent)", title_justify="left", box=None)
        for column in ("", "in all", "stored", "to ask", "tokens in", "tokens out"):
            shown.add_column(column, justify="left" if not column else "right")
        for step in self.steps:
            numbers = (
                step.total,
                step.total - step.missing,
                step.missing,
                round(step.tokens_in),
                round(step.tokens_out),
            )
            shown.add_row(step.what, *(f"{number:,}" for number in numbers))
        money = "unknown; add --price IN,OUT" if self.cost is None else f"{self.cost:,.2f}"
        assumed = ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in self.assumptions.items())
        lines = (
            f"\nCost: {money}. Time for the writing: {self.hours:,.1f} h of one GPU. Run folder in the end: "
            f"{_size(self.n_bytes)} in {sum(step.n_records for step in self.steps):,} records."
            f"\nAssumed, not counted: {assumed}."
        )
        return Group(shown, Text(lines))


def make_plan(
    settings: Sequence[CrossCheck],
    sources: Sequence[Responder],
    samples: Sequence[Sample],
    folder: Path,
    price: tuple[float, float] | None = None,
    tokens_per_s: float = TOKENS_PER_S,
) -> Plan:
    """Count what a run would ask; loads no model and sends nothing.

    Args:
        settings: One per judge.
        sources: Who is ranked.
        samples: The items.
        folder: The run folder, whose stored calls are not asked again; it need not exist.
        price: Price of a million tokens each way.
        tokens_per_s: Written by one GPU, above 0.
    """
    store = Store(folder, read_only=True) if (folder / "run.json").is_file() else None
    try:
        per_answer, chars = answer_length(store, sources)
        steps = [
            _answers(setting, source, samples, store, per_answer, chars)
            for setting in settings[:1]
            for source in sources
        ]
        keys = (key for source in sources for key, _ in wanted(source, samples, settings[0].draws))
        answered = store is not None and all(store.has("answers", key) for key in keys)
        for setting in settings:
            counted = _counted_votes(setting, sources, samples, store, chars) if store and answered else None
            steps += [counted] if counted else _votes(setting, sources, samples, chars)
    finally:
        if store is not None:
            store.close()
    assumed = {
        "tokens_per_answer": per_answer,
        "claims_per_answer": CLAIMS_PER_ANSWER,
        "tokens_per_s": tokens_per_s,
    }
    return Plan(
        tuple(steps),
        price,
        {**assumed, "tokens_per_image": TOKENS_PER_IMAGE, "chars_per_token": CHARS_PER_TOKEN},
    )


def _answers(
    setting: CrossCheck,
    source: Responder,
    samples: Sequence[Sample],
    store: Store | None,
    per_answer: float,
    chars: float,
) -> Step:
    n, n_missing, read = 0, 0, 0.0
    for key, request in wanted(source, samples, setting.draws):
        n += 1
        if not isinstance(source, Recorded) and (store is None or not store.has("answers", key)):
            n_missing += 1
            read += prompt_tokens(request.sample)
    size = n * (BYTES_PER_ANSWER + chars + BYTES_OF_INDEX)
    if isinstance(source, Recorded):
        return Step(f"answers of {source.name} (recorded)", n, 0, n_records=n, n_bytes=size)
    return Step(f"answers of {source.name}", n, n_missing, read, n_missing * per_answer, n, size)


def _counted_votes(
    setting: CrossCheck, sources: Sequence[Responder], samples: Sequence[Sample], store: Store, chars: float
) -> Step | None:
    """Once every answer is stored the claims are known: votes are counted, stored ones too."""
    judge = setting.judge
    if not isinstance(judge, Judge) or not (judge.costs or setting.mode == "implicit"):
        return None
    n_asked = total = n_calls = 0
    for key, call in setting.vote_calls(judge, sources, samples, store):
        n_claims = len(call.question.claims)
        n_asked, total = n_asked + 1, total + n_claims
        n_calls += 0 if store.has("votes", key) else n_claims
    per_call = 60.0 + (TOKENS_PER_IMAGE if setting.mode == "implicit" else chars / CHARS_PER_TOKEN)
    written, stored = n_calls * TOKENS_PER_VERDICT, _vote_bytes(setting, n_asked, chars)
    return Step(f"votes by {judge.name}", total, n_calls, n_calls * per_call, written, n_asked, stored)


def _vote_bytes(setting: CrossCheck, n_questions: float, chars: float) -> float:
    """Votes repeat the claims they are about: of sentences the whole answer, of objects some words."""
    claims = chars if setting.claim_unit == "sentence" else 10.0 * CLAIMS_PER_ANSWER
    return n_questions * (BYTES_PER_VOTE + claims + BYTES_OF_INDEX)


def _share(setting: CrossCheck, n_models: int) -> float:
    """Share of the pairs of models that judge each other about an item."""
    return n_pairs(n_models, setting.panel) / n_pairs(n_models, 0) if setting.panel else 1.0


def _votes(
    setting: CrossCheck, sources: Sequence[Responder], samples: Sequence[Sample], chars: float
) -> list[Step]:
    """Calls to judges; how many claims there will be is assumed, so this is an estimate."""
    judge = setting.judge
    names = [source.name for source in sources]
    if setting.mode == "implicit":
        chosen = find_evidence(setting.evidence, names) or tuple(names)
        eyes = [s.name for s in sources if s.name in chosen and not isinstance(s, Recorded)]
        asked = sum(target != eye or setting.include_self for target in names for eye in eyes)
        n_questions = len(samples) * _share(setting, len(names)) * asked
        per_call = TOKENS_PER_IMAGE + 60.0
    else:
        asked = len(names) if setting.mode == "ref" else len(pairs(setting, names))
        n_questions = len(samples) * _share(setting, len(names)) * asked * max(1, setting.draws.n_samples)
        per_call = chars / CHARS_PER_TOKEN + 60.0
    n, size = round(n_questions), _vote_bytes(setting, n_questions, chars)
    if not isinstance(judge, Judge) or not (judge.costs or setting.mode == "implicit"):
        free = f"votes by {getattr(judge, 'name', judge)} (no model is called)"
        return [Step(free, 0, 0, n_records=n, n_bytes=size)]
    calls = round(n_questions * CLAIMS_PER_ANSWER)
    tokens = calls * per_call, calls * TOKENS_PER_VERDICT
    return [Step(f"votes by {judge.name} (estimate)", calls, calls, *tokens, n, size)]


def _size(n_bytes: float) -> str:
    units = ("B", "kB", "MB", "GB", "TB")
    power = min(len(units) - 1, max(0, int(math.log10(max(n_bytes, 1.0)) // 3)))
    return f"{n_bytes / 1000.0**power:,.{min(power, 1)}f} {units[power]}"
