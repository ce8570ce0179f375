"""The run folder as one object: append, look up, read."""

import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from vlmtools import lines
from vlmtools.errors import BadInput, StoreError
from vlmtools.store.files import lock, unlock, write_whole
from vlmtools.store.identity import bound
from vlmtools.store.journal import Journal
from vlmtools.store.keys import plain
from vlmtools.types import Json

KINDS = ("items", "answers", "votes", "failures", "log")
"""The kinds of record the package itself writes."""


class Store:
    """A run folder, open for reading, or for reading and appending.

    Everything is kept under a key, and the first record under a key stays: appending another does nothing.
    Records come back as they were given, with their `key` first. A store may be used from several threads.

    Args:
        folder: The run folder; made when it does not exist, unless `read_only`.
        read_only: Change nothing and need no lock: each kind is shown as it is at its first use, even while
            another process writes to it.

    Raises:
        StoreLocked: Another process writes to the folder.
        StoreError: The folder cannot be used.
    """

    def __init__(self, folder: str | Path, read_only: bool = False) -> None:
        self.folder = Path(folder)
        self.read_only = read_only
        self._guard = threading.RLock()
        self._open = False
        self._owner = os.getpid()
        self._lock = None if read_only else _claim(self.folder)
        _must_exist(self.folder)
        self._journal = Journal(self.folder, read_only)
        self._open = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def repaired(self) -> Mapping[str, int]:
        """Kind → pieces that were no records, or repeated a key, and were moved to `<kind>.damaged.jsonl`.

        A read-only store passes over them instead. Only kinds used since opening are listed.
        """
        return dict(self._journal.repaired)

    def has(self, kind: str, key: str) -> bool:
        """Whether there is a record under the key."""
        with self._guard:
            return self._live().index(kind).find(kind, key) is not None

    def get(self, kind: str, key: str) -> dict[str, Json] | None:
        """The record under the key, or None."""
        with self._guard:
            journal = self._live()
            while (span := journal.index(kind).find(kind, key)) is not None:
                record = journal.record(kind, span)
                if record is not None and record["key"] == key:
                    return record
                journal.forget(kind)  # the file was damaged behind the index's back: read it again
            return None

    def count(self, kind: str) -> int:
        """Number of records."""
        with self._guard:
            return self._live().index(kind).count(kind)

    def read(self, kind: str) -> Iterator[dict[str, Json]]:
        """Every record there is when reading begins, in file order."""
        with self._guard:
            journal = self._live()
            spans, handle = journal.snapshot(kind)
        if handle is None:
            return
        try:
            for start, length in zip(spans[::2], spans[1::2], strict=True):
                record = lines.decode(os.pread(handle, length, start))
                if record is None:
                    self._suspect(kind)
                else:
                    yield record
        finally:
            os.close(handle)

    def append(self, kind: str, key: str, record: Mapping[str, Json]) -> bool:
        """Keep a record; False, and nothing happens, when there is one under the key."""
        return self.append_many(kind, [(key, record)]) == 1

    def append_many(self, kind: str, pairs: Iterable[tuple[str, Mapping[str, Json]]]) -> int:
        """Keep records, in order and in one go.

        Args:
            kind: Lower-case word; see `KINDS`.
            pairs: (key, record); those whose key is there already are left out.

        Returns:
            How many were new.

        Raises:
            BadInput: A record JSON cannot hold; none of the pairs is kept then.
            StoreError: The store is read-only or closed, or the disk is full; none of the pairs is kept then.
        """
        with self._guard:
            index = self._writable().index(kind)
            new: dict[str, bytes] = {}
            for key, record in pairs:
                if key not in new and index.find(kind, key) is None:
                    new[key] = _line(kind, key, record)
            if new:
                self._journal.write(kind, new)
            return len(new)

    def log(self, event: str, **fields: Json) -> None:
        """Keep what differs between equal runs: times, speeds, machines. Nothing is ever computed from it.

        Args:
            event: What happened, in a word or two.
            fields: Anything JSON can hold.
        """
        with self._guard:
            now = datetime.now(UTC).isoformat(timespec="milliseconds")
            self.append("log", f"{self.count('log'):08d}", {"time": now, "event": event, **fields})

    def bind(self, identity: Mapping[str, Json], may_change: Mapping[str, Json] | None = None) -> None:
        """Make the folder belong to one question, or check that it does; `run.json` says which.

        Args:
            identity: Every setting that decides the records.
            may_change: Settings that do not, such as the number of bootstrap resamples: the latest are
                written down.

        Raises:
            StoreMismatch: The folder belongs to another question.
        """
        said = self.read_file("run.json")
        text = bound(self.folder, said, identity, may_change or {})
        if said != text.encode():
            self.write_file("run.json", text)

    def write_file(self, name: str, content: str | bytes) -> None:
        """Write a file of the folder, whole or not at all.

        Args:
            name: Its name, possibly in a folder within the folder.
            content: Text is written as UTF-8, with lone surrogates escaped.
        """
        with self._guard:
            self._writable()
            raw = content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content
            write_whole(self._inside(name), raw)

    def read_file(self, name: str) -> bytes | None:
        """The content of a file of the folder, or None when there is none."""
        path = self._inside(name)
        return path.read_bytes() if path.is_file() else None

    def sync(self) -> None:
        """Make everything appended so far survive a power cut."""
        with self._guard:
            self._live().sync()

    def check(self) -> Mapping[str, int]:
        """Read every file again from end to end, whatever the index says; gives back `repaired`."""
        with self._guard:
            journal = self._live()
            for kind in journal.kinds():
                journal.forget(kind)
                journal.index(kind)
            return self.repaired

    def close(self) -> None:
        """Write everything down and let others write; may be called twice."""
        with self._guard:
            if not self._open:
                return
            self._open = False
            if self._owner != os.getpid():
                return  # a copy of the store in a forked process has nothing to write down
            try:
                self._journal.close()
            finally:
                if self._lock is not None:
                    unlock(self._lock)

    def _suspect(self, kind: str) -> None:
        with self._guard:
            if self._open:
                self._journal.forget(kind)

    def _live(self) -> Journal:
        if self._open:
            return self._journal
        raise StoreError(
            f"The run folder {str(self.folder)!r} was closed. It can be used inside its `with` block. Open "
            "it again."
        )

    def _writable(self) -> Journal:
        if not self.read_only:
            return self._live()
        raise StoreError(
            f"The run folder {str(self.folder)!r} is open for reading. Stores opened without read_only can "
            "append. Open it again without read_only."
        )

    def _inside(self, name: str) -> Path:
        path = Path(name)
        if path.is_absolute() or ".." in path.parts or path.suffix == ".jsonl" or not path.name:
            raise BadInput(
                f"{name!r} is no file to write or read whole. Files inside the run folder that do not end in "
                ".jsonl are. Give a plain name, such as 'report.html'."
            )
        return self.folder / path


def _claim(folder: Path) -> int:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = lock(folder / "lock")
    except StoreError:
        raise
    except OSError as error:
        raise StoreError(
            f"{str(folder)!r} cannot be a run folder ({error.strerror}). A run folder is a folder this user "
            "may write to. Choose another --out."
        ) from error
    for draft in folder.glob(".*.tmp"):
        draft.unlink()
    return handle


def _must_exist(folder: Path) -> None:
    if not folder.is_dir():
        raise StoreError(
            f"There is no run folder {str(folder)!r} (looked for {folder.absolute()}). A run makes one with "
            "--out. Correct the path, or start the run first."
        )


def _line(kind: str, key: str, record: Mapping[str, Json]) -> bytes:
    try:
        key.encode()
        given = (
            {name: value for name, value in record.items() if name != "key"}
            if record.get("key") == key
            else record
        )
        return lines.encode(key, given)
    except (TypeError, ValueError, RecursionError) as error:
        plain(record, f"{kind} record {key!r}: ")
        raise BadInput(
            f"The {kind} record under {key!r} cannot be stored ({error}). A key is non-empty text without "
            "lone surrogates, and a record is a dict of JSON values. Change the record."
        ) from error
