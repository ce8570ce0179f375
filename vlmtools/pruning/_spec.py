"""A pruner as text: `hiprune:keep=0.33` on the command line."""

from dataclasses import fields
from typing import Any

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
    name, kind, settings = _read(text)
    if "keep" not in settings:
        raise BadInput(
            f"--prune {text!r} does not say how much to keep. Write {name}:keep=0.33 for a third of the visual "
            f"tokens, or {name}:keep=192 for 192 tokens of every picture or tile."
        )
    return kind(**settings)


def parse_method(text: str) -> TokenPruner:
    """A pruner from `name:key=value,…` whose budget is chosen elsewhere: it keeps everything.

    Args:
        text: What the user typed.

    Raises:
        UnknownName: There is no such pruner.
        BadInput: It has no such setting, or `keep` is among them.
    """
    _, kind, settings = _read(text)
    if "keep" in settings:
        raise BadInput(
            f"--prune {text!r} names a budget, and several are compared here. Leave keep out, and give the budgets "
            "with --keep 0.5,0.33,0.11."
        )
    return kind(**settings)


def as_text(pruner: TokenPruner) -> str:
    """The pruner as it would be typed: its name, `keep`, and every setting that is not the default.

    Args:
        pruner: Any.
    """
    given = {field.name: getattr(pruner, field.name) for field in fields(pruner) if field.init}
    plain = {field.name: field.default for field in fields(pruner)}
    said = [f"{name}={value}" for name, value in given.items() if name == "keep" or value != plain[name]]
    return f"{pruner.name}:{','.join(said)}"


def parse_keeps(text: str) -> tuple[float, ...]:
    """Budgets from a list with commas, in the order written.

    Args:
        text: Shares of every view up to 1.0, or whole numbers of tokens.

    Raises:
        BadInput: Something is neither.
    """
    found = []
    for one in text.split(","):
        try:
            keep = float(one)
        except ValueError:
            keep = 0.0
        if not (0 < keep < 1 or (keep > 1 and keep.is_integer())):
            raise BadInput(
                f"--keep {text!r}: {one!r} is neither a share between 0 and 1 nor a number of tokens from 2. Write "
                "for example --keep 0.5,0.33,0.11; the unpruned model is always measured."
            )
        found.append(keep)
    return tuple(dict.fromkeys(found))


def _read(text: str) -> tuple[str, type[TokenPruner], dict[str, Any]]:
    name, _, values = text.strip().partition(":")
    kind: type[TokenPruner] = registry.load("vlmtools.pruning", name, TokenPruner)  # type: ignore[type-abstract]
    return name, kind, registry.settings(kind, values)
