"""What a reader must know before quoting a ranking: who saw what, who answered what, what failed."""

from collections.abc import Mapping, Sequence

from vlmtools.crosscheck.collect import ByItem, Tally
from vlmtools.errors import BadInput, MixedModality
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


def item_notes(answered: Answered, items: Sequence[str]) -> list[str]:
    """Say whose answers cover only part of the compared items."""
    notes = []
    for model, by_item in answered.items():
        n_shared = sum(item in by_item for item in items)
        if n_shared < len(items):
            notes.append(
                f"{model} answered {n_shared:,} of the {len(items):,} compared items"
                + (f" ({len(by_item):,} answers in all)" if len(by_item) > n_shared else "")
                + "; the others are compared on more. Its interval says what so few items can tell."
            )
    return notes


def failure_notes(tallies: Mapping[str, Tally]) -> list[str]:
    """Say which calls gave no answer, and why."""
    return [
        f"{sum(tally.failed.values()):,} calls to {name} gave no answer ({'; '.join(list(tally.failed)[:3])}). "
        "Run the same line again to ask for them."
        for name, tally in tallies.items()
        if tally.failed
    ]
