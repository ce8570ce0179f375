"""What a responder must know about the patches on its model: how to attach them, and what they are called in keys."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, Protocol

from vlmtools.errors import BadInput
from vlmtools.types import Json


class Removable(Protocol):
    """A patch that is on."""

    def remove(self) -> object:
        """Take it off."""


class Attachable(Protocol):
    """A patch: a frozen dataclass whose fields are its settings."""

    @property
    def name(self) -> str:
        """The name on the command line."""

    def attach(self, target: Any) -> Removable:
        """Switch it on.

        Args:
            target: A loaded model.
        """


def attach_all(patches: Sequence[Attachable], target: Any) -> ExitStack:
    """Attach in order; when one cannot be attached, the earlier ones come off again.

    Args:
        patches: In order.
        target: A loaded model.

    Returns:
        What takes them all off again, the last one first.
    """
    with ExitStack() as stack:
        for patch in patches:
            stack.callback(patch.attach(target).remove)
        return stack.pop_all()


def identity_of(patch: Attachable) -> dict[str, Json]:
    """The patch's name with all its settings, for the key of an answer.

    Args:
        patch: The patch.

    Raises:
        BadInput: A setting is a function, of which nobody can tell later what it did.
    """
    return {"name": patch.name, **{key: _plain(value, patch, key) for key, value, _ in _settings(patch)}}


def label_of(patch: Attachable) -> str:
    """A short name for tables: the patch, and the settings that are not its default.

    Args:
        patch: The patch.
    """
    changed = [f"{key}={_short(value)}" for key, value, default in _settings(patch) if value != default]
    return f"{patch.name}:{','.join(changed)}" if changed else patch.name


def _settings(patch: Any) -> Iterator[tuple[str, Any, Any]]:
    """(name, value, default) of every field."""
    for field in dataclasses.fields(patch):
        if field.init:
            made = field.default_factory
            default = field.default if made is dataclasses.MISSING else made()
            yield field.name, getattr(patch, field.name), default


def _plain(value: Any, patch: Attachable, key: str) -> Json:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping):
        return {str(inner): _plain(one, patch, key) for inner, one in value.items()}
    if isinstance(value, Sequence | set | frozenset):
        listed = value if isinstance(value, Sequence) else sorted(value)
        return [_plain(one, patch, key) for one in listed]
    raise BadInput(
        f"{patch.name}: {key} is a {type(value).__name__}, and stored answers could not say what it did. A responder "
        "takes patches whose settings are numbers, text, lists and tables. Attach this one to a loaded model instead."
    )


def _short(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"{len(value)} given"
    if isinstance(value, list | tuple | set | frozenset):
        return f"{len(value)} given"
    return f"{value:g}" if isinstance(value, float) else str(value)
