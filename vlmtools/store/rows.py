"""One file of finished rows, appended to as they come: a killed writer loses no row and doubles none."""

import os
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from vlmtools import lines
from vlmtools.errors import BadInput, StoreError, StoreLocked, StoreMismatch
from vlmtools.store.files import sync_folder, write_all
from vlmtools.store.spool import texts
from vlmtools.types import Json

_SYNC_S = 1.0


class RowFile:
    """A JSONL file with one row per item, open for appending. Lines have the form of a run folder's records.

    A line cut short by a kill is cut off at opening; anything else that is no row of ours is refused, never changed.

    Args:
        path: The file; made when it does not exist.

    Raises:
        BadInput: It holds something else.
        StoreLocked: Another process writes to it.
        StoreError: It cannot be opened.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._keys = texts()
        self._synced = time.monotonic()
        self._handle = _open(self.path)
        try:
            self._read()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __len__(self) -> int:
        """Number of items that have a row."""
        return len(self._keys)

    def __contains__(self, item: object) -> bool:
        """Whether an item has a row."""
        return item in self._keys

    def check(self, item: str, key: str) -> bool:
        """Whether an item has its row; one under another key is refused: its answer came from something else.

        Args:
            item: The item's id.
            key: Under which its row would be stored now.

        Raises:
            StoreMismatch: It has such a row.
        """
        there = self._keys.get(item)
        if there not in (None, key):
            raise StoreMismatch(
                f"{str(self.path)!r} has another answer to {item!r} already: the model, a patch, the prompt, the "
                "picture or the way of drawing has changed since. Choose another --out, or repeat the earlier line to "
                "go on with it."
            )
        return there is not None

    def append(self, item: str, key: str, row: Mapping[str, Json]) -> bool:
        """Keep a row; False, and nothing happens, when the item has its row.

        Args:
            item: The item's id.
            key: Everything that decides the row, the item's id among it.
            row: Fields JSON can hold.

        Raises:
            StoreMismatch: The item has a row under another key.
            StoreError: The operating system did not take it; the file is as it was.
        """
        if self.check(item, key):
            return False
        self._write(lines.encode(key, row) + b"\n")
        self._keys[item] = key
        return True

    def close(self) -> None:
        """Write everything down and let others write; may be called twice."""
        handle, self._handle = self._handle, -1
        if handle >= 0:
            os.fsync(handle)
            os.close(handle)

    def _write(self, line: bytes) -> None:
        start = os.fstat(self._handle).st_size
        try:
            write_all(self._handle, line)
        except BaseException as error:
            os.ftruncate(self._handle, start)
            if isinstance(error, OSError):
                raise StoreError(
                    f"{str(self.path)!r} cannot be written ({error.strerror}). Every earlier row is safe. Make "
                    "room and run the same line again: it goes on from here."
                ) from error
            raise
        if time.monotonic() - self._synced >= _SYNC_S:
            os.fsync(self._handle)
            self._synced = time.monotonic()

    def _read(self) -> None:
        whole = 0
        with self.path.open("rb") as file:
            for number, line in enumerate(file, 1):
                row = lines.decode(line[:-1]) if line.endswith(b"\n") else None
                if row is None or "id" not in row:
                    self._must_be_torn(line, number)
                    break
                self._keys[str(row["id"])] = row["key"]
                whole += len(line)
        os.ftruncate(self._handle, whole)

    def _must_be_torn(self, line: bytes, number: int) -> None:
        if line.endswith(b"\n") or not lines.begins(line):
            raise BadInput(
                f"{str(self.path)!r}, line {number} is no row as it was written here: somebody else wrote the file, or "
                "the line was edited. Choose another --out, or take the line out and its item is asked again."
            )


def _open(path: Path) -> int:
    import fcntl  # not on every operating system

    new = not path.exists()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise StoreError(
            f"{str(path)!r} cannot be written ({error.strerror}). Choose another --out."
        ) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(handle)
        raise StoreLocked(
            f"{str(path)!r} is being written by another process ({error.strerror}). Wait for it, or choose another "
            "--out."
        ) from error
    if new:
        sync_folder(path.parent)
    return handle
