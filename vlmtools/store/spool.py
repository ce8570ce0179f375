"""More than fits in memory, for the time of a run: an ordered mapping and a list that move to a temporary file."""

import json
from collections.abc import Callable, ItemsView, Iterable, Iterator, Mapping, Sequence, ValuesView
from itertools import islice
from typing import Any, Generic, TypeVar, overload

from vlmtools.store.temporary import TableFile
from vlmtools.types import Json

T = TypeVar("T")

MOST = 10_000
"""Entries kept in memory; with more, all of them move to a file."""


class Spool(Mapping[str, T], Generic[T]):
    """An ordered mapping that holds any number of entries: few in memory, many in a temporary file.

    Entries keep the place at which their key was first set. Values come back as `decode` makes them anew: change one by
    setting it again. Not for several threads at once. A copy in another process is a mapping in memory.

    Args:
        encode: A value as JSON can hold it.
        decode: The value again.
        entries: To begin with.
        most: Entries kept in memory; `MOST` unless given.
    """

    def __init__(
        self,
        encode: Callable[[T], Json],
        decode: Callable[[str, Json], T],
        entries: Iterable[tuple[str, T]] = (),
        most: int | None = None,
    ) -> None:
        self._encode, self._decode, self._most = encode, decode, MOST if most is None else most
        self._few: dict[str, T] = {}
        self._file: TableFile | None = None
        self._n = 0
        for key, value in entries:
            self[key] = value

    def __setitem__(self, key: str, value: T) -> None:
        """Set, or set again, an entry."""
        if self._file is None:
            self._few[key] = value
            if len(self._few) > self._most:
                self._move()
            return
        self._put(self._file, key, value)

    def __getitem__(self, key: str) -> T:
        """The entry's value.

        Raises:
            KeyError: There is none.
        """
        if self._file is None:
            return self._few[key]
        row = self._file.execute("SELECT value FROM entry WHERE key = ?", (_bytes(key),)).fetchone()
        if row is None:
            raise KeyError(key)
        return self._decode(key, json.loads(row[0]))

    def __contains__(self, key: object) -> bool:
        """Whether there is such an entry."""
        if self._file is None or not isinstance(key, str):
            return key in self._few
        row = self._file.execute("SELECT 1 FROM entry WHERE key = ?", (_bytes(key),)).fetchone()
        return row is not None

    def __iter__(self) -> Iterator[str]:
        """The keys in order."""
        if self._file is None:
            return iter(self._few)
        return (_text(key) for key in self._file.rows("key"))

    def __len__(self) -> int:
        """Number of entries."""
        return len(self._few) if self._file is None else self._n

    def __reduce__(self) -> tuple[object, ...]:
        """As a mapping in memory, for another process."""
        return Spool, (self._encode, self._decode, list(self.items()), 2**62)

    def setdefault(self, key: str, value: T) -> T:
        """The entry's value, which is `value` from now on if there is none yet."""
        if key in self:
            return self[key]
        self[key] = value
        return value

    def add(self, key: str, value: T) -> bool:
        """Set the entry unless there is one: whether there was none."""
        if self._file is not None:
            return self._insert(self._file, _bytes(key), json.dumps(self._encode(value)))
        if key in self._few:
            return False
        self[key] = value
        return True

    def items(self) -> ItemsView[str, T]:
        """Key and value of every entry, in order, read in one go."""
        return _Pairs(self)

    def values(self) -> ValuesView[T]:
        """The value of every entry, in order, read in one go."""
        return _Values(self)

    def stretch(self, start: int = 0, stop: int | None = None) -> Iterator[tuple[str, T]]:
        """Key and value of the entries from place `start` to before `stop`, in order.

        Args:
            start: Place of the first, from 0.
            stop: One past the last; None goes to the end.
        """
        if self._file is None:
            return islice(self._few.items(), start, stop)
        found = self._file.stretch("place, key, value", start, stop)
        return ((key, self._decode(key, json.loads(said))) for key, said in _keyed(found))

    def _move(self) -> None:
        file = TableFile()
        for key, value in self._few.items():
            self._put(file, key, value)
        self._file, self._few = file, {}

    def _put(self, file: TableFile, key: str, value: T) -> None:
        said, raw = json.dumps(self._encode(value)), _bytes(key)
        if not self._insert(file, raw, said):
            file.execute("UPDATE entry SET value = ? WHERE key = ?", (said, raw))

    def _insert(self, file: TableFile, raw: bytes, said: str) -> bool:
        """Whether it is a new entry."""
        before = file.db.total_changes
        file.execute("INSERT OR IGNORE INTO entry (key, value) VALUES (?, ?)", (raw, said))
        new = file.db.total_changes > before
        self._n += new
        return new


class _Pairs(ItemsView[str, T]):
    def __init__(self, spool: Spool[T]) -> None:
        super().__init__(spool)
        self._spool = spool

    def __iter__(self) -> Iterator[tuple[str, T]]:
        return self._spool.stretch()


class _Values(ValuesView[T]):
    def __init__(self, spool: Spool[T]) -> None:
        super().__init__(spool)
        self._spool = spool

    def __iter__(self) -> Iterator[T]:
        return (value for _, value in self._spool.stretch())


def texts() -> Spool[str]:
    """A spool whose values are texts."""
    return Spool(str, _same)


class SpoolList(Sequence[T], Generic[T]):
    """A list to append to that holds any number of entries.

    Args:
        encode: A value as JSON can hold it.
        decode: The value again.
        entries: To begin with.
        most: Entries kept in memory; `MOST` unless given.
    """

    def __init__(
        self,
        encode: Callable[[T], Json],
        decode: Callable[[Json], T],
        entries: Iterable[T] = (),
        most: int | None = None,
    ) -> None:
        self._how = encode, decode
        self._all: Spool[T] = Spool(encode, lambda _, value: decode(value), most=most)
        for value in entries:
            self.append(value)

    def append(self, value: T) -> None:
        """Add an entry at the end."""
        self._all[f"{len(self)}"] = value

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> "Sequence[T]": ...
    def __getitem__(self, index: int | slice) -> "T | Sequence[T]":
        """One entry, or a list of some."""
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            if step == 1:
                return SpoolList(*self._how, self.stretch(start, stop))
            return [self[place] for place in range(start, stop, step)]
        return self._all[f"{range(len(self))[index]}"]

    def __iter__(self) -> Iterator[T]:
        """The entries in order."""
        return iter(self._all.values())

    def __len__(self) -> int:
        """Number of entries."""
        return len(self._all)

    def __reduce__(self) -> tuple[object, ...]:
        """As a list in memory, for another process."""
        return SpoolList, (*self._how, list(self), 2**62)

    def stretch(self, start: int, stop: int) -> Iterator[T]:
        """The entries from `start` to before `stop`, in order, without counting up to the first.

        Args:
            start: Place of the first, from 0.
            stop: One past the last.
        """
        return (value for _, value in self._all.stretch(start, stop))


def text_list(entries: Iterable[str] = ()) -> SpoolList[str]:
    """A list of texts.

    Args:
        entries: To begin with.
    """
    return SpoolList(str, str, entries)


def _same(key: str, value: Json) -> str:
    return str(value)


def _bytes(key: str) -> bytes:
    return key.encode("utf-8", "surrogatepass")


def _keyed(rows: Iterator[tuple[Any, ...]]) -> Iterator[tuple[str, str]]:
    return ((_text(key), said) for _, key, said in rows)


def _text(raw: Any) -> str:
    return str(raw, "utf-8", "surrogatepass")
