"""Spools: the same as a dict and a list, in memory and in a file."""

import pickle
from collections.abc import Iterator

import pytest

from vlmtools.errors import StoreError
from vlmtools.store.spool import Spool, SpoolList
from vlmtools.types import Json


def _up(value: tuple[int, str]) -> Json:
    return list(value)


def _down(key: str, value: Json) -> tuple[int, str]:
    return value[0], value[1]


def _alone(value: Json) -> tuple[int, str]:
    return value[0], value[1]


ODD = ("", "a", "ä\u2028", "\ud800", "key with 'quotes' and \0", "B" * 500)


@pytest.mark.parametrize("most", [1_000, 3, 0])
def test_a_spool_is_an_ordered_mapping(most: int) -> None:
    wanted = {key: (number, key) for number, key in enumerate(ODD)}
    spool = Spool(_up, _down, wanted.items(), most)
    assert spool == wanted and list(spool) == list(ODD) and len(spool) == len(ODD)
    spool["a"] = wanted["a"] = (99, "again")
    assert list(spool.items()) == list(wanted.items()) and len(spool) == len(ODD)
    assert spool.setdefault("a", (1, "")) == (99, "again") and spool.setdefault("new", (7, "")) == (7, "")
    assert "new" in spool and "none" not in spool
    with pytest.raises(KeyError):
        spool["none"]
    assert pickle.loads(pickle.dumps(spool)) == spool  # noqa: S301


@pytest.mark.parametrize("most", [10_000, 7])
def test_pairs_and_stretches_of_a_spool_are_those_of_a_dict(most: int) -> None:
    wanted = {f"{n}": (n, "") for n in range(2_100)}
    spool = Spool(_up, _down, wanted.items(), most)
    assert list(spool.items()) == list(wanted.items()) and ("7", (7, "")) in spool.items()
    assert list(spool.values()) == list(wanted.values())
    for start, stop in ((0, None), (0, 3), (998, 2_005), (2_099, 9_999), (5, 5)):
        assert list(spool.stretch(start, stop)) == list(wanted.items())[start:stop]


@pytest.mark.parametrize("most", [10_000, 1])
def test_an_entry_is_added_once(most: int) -> None:
    spool = Spool(_up, _down, (), most)
    assert [spool.add(key, (n, "")) for n, key in enumerate("aabcab")] == [
        True,
        False,
        True,
        True,
        False,
        False,
    ]
    assert dict(spool) == {"a": (0, ""), "b": (2, ""), "c": (3, "")} and len(spool) == 3


@pytest.mark.parametrize("most", [1_000_000, 10])
def test_entries_may_be_added_and_read_while_others_are_gone_through(most: int) -> None:
    spool = Spool(_up, _down, ((f"{n}", (n, "")) for n in range(2_500)), most)
    seen = []
    for number, key in enumerate(list(spool) if most > 10 else spool):
        if number == 5:
            spool["2500"] = (2_500, "")
        seen.append(spool[key][0])
    assert seen == list(range(2_500 if most > 10 else 2_501))


@pytest.mark.parametrize("most", [10_000, 7])
def test_a_spooled_list_is_a_list(most: int) -> None:
    wanted = [(n, key) for n in range(700) for key in ODD]
    spooled = SpoolList(_up, _alone, iter(wanted), most)
    assert len(spooled) == len(wanted) and list(spooled) == wanted
    assert spooled[0] == wanted[0] and spooled[-1] == wanted[-1] and spooled[1_234] == wanted[1_234]
    for part in (slice(5, 9), slice(None, 3), slice(None, None, 1_000), slice(4_000, 9_999), slice(3, 1)):
        assert list(spooled[part]) == wanted[part]
    assert list(spooled.stretch(990, 2_050)) == wanted[990:2_050]
    with pytest.raises(IndexError):
        spooled[len(wanted)]
    assert list(pickle.loads(pickle.dumps(spooled))) == wanted  # noqa: S301


def test_two_readers_do_not_disturb_each_other() -> None:
    spooled = SpoolList(_up, _alone, ((n, "") for n in range(3_000)), 10)
    one: Iterator[tuple[int, str]] = iter(spooled)
    assert [next(one)[0] for _ in range(3)] == [0, 1, 2]
    assert [a for a, _ in spooled] == list(range(3_000))
    assert next(one)[0] == 3


def test_a_full_disk_is_told_plainly() -> None:
    spool = Spool(_up, _down, most=3)
    for n in range(5):
        spool[f"{n}"] = (n, "")
    assert spool._file is not None
    spool._file.db.execute("PRAGMA max_page_count=20")
    with pytest.raises(StoreError, match="temporary file cannot be written"):
        for n in range(5_000):
            spool[f"more {n}"] = (n, "x" * 100)
