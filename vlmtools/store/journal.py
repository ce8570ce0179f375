"""The JSONL files of a run folder with their index: opened at first use, repaired, appended to."""

import os
import re
import sqlite3
import time
from array import array
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from vlmtools import lines
from vlmtools.errors import BadInput, StoreError
from vlmtools.store.files import fingerprint, sync_folder, write_all
from vlmtools.store.index import Entry, Index, put_seal, sealed
from vlmtools.store.scan import looks_torn, repair, scan
from vlmtools.types import Json

_KIND = re.compile(r"[a-z][a-z0-9_]*")
_SYNC_S = 1.0


class Journal:
    """Kinds of records in files of their own.

    Args:
        folder: The run folder.
        read_only: Touch nothing.
    """

    def __init__(self, folder: Path, read_only: bool) -> None:
        self.folder = folder
        self.read_only = read_only
        self.repaired: dict[str, int] = {}
        self._indexes: dict[str, Index] = {}
        self._handles: dict[str, int] = {}
        self._dirty: set[str] = set()
        self._synced = time.monotonic()
        self._database, self._seal = folder / "index.sqlite", folder / "index.seal"
        self._sealed = sealed(self._database, self._seal)
        self._shared = self._open_shared()

    def kinds(self) -> list[str]:
        """Every kind there is a file of."""
        found = (path.stem for path in self.folder.glob("*.jsonl"))
        return sorted(kind for kind in found if _KIND.fullmatch(kind))

    def index(self, kind: str) -> Index:
        """The index that knows the kind; reads the whole file first when it may not be believed."""
        if kind not in self._indexes:
            self._indexes[kind] = self._trusted(kind) or self._read_all(kind)
        return self._indexes[kind]

    def record(self, kind: str, span: tuple[int, int]) -> dict[str, Json] | None:
        """What stands at a place of the file; None when that is no record."""
        return lines.decode(os.pread(self._handle(kind), span[1], span[0]))

    def snapshot(self, kind: str) -> tuple["array[int]", int | None]:
        """Where every record lies now, in file order, and a handle to read them with; the caller closes it."""
        spans = self.index(kind).spans(kind)
        return spans, os.dup(self._handle(kind)) if spans else None

    def write(self, kind: str, new: Mapping[str, bytes]) -> None:
        """Append lines under keys that are not there yet.

        Raises:
            StoreError: The operating system took none or only a part; the file is as it was.
        """
        index, handle = self.index(kind), self._handle(kind)
        start = os.fstat(handle).st_size
        try:
            self._dirty.add(kind)
            write_all(handle, b"".join(line + b"\n" for line in new.values()))
            index.add(kind, _entries(start, new))
        except BaseException as error:
            os.ftruncate(handle, start)
            self.forget(kind)
            if isinstance(error, OSError | sqlite3.Error):
                raise self._unwritten(kind, error) from error
            raise
        if time.monotonic() - self._synced >= _SYNC_S:
            self.sync()

    def forget(self, kind: str) -> None:
        """Stop believing the index of a kind: its file is read from end to end at next use."""
        index = self._indexes.pop(kind, self._shared)
        if index is not self._shared:
            index.close()
        self._sealed.pop(kind, None)
        if kind in self._handles:
            self._sync_one(kind)
            os.close(self._handles.pop(kind))

    def sync(self) -> None:
        """Make everything appended so far survive a power cut."""
        for kind in list(self._dirty):
            self._sync_one(kind)
        self._synced = time.monotonic()

    def close(self) -> None:
        """Write the index down under a new seal, and give all files free."""
        self.sync()
        for handle in self._handles.values():
            os.close(handle)
        self._handles.clear()
        # The records are safe by now: an index that cannot be written costs one pass over them at the next opening.
        with suppress(OSError, sqlite3.Error):
            self._put_index()
        for index in {self._shared, *self._indexes.values()}:
            index.close()

    def _put_index(self) -> None:
        if not self.read_only:
            self._shared.commit()
            known = {kind: self._file(kind) for kind in self._indexes if self._file(kind).exists()}
            put_seal(self._database, self._seal, known, self._sealed)

    def _file(self, kind: str) -> Path:
        if not _KIND.fullmatch(kind):
            raise BadInput(
                f"{kind!r} is not a kind of record. Kinds are lower-case words such as 'answers'. Rename it."
            )
        return self.folder / f"{kind}.jsonl"

    def _handle(self, kind: str) -> int:
        if kind not in self._handles:
            file = self._file(kind)
            new = not file.exists()
            how = os.O_RDONLY if self.read_only else os.O_RDWR | os.O_APPEND | os.O_CREAT
            self._handles[kind] = os.open(file, how | os.O_CLOEXEC, 0o644)
            if new:
                sync_folder(self.folder)
        return self._handles[kind]

    def _sync_one(self, kind: str) -> None:
        if kind in self._dirty:
            os.fsync(self._handles[kind])
            self._dirty.discard(kind)

    def _open_shared(self) -> Index:
        if self.read_only:
            # A copy: a writer may come and change the file at any time.
            return Index(content=self._database.read_bytes() if self._sealed else b"")
        if not self._sealed:
            self._database.unlink(missing_ok=True)
        return Index(self._database)

    def _trusted(self, kind: str) -> Index | None:
        fits = self._sealed.get(kind) == fingerprint(self._file(kind))
        return self._shared if fits else None

    def _read_all(self, kind: str) -> Index:
        # A reader may not write to the index on disk, so what it reads itself stays in memory.
        index = Index() if self.read_only else self._shared
        repeated, strange = self._fill(index, kind)
        if not (repeated or strange):
            return index
        if self.read_only:
            self.repaired[kind] = strange + len(repeated)
            return index
        self._must_be_ours(kind, index)
        moved = repair(self._file(kind), self.folder / f"{kind}.damaged.jsonl", repeated)
        self.repaired[kind] = self.repaired.get(kind, 0) + moved
        self._fill(index, kind)
        return index

    def _fill(self, index: Index, kind: str) -> tuple[set[int], int]:
        index.reset(kind)
        strange = [0]
        return {start for _, start, _ in index.add(kind, _found(self._file(kind), strange))}, strange[0]

    def _must_be_ours(self, kind: str, index: Index) -> None:
        if index.count(kind) or (self.folder / "run.json").exists() or looks_torn(self._file(kind)):
            return
        raise StoreError(
            f"{str(self._file(kind))!r} was not written by vlmtools: none of its lines is a record of a run. "
            "A run folder starts empty. Choose another --out, or give the file as a recorded source."
        )

    def _unwritten(self, kind: str, error: Exception) -> StoreError:
        why = getattr(error, "strerror", None) or error
        return StoreError(
            f"{str(self._file(kind))!r} cannot be written ({why}). Everything stored before is "
            "safe. Make room, or check the permissions, and run the same command again: it goes on from here."
        )


def _found(path: Path, strange: list[int]) -> Iterator[Entry]:
    if not path.exists():
        return
    for piece in scan(path):
        strange[0] += not piece.whole
        if piece.key is not None:
            yield piece.key, piece.start, len(piece.raw)


def _entries(start: int, new: Mapping[str, bytes]) -> Iterator[Entry]:
    for key, line in new.items():
        yield key, start, len(line)
        start += len(line) + 1
