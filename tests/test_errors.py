"""The tree drawn in errors.py is the tree there is, and messages have their parts."""

import builtins
import re

import pytest

from vlmtools import errors
from vlmtools.errors import MissingField, NotInstalled, VlmToolsError, suggest


def _drawn() -> dict[str, tuple[str, set[str]]]:
    """Class → (parent above it in the drawing, built-ins in its brackets)."""
    assert errors.__doc__ is not None
    lines = [line[4:] for line in errors.__doc__.splitlines() if re.match(r"    [V│├└]", line)]
    found: dict[str, tuple[str, set[str]]] = {}
    path: list[str] = []
    for line in lines:
        matched = re.match(r"([│├└─ ]*)(\w+)(?:\s+\((\w+)\))?", line)
        assert matched is not None, line
        depth = len(matched[1]) // 4
        path = [*path[:depth], matched[2]]
        found[matched[2]] = (path[-2] if depth else "Exception", {matched[3]} - {None})
    return found


def _real() -> dict[str, tuple[str, set[str]]]:
    classes = [
        thing for thing in vars(errors).values() if isinstance(thing, type) and issubclass(thing, Exception)
    ]
    found = {}
    for cls in classes:
        parent, *others = cls.__bases__
        found[cls.__name__] = (parent.__name__, {other.__name__ for other in others})
    return found


def test_the_drawn_tree_is_the_real_tree() -> None:
    assert _drawn() == _real()


def test_every_error_is_caught_as_the_root_and_as_a_builtin_other_than_exception() -> None:
    for name in _real():
        cls = getattr(errors, name)
        assert issubclass(cls, VlmToolsError)
        kinds = [base for base in cls.__mro__ if getattr(builtins, base.__name__, None) is base]
        assert cls is VlmToolsError or kinds[0] is not Exception, name


@pytest.mark.parametrize("name", sorted(_real()))
def test_the_message_is_shown_as_it_was_written(name: str) -> None:
    assert str(getattr(errors, name)("row 3 has no 'text'")) == "row 3 has no 'text'"


def test_a_missing_field_can_be_caught_as_key_error() -> None:
    with pytest.raises(KeyError):
        raise MissingField("row 3 has no 'text'")


def test_a_missing_package_names_what_needs_it_and_the_extra() -> None:
    message = str(NotInstalled.extra("av", "video", "Reading clip.mp4"))
    assert message.startswith("Reading clip.mp4 needs the package 'av'")
    assert "pip install 'vlmtools[video]'" in message


def test_suggest_names_the_close_one_and_everything() -> None:
    assert suggest("chiar", ["pope", "chair"]) == " Did you mean 'chair'? There is: chair, pope."


def test_suggest_does_not_guess_wildly_and_says_when_there_is_nothing() -> None:
    assert suggest("xyz", ["chair"]) == " There is: chair."
    assert suggest("xyz", []) == " There is: nothing."
