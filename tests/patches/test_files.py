"""Patches as text: on the command line and in TOML files."""

import dataclasses
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

import pytest

from vlmtools import registry
from vlmtools.errors import BadInput, UnknownName
from vlmtools.patches import _files
from vlmtools.patches._files import (
    PACKAGES,
    from_toml,
    gather_patches,
    load_patches,
    parse_patches,
    patch_kind,
    save_patches,
    to_toml,
)
from vlmtools.patches.base import Patch
from vlmtools.patches.pai import PAI
from vlmtools.patches.vhr import VHR

EVERY = [name for package in PACKAGES for name in registry.names(package)]


def other(hint: Any, value: Any) -> Any:
    """A value of the annotated type that is not the given one."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    choices = [one for part in (hint, *get_args(hint)) for one in get_args(part) if isinstance(one, str)]
    if isinstance(value, str) and choices:
        return next(one for one in choices if one != value)
    if isinstance(value, str):
        return value + ' "quoted" \\ \n\x7f é'
    if isinstance(value, tuple):
        return (*value, *value[:1])
    if value is None and int in get_args(hint):
        return 3
    return value


@pytest.mark.parametrize("name", EVERY)
def test_every_patch_comes_back_from_its_file_as_it_was(name: str, tmp_path: Path) -> None:
    kind: Any = patch_kind(name)
    hints = get_type_hints(kind)
    changed = {f.name: other(hints[f.name], getattr(kind(), f.name)) for f in dataclasses.fields(kind)}
    for one in (kind(), kind.neutral(), kind.tiny(), kind(**changed)):
        save_patches(tmp_path / "one.toml", [one])
        (back,) = load_patches(tmp_path / "one.toml")
        assert type(back) is kind
        assert back == one
        assert repr(back) == repr(one)  # 1 and 1.0 are equal but not the same


@pytest.mark.parametrize("name", EVERY)
def test_a_file_names_every_setting_that_is_not_none(name: str) -> None:
    one: Any = patch_kind(name)()
    (table,) = tomllib.loads(to_toml([one]))["patch"]
    wanted = {f.name for f in dataclasses.fields(one) if getattr(one, f.name) is not None}
    assert set(table) - {"none"} == wanted | {"name"}


def test_several_patches_keep_their_order_and_their_heads(tmp_path: Path) -> None:
    both = [PAI(strength=1e-05), VHR(strength=2.0, heads={14: (0, 3), 2: ()}, last_layers=3)]
    save_patches(tmp_path / "two.toml", both)
    assert load_patches(tmp_path / "two.toml") == both


@dataclasses.dataclass(frozen=True)
class _Odd(Patch):
    layers: int | None = 3
    text: str = ""
    table: Mapping[str, tuple[float, ...]] = dataclasses.field(default_factory=dict)
    how: Literal["a"] | Callable[[Any], Any] = "a"

    def hooks(self, live: Any) -> Any:
        yield from ()

    @classmethod
    def neutral(cls) -> "_Odd":
        return cls()


@pytest.mark.parametrize(
    "one",
    [
        _Odd(layers=None),
        _Odd(text="none"),
        _Odd(text='a"b\\c\nd\te\x00f\x7f\u2028 é 😀'),
        _Odd(table={"a b": (1.0, float("inf")), 'q"': (), "x.y": (-0.0, 1e300)}),
    ],
)
def test_values_toml_finds_hard_come_back(one: _Odd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_files, "patch_kind", lambda name: _Odd)
    assert from_toml(to_toml([one])) == [one]


def test_a_function_cannot_be_written() -> None:
    with pytest.raises(BadInput, match=r"vhr: counterfactual is a function.*Python"):
        to_toml([VHR(counterfactual=lambda inputs: inputs)])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[[patch]]\nname = "vhr"\nstrenght = 2', "Did you mean 'strength'"),
        ('[[patch]]\nname = "vhr"\nstrength = "two"', "strength = 'two' does not fit"),
        ('[[patch]]\nname = "vhr"\nstrength = "2"', "does not fit"),
        ('[[patch]]\nname = "vhr"\ndistance = "l3"', "'l2' or 'sq'"),
        ('[[patch]]\nname = "vhr"\nstrength = 2024-01-01', "does not fit"),
        ('[[patch]]\nname = "vhr"\nnone = ["strenght"]', "Did you mean 'strength'"),
        ("[[patch]]\nstrength = 2.0", "has no name"),
        ('[patch]\nname = "vhr"', r"\[\[patch\]\]"),
        ('patch = ["vhr"]', r"\[\[patch\]\]"),
        ("[vhr]\nstrength = 2.0", "'vhr'"),
        ("", r"\[\[patch\]\]"),
        ("[[patch", "no TOML"),
        ('[[patch]]\nname = "vhr"\n[[patch]]\nname = "vhr"', "twice"),
    ],
)
def test_a_wrong_file_is_answered_with_what_to_write(text: str, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        from_toml(text)


def test_a_patch_nobody_knows_is_answered_with_the_closest() -> None:
    with pytest.raises(UnknownName, match="Did you mean 'vhr'"):
        from_toml('[[patch]]\nname = "vrh"')
    with pytest.raises(UnknownName, match="Did you mean 'vhr'"):
        parse_patches(["vrh:strength=2"])


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"absent\.toml"):
        load_patches(tmp_path / "absent.toml")
    with pytest.raises(BadInput, match="cannot be written"):
        save_patches(tmp_path / "absent" / "a.toml", [VHR()])


def test_patches_are_read_from_the_command_line_in_order() -> None:
    found = parse_patches(["vhr:strength=3,last_layers=5,distance=sq", "pai"])
    assert found == [VHR(strength=3.0, last_layers=5, distance="sq"), PAI()]
    assert parse_patches([]) == []


def test_a_setting_with_a_typing_error_is_answered_with_the_closest() -> None:
    with pytest.raises(BadInput, match="Did you mean 'strength'"):
        parse_patches(["vhr:strenght=2"])


def test_files_come_after_what_is_typed_and_a_patch_counts_once(tmp_path: Path) -> None:
    save_patches(tmp_path / "mine.toml", [VHR(strength=3.0)])
    assert gather_patches(["pai"], [tmp_path / "mine.toml"]) == [PAI(), VHR(strength=3.0)]
    with pytest.raises(BadInput, match="'vhr' is named twice"):
        gather_patches(["vhr"], [tmp_path / "mine.toml"])
