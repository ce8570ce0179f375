"""What a reader must know before quoting a ranking: who saw what, who answered what, what failed."""

from collections.abc import Mapping, Sequence

from vlmtools.crosscheck.collect import Tally
from vlmtools.crosscheck.compared import Compared
from vlmtools.crosscheck.told import Told
from vlmtools.errors import BadInput, MixedModality, NotStored

Answered = Mapping[str, Told]


def mixed_inputs(answered: Answered, policy: str) -> list[str]:
    """Rows that saw different inputs must not be ranked against each other unnoticed.

    Args:
        answered: Answers by model; a model whose inputs are unknown is not compared.
        policy: `refuse` or `mark`.

    Raises:
        MixedModality: The inputs differ and the policy is `refuse`.
    """
    seen = {model: by_item.kinds for model, by_item in answered.items()}
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


def talking(compared: Compared) -> list[str]:
    """Leave out models that do not claim anything, with a note on them: no claims, no share of false ones.

    Args:
        compared: What the models said; afterwards without them.

    Raises:
        BadInput: Fewer than two models claim anything, although more were asked.
    """
    found = [model for model in compared.models if compared.claims_anything(model)]
    mute = [model for model in compared.models if model not in found]
    if mute and len(found) < 2:
        raise BadInput(
            f"No claims were found in the answers of {', '.join(mute)}, so there is nothing to compare. The "
            "judge may not suit these answers: try --unit sentence with --judge ngram, or another --text-field."
        )
    compared.only(found)
    return [f"{model} makes no claims and is not ranked." for model in mute]


FEW_ITEMS = 10
"""Items below which an interval says little."""


def item_notes(compared: Compared) -> list[str]:
    """Say whose answers cover only part of the compared items, and who is hardly compared with whom.

    Args:
        compared: What the models said.
    """
    n_items = len(compared.items)
    partly = []
    for model, by_item in compared.answered.items():
        mine = compared.coverage.answered(model)
        if mine < n_items:
            partly.append(
                f"{model} {mine:,}" + (f" (of its {len(by_item):,})" if len(by_item) > mine else "")
            )
    notes = []
    if partly:
        notes.append(
            f"The models answered different parts of the {n_items:,} compared items: {_some(partly, 3)}. Each is "
            "scored on what it answered; the intervals say what so few items can tell."
        )
    apart = [f"{a} and {b} ({n})" for a, b, n in compared.coverage.apart(min(FEW_ITEMS, n_items))]
    if apart:
        notes.append(f"Hardly compared with each other, for want of shared items: {_some(apart, 3)}.")
    if n_items < FEW_ITEMS:
        notes.append(f"Only {n_items} items: no interval made from so few can be relied on.")
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
