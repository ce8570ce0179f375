"""A pruner as text: `hiprune:keep=0.33` on the command line."""

from vlmtools import registry
from vlmtools.errors import BadInput
from vlmtools.pruning.base import TokenPruner


def parse_pruner(text: str) -> TokenPruner:
    """A pruner from `name:key=value,key=value`; `keep` is one of the keys and has to be there.

    Args:
        text: What the user typed.

    Raises:
        UnknownName: There is no such pruner.
        BadInput: It has no such setting, the value does not fit, or nothing says how much to keep.
    """
    name, _, values = text.strip().partition(":")
    kind = registry.load("vlmtools.pruning", name, TokenPruner)  # type: ignore[type-abstract]
    settings = registry.settings(kind, values)
    if "keep" not in settings:
        raise BadInput(
            f"--prune {text!r} does not say how much to keep. Write {name}:keep=0.33 for a third of the visual tokens, "
            f"or {name}:keep=192 for 192 tokens of every picture or tile."
        )
    return kind(**settings)
