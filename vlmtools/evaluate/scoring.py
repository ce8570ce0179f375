"""From answers to an evaluation: pure but for reading the files that are named."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path

from vlmtools.benchmarks._answers_file import AnswersFile, read_answers
from vlmtools.benchmarks._evaluation import N_BOOT, Evaluation, summarise
from vlmtools.benchmarks.base import Benchmark, Row, Said, score_answers
from vlmtools.errors import BadInput, VlmToolsError
from vlmtools.store import file_hash
from vlmtools.types import Json, Sample

Judged = Callable[[Mapping[str, Sample], Mapping[str, Said]], Mapping[str, Said]]
"""Fills in the verdicts of a judge."""


@dataclass(frozen=True)
class Scoring:
    """How answers become numbers; none of it changes what a model is asked.

    Args:
        id_field: Field of the id in files of answers; None tries the usual names.
        text_field: Field of the answer; None tries the usual names.
        partial: Score the answered items although the benchmark wants all of them.
        level: Coverage of the intervals, between 0 and 1.
        n_boot: Resamples of the clusters.
        seed: Of the resampling.
        judged: Asks the judge, for benchmarks that have one; None leaves the verdicts to the files.
    """

    id_field: str | None = None
    text_field: str | None = None
    partial: bool = False
    level: float = 0.95
    n_boot: int = N_BOOT
    seed: int = 0
    judged: Judged | None = field(default=None, compare=False)


def items(benchmark: Benchmark, data: Path | None) -> dict[str, Sample]:
    """The benchmark's items by id.

    Args:
        benchmark: Whose.
        data: File or folder with its data; None for benchmarks that make their items.

    Raises:
        BadInput: There are none, or two have the same id.
    """
    found: dict[str, Sample] = {}
    for sample in _read_samples(benchmark, data):
        if sample.id in found:
            raise BadInput(
                f"{benchmark.name}: two items of {str(data)!r} are called {sample.id!r}. Give one file of its data."
            )
        found[sample.id] = sample
    if not found:
        raise BadInput(
            f"{benchmark.name}: {str(data)!r} has no items. See: vlmtools bench show {benchmark.name}"
        )
    return found


def _read_samples(benchmark: Benchmark, data: Path | None) -> Iterator[Sample]:
    """The items; whatever is wrong with the data becomes an error that names them."""
    try:
        yield from benchmark.samples(data)
    except VlmToolsError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
        what = f"has no field {error}" if isinstance(error, KeyError) else str(error)
        raise BadInput(
            f"{benchmark.name}: {str(data)!r} is not of the published layout ({what}). {benchmark.get} More: vlmtools "
            f"bench show {benchmark.name}"
        ) from error


def score_file(
    path: Path,
    benchmark: Benchmark,
    data: Path | None,
    *,
    baseline: Path | None = None,
    limit: int | None = None,
    setting: Scoring | None = None,
    record: Mapping[str, Json] | None = None,
) -> Evaluation:
    """Score a file of answers.

    Args:
        path: The answers.
        benchmark: What they answer.
        data: The benchmark's data.
        baseline: Answers of a baseline to the same items, for the benchmark's controls.
        limit: Score the first so many items only; None scores all.
        setting: How.
        record: Joined to the record.

    Raises:
        BadInput: A file cannot be read, an answer belongs to no item, or items lack answers.
    """
    setting = setting or Scoring()
    every = items(benchmark, data)
    samples = dict(list(every.items())[:limit])
    read = _only(samples, read_answers(path, benchmark, every, setting.id_field, setting.text_field))
    before = () if baseline is None else _of_baseline(baseline, benchmark, every, setting)
    of_answers = {"file": path.name, "sha256": file_hash(path)} if path.is_file() else {"folder": path.name}
    of_baseline = {"baseline": {"file": baseline.name}} if baseline is not None else {}
    return evaluation(
        benchmark, samples, read, setting, before, {"answers": of_answers, **of_baseline, **(record or {})}
    )


def evaluation(
    benchmark: Benchmark,
    samples: Mapping[str, Sample],
    read: AnswersFile,
    setting: Scoring,
    baseline: Sequence[Row] = (),
    record: Mapping[str, Json] | None = None,
) -> Evaluation:
    """Score answers that are in memory.

    Args:
        benchmark: How.
        samples: The items by id.
        read: The answers.
        setting: Intervals, and whether items may lack answers.
        baseline: Rows of a baseline, for the controls.
        record: Joined to the record.

    Raises:
        BadInput: Items lack answers and the benchmark wants all, or there is nothing to score.
    """
    _check_whole(benchmark, samples, read, setting)
    said = setting.judged(samples, read.said) if setting.judged is not None else read.said
    rows = _rows(benchmark, samples, said)
    metrics = summarise(benchmark, rows, setting.level, setting.n_boot, setting.seed)
    warned = [*read.notes, *_lacking(read, benchmark, samples), *benchmark.warnings(rows)]
    full = {
        **_record(benchmark, samples, rows, setting),
        "controls": dict(benchmark.controls(samples, rows, baseline)),
        **(record or {}),
    }
    full["warnings"] = [*warned, *full.get("warnings", [])]
    unparsed = sum(row.parsed is None for row in rows)
    return Evaluation(benchmark.name, benchmark.protocol, metrics, len(rows), unparsed, full, rows)


def _only(samples: Mapping[str, Sample], read: AnswersFile) -> AnswersFile:
    return AnswersFile(
        {id: one for id, one in read.said.items() if id in samples},
        tuple(id for id in read.silent if id in samples),
        tuple(id for id in read.missing if id in samples),
        read.notes,
    )


def _of_baseline(
    path: Path, benchmark: Benchmark, samples: Mapping[str, Sample], setting: Scoring
) -> tuple[Row, ...]:
    read = read_answers(path, benchmark, samples, setting.id_field, setting.text_field)
    return _rows(benchmark, samples, read.said)


def _rows(benchmark: Benchmark, samples: Mapping[str, Sample], said: Mapping[str, Said]) -> tuple[Row, ...]:
    return tuple(_told(row, samples[row.id]) for row in score_answers(benchmark, samples, said))


def _told(row: Row, sample: Sample) -> Row:
    """With what was asked, so that a dump can be read alone."""
    about: dict[str, Json] = {"prompt": sample.prompt, **dict(sample.media)}
    return replace(row, detail={**{name: value for name, value in about.items() if value}, **row.detail})


def _check_whole(
    benchmark: Benchmark, samples: Mapping[str, Sample], read: AnswersFile, setting: Scoring
) -> None:
    lacking = [*read.missing, *read.silent]
    if lacking and benchmark.whole and not setting.partial:
        raise BadInput(
            f"{len(lacking):,} of {len(samples):,} items of {benchmark.name} have no answer, first of them "
            f"{lacking[0]!r}. A number over some of the items is not comparable with published ones. Complete the "
            f"answers, narrow the data (vlmtools bench show {benchmark.name}), or add --partial to score "
            "those there are."
        )


def _lacking(read: AnswersFile, benchmark: Benchmark, samples: Mapping[str, Sample]) -> Iterable[str]:
    if read.missing and benchmark.whole:
        yield f"Only {len(read.said):,} of {len(samples):,} items are scored; the others have no answer."
    if read.silent:
        yield f"{len(read.silent):,} items are left out because the answer is null."


def _record(
    benchmark: Benchmark, samples: Mapping[str, Sample], rows: Sequence[Row], setting: Scoring
) -> dict[str, Json]:
    """Everything that decides the numbers but the answers; holds no times, so equal runs write equal files."""
    truth = [
        [row.id, samples[row.id].prompt, samples[row.id].reference, samples[row.id].extra] for row in rows
    ]
    return {
        "benchmark": {
            "name": benchmark.name,
            "settings": benchmark.settings,
            "protocol": benchmark.protocol,
            "rule": benchmark.protocols[benchmark.protocol],
            "reference": benchmark.reference,
        },
        "items": {"n": len(rows), "of": len(samples), "ids_sha256": items_digest([row.id for row in rows]),
                  "truth_sha256": items_digest(truth)},
        "interval": {"level": setting.level, "resamples": setting.n_boot, "seed": setting.seed,
                     "clusters": len({row.cluster or row.id for row in rows})},
        "versions": {name: version(name) for name in ("vlmtools", "numpy")},
    }  # fmt: skip


def items_digest(value: Json) -> str:
    """SHA-256 of ids or items, for saying in a paper which ones were used.

    Args:
        value: Anything JSON can hold.
    """
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
