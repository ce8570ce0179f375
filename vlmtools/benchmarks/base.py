"""What a benchmark is: items with their truth, a pure score of one answer, and metrics that are functions of sums.

One file in `benchmarks/` holds one frozen dataclass deriving from `Benchmark`; its fields are its variants (a split, a
threshold), every one with a default. A benchmark never loads a model, never reads the network, never draws a random
number: `vlmtools.evaluate` asks, stores, resamples and compares.

    samples(data)              items, prompts, truth              reads the published files, or makes the items
    score(sample, said)        one answer → one Row               pure; official rules, traps included
    finish(rows)               all rows → all rows                only where items are scored together (pairs, figures)
    metrics(total)             sums of numbers → values           pure, works on arrays: also run on every resample
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar

from vlmtools.benchmarks._published import Published
from vlmtools.benchmarks._rows import Row, Said, Total, Values, ratio, totals
from vlmtools.errors import BadInput, UnknownName, suggest
from vlmtools.types import Json, Sample

__all__ = [
    "Benchmark",
    "Published",
    "Row",
    "Said",
    "Total",
    "Values",
    "load_benchmark",
    "ratio",
    "score_answers",
    "totals",
]


@dataclass(frozen=True)
class Benchmark(ABC):
    """A hallucination benchmark.

    A subclass is a frozen dataclass with every field defaulted, in a file named like the benchmark. The first line of
    its docstring says what it asks, `Reference: arXiv:…` where it is described. Class attributes state the facts that
    `vlmtools bench show` prints.

    Args:
        protocol: Name of the rule answers are read and counted by, out of `protocols`; empty takes the first, which is
            the official one.

    Raises:
        UnknownName: There is no such protocol.
    """

    protocol: str = field(default="", kw_only=True)

    protocols: ClassVar[Mapping[str, str]] = {"official": "as the authors' program counts"}
    """Name → what it does. The first is the official one; `lenient` (if any) reads what a person would read."""
    reference: ClassVar[str] = ""
    """`arXiv:2305.10355`, or an address, of the description."""
    licence: ClassVar[str] = "unknown"
    """Licence of the questions and labels, and of the media where it differs."""
    get: ClassVar[str] = ""
    """How a user gets the data: where from, which files, how the folder should look. We download nothing."""
    published: ClassVar[Mapping[str, Published]] = {}
    """File name → entries and checksum of the published file; `vlmtools bench prepare` compares local copies."""
    modality: ClassVar[tuple[str, ...]] = ("image",)
    """What every item shows, out of `vlmtools.types.MODALITIES`."""
    judge: ClassVar[str] = ""
    """Which judge the authors used ("GPT-4", …); empty when answers are read by a rule and no judge is needed."""
    notes: ClassVar[tuple[str, ...]] = ()
    """What makes numbers of two papers incomparable: versions, splits, prompts, length limits. One sentence each."""
    checked: ClassVar[str] = ""
    """Against what the scores were checked: numbers of the authors' program on which answers, or only examples worked
    out by hand. One or two sentences, no more than is so."""
    headline: ClassVar[tuple[str, ...]] = ()
    """Metrics shown first and compared by default; empty takes all."""
    lower_is_better: ClassVar[frozenset[str]] = frozenset()
    """Metrics where less is better; of all others more is better, but for those in `neutral`."""
    neutral: ClassVar[frozenset[str]] = frozenset()
    """Metrics that are neither good nor bad: lengths, the share of yes. They are shown and never ranked."""
    units: ClassVar[Mapping[str, str]] = {}
    """Metric → unit, for those that are no rate in [0, 1] ("words", "points of 6"). Everything else is a rate."""
    max_new_tokens: ClassVar[int] = 64
    """Length limit of an answer unless the user asks for another; part of the record."""
    whole: ClassVar[bool] = True
    """True: every item needs an answer before a number is printed. False: any subset may be scored (captions)."""
    id_fields: ClassVar[tuple[str, ...]] = ("id", "question_id")
    """Usual names of the id in answer files, tried in this order when the user names none."""
    text_fields: ClassVar[tuple[str, ...]] = ("response", "prediction", "output", "text", "answer")
    """Usual names of the answer in answer files, tried in this order."""
    question_field: ClassVar[str] = ""
    """Set where official answer files carry no id and follow the order of the questions: the field of such a file that
    repeats the prompt. Lines are then matched by order, and each must repeat its question."""
    additive: ClassVar[bool] = True
    """False where metrics are no function of sums (a correlation): override `values`, and every resample calls it."""

    def __post_init__(self) -> None:
        """Settle the protocol."""
        if not self.protocol:
            object.__setattr__(self, "protocol", next(iter(self.protocols)))
        if self.protocol not in self.protocols:
            raise UnknownName(
                f"{self.name} has no protocol {self.protocol!r}.{suggest(self.protocol, self.protocols)} "
                f"See: vlmtools bench show {self.name}"
            )

    @property
    def name(self) -> str:
        """File name: its name in tables and on the command line."""
        return type(self).__module__.rpartition(".")[2]

    @property
    def settings(self) -> dict[str, Json]:
        """The fields that make this variant, for the record of a run."""
        return {each.name: getattr(self, each.name) for each in fields(self) if each.name != "protocol"}

    @abstractmethod
    def samples(self, data: Path | None) -> Iterable[Sample]:
        """The items in their official order, with `prompt` as it is sent and unique `id`.

        The truth goes into `reference` (a label) and `extra` (anything else, such as the pair an item belongs to).
        Media are named as the data names them, relative to the data's folder or to the folder the user gives with
        `--images`; nothing is opened here.

        Args:
            data: File or folder with the published data; None when the user gave none. A benchmark that makes its items
                ignores it; one that reads them calls `self.need(data)`.

        Raises:
            BadInput: The data are missing or not of the published layout; name file, line and field.
        """

    @abstractmethod
    def score(self, sample: Sample, said: Said) -> Row:
        """Score one answer. Pure: the same answer always gives the same row, in any order, on any machine.

        Args:
            sample: One of `samples`.
            said: The answer, with the judge's verdicts where the benchmark has a judge.
        """

    def finish(self, rows: Sequence[Row]) -> Sequence[Row]:
        """Fill in numbers that depend on several rows (both questions of a pair right, …); the same rows by default.

        Keep such a number additive: give each of the k rows of a group 1/k of the group's count. A `whole` benchmark
        gets all rows; otherwise a group may be incomplete and must then be left out of its own count.

        Args:
            rows: One per answered item, in the order of `samples`.
        """
        return rows

    @abstractmethod
    def metrics(self, total: Total) -> Mapping[str, Values]:
        """Values from sums. Called once with the sums over all rows, and once with an array of sums per resample.

        Use `ratio` and numpy only (no `if` on a value). Rates lie in [0, 1]. Metrics of a part are called `name/part`.

        Args:
            total: Name in `Row.numbers` → sum; `total["n"]` is the number of rows.
        """

    def values(self, rows: Sequence[Row]) -> Mapping[str, float]:
        """The metrics of some rows, as plain numbers without intervals."""
        return {name: float(value) for name, value in self.metrics(totals(rows)).items()}

    def questions(self, sample: Sample, text: str) -> Sequence[Sample]:
        """What a judge is asked about this answer; nothing by default.

        Each is a `Sample` with the whole prompt (and the picture, where the judge should see it); ids are unique within
        the answer. Replies arrive as `Said.verdicts`.

        Args:
            sample: The item.
            text: The answer.
        """
        return ()

    def unpack(
        self, entry: Mapping[str, Json]
    ) -> Sequence[tuple[str, str | None, Mapping[str, Json]]] | None:
        """(id, answer, other fields) of each answer in one entry of an official answer file.

        For layouts where one entry holds several answers, or where the id is made of several fields. None, the default,
        reads one answer by `id_fields` and `text_fields`, or by those the user names. An answer of None is a question
        the model did not answer.

        Args:
            entry: One line of a JSONL or CSV file, or one object of a JSON list; an object of objects arrives entry by
                entry, with its key under `id`.

        Raises:
            KeyError, TypeError, ValueError: It is not of the layout; the message becomes an error that names file and
                line.
        """
        return None

    def answers_in(self, folder: Path) -> Iterable[tuple[str, str | None, str]] | None:
        """(id, answer, where it stands) of official answers that come as a folder of files; None for any other folder.

        Args:
            folder: What the user gave.

        Raises:
            BadInput: A file is not of the layout; names file and line.
        """
        return None

    def known_as(self, id: str) -> str:
        """The item's id for an id as answer files spell it (a file name for a number, …); unchanged by default."""
        return id

    def controls(
        self, samples: Mapping[str, Sample], rows: Sequence[Row], baseline: Sequence[Row]
    ) -> Mapping[str, Json]:
        """Numbers that protect from misreading, besides the metrics; nothing by default.

        Args:
            samples: The items by id.
            rows: What was scored.
            baseline: Rows of the answers given with `--baseline`, on the same items; empty without.
        """
        return {}

    def warnings(self, rows: Sequence[Row]) -> Sequence[str]:
        """Sentences a reader must see beside these numbers (a known split, an undefined metric); none by default."""
        return ()

    def need(self, data: Path | None) -> Path:
        """The data's path, or an error that says how to get them.

        Raises:
            BadInput: None was given, or it does not exist.
        """
        if data is not None and data.exists():
            return data
        given = "needs its data, and none were given" if data is None else f"finds nothing at {str(data)!r}"
        raise BadInput(
            f"{self.name} {given}. {self.get or 'See its reference.'} Then name the file or folder with "
            f"--data (or --truth). More: vlmtools bench show {self.name}"
        )

    def find(self, data: Path | None, *names: str) -> Path:
        """The first of several files that the data's folder has, plain or with `.gz`; `data` itself when it is a file.

        Args:
            data: What the user gave.
            names: Names below the folder, without `.gz`; patterns such as `*random*.json` too.

        Raises:
            BadInput: None of them is there.
        """
        place = self.need(data)
        if place.is_file():
            return place
        for name in names:
            found = sorted([*place.glob(name), *place.glob(f"{name}.gz")])
            if found:
                return found[0]
        there = ", ".join(sorted(path.name for path in place.iterdir())[:12]) or "nothing"
        raise BadInput(
            f"{self.name} looks for {' or '.join(names)} (also .gz) in {str(place)!r}. There is: {there}. {self.get}"
        )


def score_answers(
    benchmark: Benchmark, samples: Mapping[str, Sample], said: Mapping[str, Said]
) -> tuple[Row, ...]:
    """Score every answered item, in the order of the items.

    Args:
        benchmark: How.
        samples: The items by id.
        said: Answers by id; items without one are left out.
    """
    rows = [benchmark.score(sample, said[id]) for id, sample in samples.items() if id in said]
    return tuple(benchmark.finish(rows))


def load_benchmark(spec: str, **settings: Any) -> Benchmark:
    """A benchmark from `name` or `name:key=value,key=value`.

    Args:
        spec: What the user typed after `--bench`.
        settings: Fields set by other options (`protocol`); None leaves a default.

    Raises:
        UnknownName: No such benchmark, or no such protocol.
        BadInput: No such field, or a value it cannot take.
    """
    from vlmtools import registry

    name, _, typed = spec.partition(":")
    kind = registry.load("vlmtools.benchmarks", name, Benchmark)  # type: ignore[type-abstract]
    given = {key: value for key, value in settings.items() if value is not None}
    return kind(**(registry.settings(kind, typed) | given))
