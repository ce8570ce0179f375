"""Run every judge over the same answers, and stop adding items once the ranks separate."""

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace

from vlmtools.crosscheck.budget import Budget
from vlmtools.crosscheck.collect import Progress, silent
from vlmtools.crosscheck.judges.base import Judge
from vlmtools.crosscheck.ranking import Ranking
from vlmtools.crosscheck.run import CrossCheck
from vlmtools.engine.base import Engine
from vlmtools.store import Store
from vlmtools.types import Json, Responder, Sample

FIRST_LOOK = 50
"""Items before the first look of an early-stopping run; each look doubles them."""


def looks(n_items: int, first: int = FIRST_LOOK) -> list[int]:
    """Numbers of items at which an early-stopping run looks: doubling, so each model is loaded only a few times.

    Args:
        n_items: All there are.
        first: Items at the first look.
    """
    sizes = []
    while first < n_items:
        sizes.append(first)
        first *= 2
    return [*sizes, n_items]


def separated(ranking: Ranking) -> bool:
    """Whether every model stands in a tie group of its own."""
    return len({row.tie_group for row in ranking.rows}) == len(ranking.rows)


def spelled(judge: str | Judge) -> str:
    """A judge as one would type it: its name and the settings that are not the defaults."""
    if isinstance(judge, str):
        return judge
    changed = [
        f"{field.name}={getattr(judge, field.name)}"
        for field in fields(judge)  # type: ignore[arg-type]
        if field.name != "responder" and getattr(judge, field.name) != field.default
    ]
    return ":".join(filter(None, (judge.name, ",".join(changed))))


def run_all(
    settings: Sequence[CrossCheck],
    sources: Sequence[Responder],
    samples: Sequence[Sample],
    store: Store,
    *,
    early_stop: bool = False,
    budget: Budget | None = None,
    offline: bool = False,
    progress: Progress = silent,
    record: Mapping[str, Json] | None = None,
    engine: Engine | None = None,
) -> Ranking:
    """Rank with the first setting; the others (other judges) add their ranks to the sensitivity table.

    With `early_stop` the items are taken in the given order and looked at when 50, 100, 200, … are done. Looking k
    times at the same level would find differences by chance, so every look uses 1 - (1 - level) / k, k being the
    number of looks planned (Bonferroni): the stated level holds for the whole run.

    Args:
        settings: One per judge, at least one.
        sources: Who is ranked.
        samples: The items; for early stopping in random order, if their order means anything.
        store: The run folder.
        early_stop: Whether to stop at a look where all ranks are separable.
        budget: Limit on calls.
        offline: Ask nothing.
        progress: Told how far each stage is.
        record: Joined to the run record.
        engine: Where the calls are made; None is in this process.
    """
    sizes = looks(len(samples)) if early_stop else [len(samples)]
    first = settings[0]
    strict = replace(first, level=1 - (1 - first.level) / len(sizes))
    size = sizes[0]
    for size in sizes:
        note = {"early_stop": {"looks": sizes, "stopped_at": size}} if early_stop else {}
        result = strict.run(
            sources,
            samples[:size],
            store,
            budget=budget,
            offline=offline,
            progress=progress,
            record={**(record or {}), **note},
            engine=engine,
        )
        if separated(result):
            break
    others = {
        f"judge={spelled(other.judge)}": {
            row.name: row.rank
            for row in other.run(
                sources,
                samples[:size],
                store,
                budget=budget,
                offline=offline,
                progress=progress,
                engine=engine,
            ).rows
        }
        for other in settings[1:]
    }
    return replace(result, sensitivity={**result.sensitivity, **others})
