"""Settings that do not go together are refused before anything is asked."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

from vlmtools.errors import BadInput, UnknownName, suggest
from vlmtools.types import Sample, by_id

if TYPE_CHECKING:
    from vlmtools.crosscheck.run import CrossCheck

_CHOICES = ("mode", "weights", "average", "unit", "mixed_modality")


def check_settings(setting: "CrossCheck") -> None:
    """Refuse settings that do not exist, or that would be accepted and do nothing.

    Args:
        setting: The run's settings.

    Raises:
        UnknownName: A choice that does not exist.
        BadInput: A value out of its range, or settings that exclude each other.
    """
    hints = get_type_hints(type(setting))
    for name in _CHOICES:
        _known(name, getattr(setting, name), get_args(hints[name]))
    if not (setting.beta > 0 and math.isfinite(setting.beta)):
        raise BadInput(f"--beta {setting.beta:g}: expected a finite number above 0; the paper uses 0.1.")
    if setting.mode in ("self", "ref") and setting.weighting != "uniform":
        raise BadInput(
            f"--mode {setting.mode} has one piece of evidence per model, so --weights {setting.weights} means nothing. "
            "Leave --weights out, or use --mode explicit."
        )
    if setting.mode == "implicit" and setting.weighting == "softmax" and not setting.include_self:
        raise BadInput(
            "--mode implicit --weights softmax weighs models by what they say about their own claims. Add --self."
        )
    if setting.weights == "em" and setting.evidence:
        raise BadInput(
            "--weights em learns from what every source says and leaves out, so --evidence means nothing to it. Leave "
            "out --evidence, or use --weights uniform."
        )
    if setting.weights == "em" and setting.average == "macro":
        raise BadInput(
            "--weights em estimates a share of claims, not a mean over items. Leave out --average macro, or use "
            "--weights uniform."
        )
    _check_panel(setting)


def check_items(samples: Sequence[Sample]) -> None:
    """Refuse a list in which two items have one id: votes are looked up by it, so one would speak for the other.

    Args:
        samples: The items.

    Raises:
        BadInput: An id is there twice.
    """
    if len(by_id(samples)) < len(samples):
        twice = Counter(sample.id for sample in samples).most_common(1)[0][0]
        raise BadInput(f"Two items are called {twice!r}. Ids are unique. Leave one out, or rename it.")


def _check_panel(setting: "CrossCheck") -> None:
    if not setting.panel:
        return
    least = 3 if setting.weighting == "em" else 2
    if setting.panel < least:
        raise BadInput(
            f"--panel {setting.panel}: with --weights {setting.weighting} at least {least} models must judge each "
            "other, or nobody can tell who is right. Give a larger panel, or 0 for everybody."
        )
    if setting.mode in ("self", "ref") or setting.evidence:
        raise BadInput(
            "--panel deals the sources into groups that judge each other, which --mode self, --mode ref and --evidence "
            "leave no room for. Leave one out."
        )


def _known(name: str, given: Any, known: tuple[str, ...]) -> None:
    if given not in known:
        raise UnknownName(f"There is no {name.replace('_', ' ')} {given!r}.{suggest(str(given), known)}")
