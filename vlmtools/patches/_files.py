"""Patches as text: `vhr:strength=2` on the command line, and TOML files that hold several with all their settings.

    [[patch]]
    name = "vhr"
    strength = 2.0

A file names every setting, so that it means the same after a default has changed. Settings that a hand-written file
leaves out have their default value.
"""

import dataclasses
import json
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_type_hints

from vlmtools import registry
from vlmtools.errors import BadInput, UnknownName, suggest
from vlmtools.patches.base import Patch

PACKAGES = ("vlmtools.patches", "vlmtools.pruning")
"""Where a name is looked for: pruners are patches too."""
_HEAD = (
    "# Patches of vlmtools, attached in this order. Use: vlmtools generate MODEL IMAGE --patch-file FILE\n"
)
_EXAMPLE = 'Write for example:\n\n[[patch]]\nname = "vhr"\nstrength = 2.0'
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_NONE = "none"
"""The key that lists settings whose value is None, where that is not the default; TOML has no None."""


def patch_kind(name: str) -> type[Patch]:
    """The class of a patch or pruner.

    Args:
        name: Its file name; hyphens are read as underscores.

    Raises:
        UnknownName: There is none of that name.
    """
    for package in PACKAGES:
        if name.replace("-", "_") in registry.names(package):
            return registry.load(package, name, Patch)  # type: ignore[type-abstract]
    known = [one for package in PACKAGES for one in registry.names(package)]
    raise UnknownName(f"There is no patch {name!r}.{suggest(name.replace('-', '_'), known)}")


def parse_patch(text: str) -> Patch:
    """One patch from `name` or `name:key=value,key=value`.

    Args:
        text: What the user typed.

    Raises:
        UnknownName: There is no such patch.
        BadInput: It has no such setting, or the value does not fit.
    """
    name, _, values = text.strip().partition(":")
    kind = patch_kind(name)
    return kind(**registry.settings(kind, values))


def parse_patches(texts: Sequence[str]) -> list[Patch]:
    """Several patches, in the order they will be attached.

    Args:
        texts: One of `name` or `name:key=value,key=value` each.

    Raises:
        UnknownName: There is no such patch.
        BadInput: A setting does not exist or does not fit, or a patch is named twice.
    """
    return _unlike([parse_patch(text) for text in texts])


def gather_patches(texts: Sequence[str] = (), files: Sequence[str | Path] = ()) -> list[Patch]:
    """Everything asked for on a command line: `--patch` first, then the files.

    Args:
        texts: As for `parse_patches`.
        files: TOML files.

    Raises:
        UnknownName: There is no such patch.
        BadInput: A text or a file cannot be used, or a patch is named twice.
    """
    named = [parse_patch(text) for text in texts]
    return _unlike([*named, *(one for file in files for one in load_patches(file))])


def load_patches(path: str | Path) -> list[Patch]:
    """Read a patch file.

    Args:
        path: A file as `save_patches` writes it.

    Raises:
        UnknownName: It names a patch that does not exist.
        BadInput: It cannot be read, or has a setting that does not exist or does not fit.
    """
    try:
        text = Path(path).read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or error
        raise BadInput(f"The patch file {str(path)!r} cannot be read ({why}). Correct the path.") from error
    return from_toml(text, str(path))


def save_patches(path: str | Path, patches: Sequence[Patch]) -> None:
    """Write a patch file.

    Args:
        path: The file; one that exists is written over.
        patches: In the order they are attached.

    Raises:
        BadInput: A setting is a function, or the file cannot be written.
    """
    text = to_toml(patches)
    try:
        Path(path).write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        raise BadInput(
            f"The patch file {str(path)!r} cannot be written ({error.strerror}). Choose another path."
        ) from error


def from_toml(text: str, where: str = "The text") -> list[Patch]:
    """Patches from the text of a file.

    Args:
        text: TOML.
        where: The file's name, for messages.

    Raises:
        UnknownName: It names a patch that does not exist.
        BadInput: It is no TOML, has other content, or has a setting that does not exist or does not fit.
    """
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadInput(f"{where} is no TOML: {error}. {_EXAMPLE}") from error
    strange = sorted(set(content) - {"patch"})
    tables = content.get("patch")
    if strange or not isinstance(tables, list) or not all(isinstance(one, dict) for one in tables):
        given = f"{strange[0]!r}" if strange else "no list of tables called 'patch'"
        raise BadInput(f"{where} holds {given}; it holds one table [[patch]] per patch. {_EXAMPLE}")
    return _unlike([_read(table, f"{where}, patch {i}") for i, table in enumerate(tables, 1)])


def to_toml(patches: Sequence[Patch]) -> str:
    """The text of a file that holds these patches.

    Args:
        patches: In the order they are attached.

    Raises:
        BadInput: A setting is a function.
    """
    return _HEAD + "".join(f"\n[[patch]]\n{''.join(_lines(one))}" for one in patches)


def _unlike(patches: list[Patch]) -> list[Patch]:
    names = [one.name for one in patches]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise BadInput(
            f"The patch {twice!r} is named twice, and its effect would be applied twice. Name it once, with all its "
            f"settings: {twice}:key=value,key=value."
        )
    return patches


def _read(table: Mapping[str, Any], where: str) -> Patch:
    name = table.get("name")
    if not isinstance(name, str):
        raise BadInput(f"{where} has no name. {_EXAMPLE}")
    kind = patch_kind(name)
    known = [field.name for field in _settings(kind)]
    nothing = table.get(_NONE, [])
    given = {key: value for key, value in table.items() if key not in ("name", _NONE)}
    given.update(dict.fromkeys(nothing if isinstance(nothing, list) else [nothing]))
    for key in given:
        if key not in known:
            raise BadInput(f"{where}: {kind.__name__} has no setting {key!r}.{suggest(str(key), known)}")
    hints = get_type_hints(kind)
    return kind(**{key: _fitting(hints[key], value, f"{where}: {key}") for key, value in given.items()})


def _fitting(hint: Any, value: Any, where: str) -> Any:
    """The value as the annotation has it: as strict as JSON, where a list may be a tuple and a key a number."""
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(hint).validate_json(json.dumps(value), strict=True)
    except (ValidationError, TypeError) as problem:
        said = problem.errors()[0]["msg"] if isinstance(problem, ValidationError) else str(problem)
        raise BadInput(f"{where} = {value!r} does not fit: {said}.") from problem


def _lines(patch: Patch) -> Iterator[str]:
    yield f"name = {_toml(patch.name, 'name')}\n"
    nothing = []
    for field in _settings(type(patch)):
        value = getattr(patch, field.name)
        if value is not None:
            yield f"{field.name} = {_toml(value, f'{patch.name}: {field.name}')}\n"
        elif field.default is not None:
            nothing.append(field.name)
    if nothing:
        yield f"{_NONE} = {_toml(nothing, _NONE)}\n"


def _settings(kind: type[Patch]) -> list["dataclasses.Field[Any]"]:
    return [field for field in dataclasses.fields(kind) if field.init]  # type: ignore[arg-type]


def _toml(value: Any, where: str) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, Mapping):
        pairs = (f"{_key(key)} = {_toml(inner, where)}" for key, inner in value.items())
        return f"{{{', '.join(pairs)}}}"
    if isinstance(value, Sequence):
        return f"[{', '.join(_toml(inner, where) for inner in value)}]"
    raise BadInput(
        f"{where} is a {type(value).__name__}, which a file cannot hold. It can hold numbers, text, true, false, lists "
        "and tables. Set this one in Python."
    )


def _key(key: Any) -> str:
    text = str(key)
    return text if _BARE.fullmatch(text) else _string(text)


def _string(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
