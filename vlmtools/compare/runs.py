"""Evaluations read back, and whether two of them can be compared at all."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from vlmtools.benchmarks._evaluation import Evaluation
from vlmtools.benchmarks.base import Row
from vlmtools.errors import BadInput
from vlmtools.types import Json

_TOLD_APART = ("controls", "warnings", "command", "answers", "baseline")
"""Parts of a record that are results or names, not settings."""


@dataclass(frozen=True)
class Loaded:
    """An evaluation and where it came from.

    Args:
        name: Shown in tables; unique among those compared.
        path: The folder or file.
        found: The evaluation, with its rows.
    """

    name: str = ""
    path: Path = Path()
    found: Evaluation = field(default_factory=Evaluation)


def load_run(path: Path) -> Loaded:
    """Read a run folder of `vlmtools eval`, a folder of `vlmtools score --out`, or an evaluation.json.

    Args:
        path: The folder or the file.

    Raises:
        BadInput: There is no evaluation, or it has no rows.
    """
    file = path / "evaluation.json" if path.is_dir() else path
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInput(
            f"{str(file)!r} cannot be read ({error.strerror or error}). Give folders that `vlmtools eval` or `vlmtools "
            "score --out FOLDER` wrote."
        ) from error
    except (ValueError, RecursionError) as error:
        raise BadInput(
            f"{str(file)!r} is not JSON ({error}). Run `vlmtools eval` or `score` again."
        ) from error
    found = Evaluation.from_json(data, repr(str(file)))
    if not found.rows:
        raise BadInput(f"{str(file)!r} has no rows to compare item by item. Write it again with --out.")
    name = path.name if path.is_dir() else path.parent.name
    return Loaded(name or str(path), path, found)


def distinct(runs: Sequence[Loaded]) -> list[Loaded]:
    """The same runs, names made unique by their folders."""
    names = [run.name for run in runs]
    return [replace(run, name=run.name if names.count(run.name) == 1 else str(run.path)) for run in runs]


def settings_that_differ(runs: Sequence[Loaded]) -> dict[str, dict[str, str]]:
    """Setting → run → value, for every setting that is not the same in all runs.

    Args:
        runs: At least two.
    """
    each = {run.name: dict(_flat("", _settings(run.found.record))) for run in runs}
    names = dict.fromkeys(name for flat in each.values() for name in flat)
    return {
        name: {run: flat.get(name, "not set") for run, flat in each.items()}
        for name in names
        if len({flat.get(name) for flat in each.values()}) > 1
    }


def shared_rows(a: Loaded, b: Loaded, allow_partial: bool) -> tuple[list[Row], list[Row], str]:
    """The rows of the items both runs have, in the same order, and a sentence about those only one has.

    Args:
        a: One run.
        b: The other.
        allow_partial: Compare on shared items although the runs answered different ones.

    Raises:
        BadInput: Other rule, other questions, other truth, or other items.
    """
    _same_rule(a, b)
    ours, theirs = {row.id: row for row in a.found.rows}, {row.id: row for row in b.found.rows}
    both = sorted(ours.keys() & theirs.keys())
    only_a, only_b = len(ours) - len(both), len(theirs) - len(both)
    if not both:
        raise BadInput(
            f"{a.name!r} and {b.name!r} share no item. Compare runs over the same items of {a.found.bench}."
        )
    if (only_a or only_b) and not allow_partial:
        raise BadInput(
            f"{a.name!r} and {b.name!r} answered different items: {len(both):,} are shared, {only_a:,} are only in "
            f"the first and {only_b:,} only in the second. Paired tests need the same items. Complete the runs, or "
            "add --shared to compare on those both have."
        )
    other = next((id for id in both if _question(ours[id]) != _question(theirs[id])), None)
    if other is not None:
        raise BadInput(
            f"The item {other!r} is not the same in both: {_question(ours[other])} in {a.name!r}, "
            f"{_question(theirs[other])} in {b.name!r}. Score both with the same data and the same prompt."
        )
    note = f"{only_a + only_b:,} items that only one run has are left out." if only_a or only_b else ""
    return [ours[id] for id in both], [theirs[id] for id in both], note


def _same_rule(a: Loaded, b: Loaded) -> None:
    mine, other = _kind(a), _kind(b)
    if mine != other:
        raise BadInput(
            f"{a.name!r} was scored as {mine}, {b.name!r} as {other}: numbers by different rules are not compared. "
            "Score the answers of one again with the other's --bench and --protocol (vlmtools score RUN …): no "
            "model is asked."
        )


def _kind(run: Loaded) -> str:
    variant = dict(run.found.record.get("benchmark", {}).get("settings", {}))
    told = ",".join(f"{name}={value}" for name, value in variant.items() if name != "prompt")
    return f"{run.found.bench}{f' ({told})' if told else ''} by the rule {run.found.protocol}"


def _question(row: Row) -> dict[str, Json]:
    return {"truth": row.label, "prompt": row.detail.get("prompt", "")}


def _settings(record: Mapping[str, Json]) -> dict[str, Json]:
    return {name: value for name, value in record.items() if name not in _TOLD_APART}


def _flat(name: str, value: Json) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _flat(f"{name}.{key}" if name else str(key), inner)
    else:
        yield name, json.dumps(value, ensure_ascii=False, sort_keys=True)
