"""What a reader must know before quoting a ranking: who saw what, who answered what, what failed."""

from collections.abc import Mapping, Sequence
from itertools import combinations

from vlmtools.crosscheck.collect import ByItem, Tally
from vlmtools.crosscheck.voting import Subject
from vlmtools.errors import BadInput, MixedModality, NotStored
from vlmtools.types import Sample

Answered = Mapping[str, ByItem]


def mixed_inputs(answered: Answered, policy: str) -> list[str]:
    """Rows that saw different inputs must not be ranked against each other unnoticed.

    Args:
        answered: Answers by model; a model whose inputs are unknown is not compared.
        policy: `refuse` or `mark`.

    Raises:
        MixedModality: The inputs differ and the policy is `refuse`.
    """
    seen = {
        model: {kind for stored in by_item.values() for kind in stored.answers.modality}
        for model, by_item in answered.items()
    }
    known = {model: kinds for model, kinds in seen.items() if kinds}
    if len({frozenset(kinds) for kinds in known.values()}) < 2:
        return []
    listed = "; ".join(f"{model}: {', '.join(sorted(kinds))}" for model, kinds in known.items())
    if policy == "refuse":
        raise MixedModality(
            f"The sources saw different inputs ({listed}), so their scores are not comparable. Rank each group on its "
            "own, or add --mixed-modality mark to rank them together with a warning."
        )
    return [f"The sources saw different inputs ({listed}): their scores are not strictly comparable."]


def shared_items(answered: Answered, samples: Sequence[Sample], least: int) -> tuple[str, ...]:
    """Items that at least `least` models answered, in run order.

    Raises:
        BadInput: There are none, or there is only one model to compare.
    """
    if len(answered) < least:
        only = ", ".join(answered) or "none"
        raise BadInput(
            f"A ranking compares at least two sources; this run has {only}. Add another file, model or server."
        )
    items = tuple(s.id for s in samples if sum(s.id in by_item for by_item in answered.values()) >= least)
    if not items:
        sizes = ", ".join(f"{model}: {len(by_item)}" for model, by_item in answered.items())
        raise BadInput(
            f"No item is answered by {least} of the sources ({sizes} answers). The ids must match between the "
            "files: check --id-field, and that the files are about the same images."
        )
    return items


def something_stored(answered: Answered, offline: bool) -> None:
    """An offline run needs answers of every source.

    Raises:
        NotStored: A source has none.
    """
    empty = [model for model, by_item in answered.items() if not by_item]
    if offline and empty:
        raise NotStored(
            f"The run is offline and nothing is stored of {', '.join(empty)}. Run the same line once without "
            "--offline, or give the --out of the run that has the answers."
        )


def talking(targets: Mapping[str, Subject]) -> tuple[dict[str, Subject], list[str]]:
    """The models that claim anything, and a note on those that do not: no claims, no share of false ones.

    Raises:
        BadInput: Fewer than two models claim anything, although more were asked.
    """
    found = {model: subject for model, subject in targets.items() if any(subject.claims.values())}
    mute = [model for model in targets if model not in found]
    if mute and len(found) < 2:
        raise BadInput(
            f"No claims were found in the answers of {', '.join(mute)}, so there is nothing to compare. The "
            "judge may not suit these answers: try --unit sentence with --judge ngram, or another --text-field."
        )
    return found, [f"{model} makes no claims and is not ranked." for model in mute]


FEW_ITEMS = 10
"""Items below which an interval says little."""


def item_notes(answered: Answered, items: Sequence[str]) -> list[str]:
    """Say whose answers cover only part of the compared items, and who is hardly compared with whom."""
    compared = {model: {item for item in items if item in by_item} for model, by_item in answered.items()}
    partly = [
        f"{model} {len(mine):,}"
        + (f" (of its {len(answered[model]):,})" if len(answered[model]) > len(mine) else "")
        for model, mine in compared.items()
        if len(mine) < len(items)
    ]
    notes = []
    if partly:
        notes.append(
            f"The models answered different parts of the {len(items):,} compared items: {_some(partly, 3)}. Each is "
            "scored on what it answered; the intervals say what so few items can tell."
        )
    apart = [
        f"{a} and {b} ({len(compared[a] & compared[b])})"
        for a, b in combinations(compared, 2)
        if len(compared[a] & compared[b]) < min(FEW_ITEMS, len(items))
    ]
    if apart:
        notes.append(f"Hardly compared with each other, for want of shared items: {_some(apart, 3)}.")
    if len(items) < FEW_ITEMS:
        notes.append(f"Only {len(items)} items: no interval made from so few can be relied on.")
    return notes


def _some(parts: Sequence[str], most: int) -> str:
    rest = f" and {len(parts) - most} more" if len(parts) > most else ""
    return ", ".join(parts[:most]) + rest


def failure_notes(tallies: Mapping[str, Tally]) -> list[str]:
    """Say which calls gave no answer, and why."""
    return [
        f"{sum(tally.failed.values()):,} calls to {name} gave no answer ({'; '.join(list(tally.failed)[:3])}). "
        "Run the same line again to ask for them."
        for name, tally in tallies.items()
        if tally.failed
    ]
