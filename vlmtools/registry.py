"""Find plugins by file name: no decorator, no list to edit, nothing to initialise.

A folder's content is listed without importing it; only the file asked for is imported. Packages outside vlmtools add
names through an entry-point group called like the folder's package (`vlmtools.patches`, …); a name that the folder has
already stays the folder's, so that installing a package never changes what a known name means.
"""

import dataclasses
import importlib
import importlib.machinery
import inspect
import pkgutil
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType
from typing import Any, TypeVar, get_type_hints

from vlmtools.errors import BadInput, UnknownName, suggest

T = TypeVar("T")

KINDS: dict[str, str] = {
    "adapters": "vlmtools.adapters",
    "backbones": "vlmtools.backbones",
    "benchmarks": "vlmtools.benchmarks",
    "families": "vlmtools.families",
    "judges": "vlmtools.crosscheck.judges",
    "patches": "vlmtools.patches",
    "pruners": "vlmtools.pruning",
}
"""What `vlmtools list` can list → the package whose files are the list."""


def names(package: ModuleType | str) -> list[str]:
    """Names available in `package`, without importing any of them.

    Args:
        package: The package, or its dotted name.
    """
    module = importlib.import_module(package) if isinstance(package, str) else package
    return sorted(_inside(module) | set(_outside(module.__name__)))


def load(package: ModuleType | str, name: str, kind: type[T]) -> type[T]:
    """The one subclass of `kind` defined in the file `name` of `package`.

    Args:
        package: The package, or its dotted name.
        name: File name without `.py`; hyphens are read as underscores.
        kind: The base class the plugin derives from.

    Raises:
        UnknownName: No such file, the file does not define exactly one such class, or another package's entry point
            of that name cannot be used.
    """
    module = importlib.import_module(package) if isinstance(package, str) else package
    wanted, outside = name.replace("-", "_"), _outside(module.__name__)
    if wanted in _inside(module):
        return _only_class(importlib.import_module(f"{module.__name__}.{wanted}"), kind)
    if wanted in outside:
        return _from_outside(outside[wanted], kind)
    raise UnknownName(f"{module.__name__} has no {name!r}.{suggest(wanted, names(module))}")


def settings(kind: type[Any], text: str) -> dict[str, Any]:
    """Read `key=value,key=value` into typed values for the fields of a dataclass.

    Args:
        kind: The dataclass; its annotations decide how a value is read.
        text: What the user typed after the plugin's name and a colon; empty for none.

    Raises:
        BadInput: No such field, or a value it cannot take.
    """
    from pydantic import TypeAdapter, ValidationError

    hints = get_type_hints(kind)
    known = [field.name for field in dataclasses.fields(kind) if field.init]
    found: dict[str, Any] = {}
    for part in filter(None, text.split(",")):
        key, equals, value = part.partition("=")
        if not equals or key not in known:
            raise BadInput(
                f"{kind.__name__} has no setting {part!r}.{suggest(key, known)} Write key=value,key=value."
            )
        try:
            found[key] = TypeAdapter(hints[key]).validate_strings(value)
        except ValidationError as problem:
            raise BadInput(f"{kind.__name__}: {key}={value!r}: {problem.errors()[0]['msg']}.") from problem
    return found


def summary(package: ModuleType | str, name: str) -> str:
    """First line of the plugin's module docstring, read from the source without importing it."""
    module = importlib.import_module(package) if isinstance(package, str) else package
    for entry in module.__path__:
        spec = importlib.machinery.PathFinder.find_spec(name, [entry])
        if spec is not None and spec.origin is not None:
            return _first_doc_line(spec.origin)
    outside = _outside(module.__name__)
    return f"from {outside[name].value}" if name in outside else ""


def _first_doc_line(path: str) -> str:
    import ast
    from pathlib import Path

    doc = ast.get_docstring(ast.parse(Path(path).read_text(encoding="utf-8")))
    return doc.splitlines()[0] if doc else ""


def _only_class(module: ModuleType, kind: type[T]) -> type[T]:
    found = [
        thing
        for thing in vars(module).values()
        if inspect.isclass(thing)
        and issubclass(thing, kind)
        and thing.__module__ == module.__name__
        and not thing.__name__.startswith("_")
    ]
    if len(found) != 1:
        listed = ", ".join(cls.__name__ for cls in found) or "none"
        raise UnknownName(
            f"{module.__name__} must define exactly one public {kind.__name__}; it defines {listed}. "
            "Put each into a file of its own."
        )
    return found[0]


def _inside(module: ModuleType) -> set[str]:
    found = {info.name for info in pkgutil.iter_modules(module.__path__) if not info.ispkg}
    return {name for name in found if not name.startswith("_") and name != "base"}


def _from_outside(point: EntryPoint, kind: type[T]) -> type[T]:
    try:
        thing = point.load()
    except (ImportError, AttributeError) as problem:
        raise UnknownName(
            f"The entry point {point.name} = {point.value!r} of another package cannot be loaded: {problem}. "
            "Update or uninstall that package."
        ) from problem
    if not (inspect.isclass(thing) and issubclass(thing, kind)):
        raise UnknownName(
            f"The entry point {point.name} = {point.value!r} of another package gives {thing!r}, "
            f"which is not a {kind.__name__} class. Point it at one."
        )
    return thing


@cache
def _outside(group: str) -> dict[str, EntryPoint]:
    return {point.name.replace("-", "_"): point for point in entry_points(group=group)}
