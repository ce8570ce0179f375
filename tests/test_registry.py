"""Plugins are found by file name, and other packages may add to them."""

import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from vlmtools import registry
from vlmtools.errors import BadInput, UnknownName


class Animal:
    """What the temporary plugins derive from."""


class Visitor(Animal):
    """What an entry point of another package gives."""


FILES = {
    "__init__.py": '"""A temporary package of plugins."""\n',
    "base.py": "raise RuntimeError('the base was imported')\n",
    "_helper.py": "raise RuntimeError('a helper was imported')\n",
    "cat.py": '"""A cat: purrs.\n\nMore about cats.\n"""\n'
    "from test_registry_host import Animal\n\n\nclass Cat(Animal):\n    pass\n\n\nclass _Kitten(Cat):\n    pass\n",
    "big_dog.py": '"""A dog."""\nfrom test_registry_host import Animal\n\n\nclass Dog(Animal):\n    pass\n',
    "twins.py": "from test_registry_host import Animal\nclass A(Animal): pass\nclass B(Animal): pass\n",
    "nobody.py": "from test_registry_host import Animal as Borrowed\n",
    "explodes.py": '"""Must not be imported to be listed."""\nraise RuntimeError("imported")\n',
    "inner/__init__.py": "",
}


@pytest.fixture
def zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    for name, text in FILES.items():
        path = tmp_path / "zoo_for_tests" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(sys.modules, "test_registry_host", sys.modules[__name__])
    registry._outside.cache_clear()
    yield "zoo_for_tests"
    registry._outside.cache_clear()
    for name in [name for name in sys.modules if name.startswith("zoo_for_tests")]:
        del sys.modules[name]


def _offer(monkeypatch: pytest.MonkeyPatch, group: str, **values: str) -> None:
    points = [EntryPoint(name, value, group) for name, value in values.items()]
    monkeypatch.setattr(
        registry, "entry_points", lambda group: [point for point in points if point.group == group]
    )


def test_names_are_the_public_files_and_none_is_imported(zoo: str) -> None:
    assert registry.names(zoo) == ["big_dog", "cat", "explodes", "nobody", "twins"]
    assert not any(name.startswith("zoo_for_tests.") for name in sys.modules)


def test_load_gives_the_one_public_class_of_the_file(zoo: str) -> None:
    assert registry.load(zoo, "cat", Animal).__name__ == "Cat"
    assert "zoo_for_tests.explodes" not in sys.modules


def test_hyphens_are_read_as_underscores(zoo: str) -> None:
    assert registry.load(zoo, "big-dog", Animal).__name__ == "Dog"


def test_an_unknown_name_is_answered_with_the_closest_and_with_all(zoo: str) -> None:
    with pytest.raises(
        UnknownName, match=r"no 'cta'\. Did you mean 'cat'\? There is: big_dog, cat, explodes"
    ):
        registry.load(zoo, "cta", Animal)


@pytest.mark.parametrize(("name", "listed"), [("twins", "it defines A, B"), ("nobody", "it defines none")])
def test_a_file_must_define_exactly_one_class(zoo: str, name: str, listed: str) -> None:
    with pytest.raises(UnknownName, match=listed):
        registry.load(zoo, name, Animal)


def test_a_summary_is_the_first_docstring_line_read_without_importing(zoo: str) -> None:
    assert registry.summary(zoo, "cat") == "A cat: purrs."
    assert registry.summary(zoo, "explodes") == "Must not be imported to be listed."
    assert registry.summary(zoo, "twins") == ""


def test_another_package_adds_a_name_through_an_entry_point(
    zoo: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _offer(monkeypatch, zoo, **{"far-away": "test_registry_host:Visitor"})
    assert "far_away" in registry.names(zoo)
    assert registry.load(zoo, "far-away", Animal) is Visitor
    assert registry.summary(zoo, "far_away") == "from test_registry_host:Visitor"


def test_another_package_cannot_take_over_a_name_of_ours(zoo: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _offer(monkeypatch, zoo, cat="test_registry_host:Visitor")
    assert registry.load(zoo, "cat", Animal).__name__ == "Cat"
    assert registry.summary(zoo, "cat") == "A cat: purrs."


@pytest.mark.parametrize(
    "value", ["no_such_package:Thing", "test_registry_host:Nothing", "test_registry_host:FILES"]
)
def test_a_useless_entry_point_is_named_in_the_error(
    zoo: str, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    _offer(monkeypatch, zoo, broken=value)
    with pytest.raises(UnknownName, match=value):
        registry.load(zoo, "broken", Animal)


def test_every_kind_names_a_package_that_exists() -> None:
    for kind, package in registry.KINDS.items():
        assert isinstance(registry.names(package), list), kind


def test_settings_are_read_by_the_annotations_of_the_dataclass() -> None:
    from vlmtools.types import Decoding

    found = registry.settings(Decoding, "temperature=0.7,max_new_tokens=32")
    assert found == {"temperature": 0.7, "max_new_tokens": 32}
    assert registry.settings(Decoding, "") == {}


@pytest.mark.parametrize("text", ["temprature=1", "temperature", "max_new_tokens=many"])
def test_a_setting_that_does_not_fit_is_refused_by_name(text: str) -> None:
    from vlmtools.types import Decoding

    with pytest.raises(BadInput, match="Decoding"):
        registry.settings(Decoding, text)
