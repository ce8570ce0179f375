"""Where each record of a run folder lies: derived from the JSONL files, thrown away at the first doubt.

The index is believed only under a seal: a small file, written when the run folder is closed, that holds the
checksum of the index and the size and time of change of every JSONL file it speaks of. After a crash, or when
anything was touched, the seal does not fit and the JSONL files are read again.
"""

import json
import sqlite3
import zlib
from array import array
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

from vlmtools.store.files import fingerprint, settle, write_whole

Entry = tuple[str, int, int]
"""Key, first byte, number of bytes."""

_CHUNK = 1 << 20
_ROWS = 10_000
_CACHE_KIB = 64 * 1024


class Index:
    """Keys of every kind → the bytes of their lines.

    Args:
        database: The file; None keeps everything in memory.
        content: Content of another index to begin with, for an index in memory.
    """

    def __init__(self, database: Path | None = None, content: bytes = b"") -> None:
        self._db = sqlite3.connect(database or ":memory:", isolation_level=None, check_same_thread=False)
        if content:
            self._db.deserialize(content)
        # No journal: after a crash the seal does not fit, and the file is not looked at.
        self._db.execute("PRAGMA journal_mode=OFF")
        self._db.execute("PRAGMA synchronous=OFF")
        self._db.execute(f"PRAGMA cache_size=-{_CACHE_KIB}")
        self._db.execute("BEGIN")

    def reset(self, kind: str) -> None:
        """Forget everything about a kind."""
        self._db.execute(f'DROP TABLE IF EXISTS "{kind}"')
        self._db.execute(f'CREATE TABLE "{kind}" (key TEXT UNIQUE, start INTEGER, length INTEGER)')

    def add(self, kind: str, entries: Iterable[Entry]) -> list[Entry]:
        """Add entries in file order; gives back those whose key was there before, which are not added."""
        rows, repeated = iter(entries), list[Entry]()
        while chunk := list(islice(rows, _ROWS)):
            before = self._db.total_changes
            self._db.executemany(f'INSERT OR IGNORE INTO "{kind}" VALUES (?, ?, ?)', chunk)
            if self._db.total_changes - before < len(chunk):
                repeated += [entry for entry in chunk if self.find(kind, entry[0]) != entry[1:]]
        return repeated

    def find(self, kind: str, key: str) -> tuple[int, int] | None:
        """First byte and number of bytes of a key's line."""
        row = self._db.execute(f'SELECT start, length FROM "{kind}" WHERE key = ?', (key,)).fetchone()
        return None if row is None else (row[0], row[1])

    def spans(self, kind: str) -> "array[int]":
        """First byte and number of bytes of every line, in file order, one after the other: 16 bytes per line."""
        found = array("q")
        for span in self._db.execute(f'SELECT start, length FROM "{kind}" ORDER BY rowid'):
            found.extend(span)
        return found

    def count(self, kind: str) -> int:
        """Number of keys."""
        return int(self._db.execute(f'SELECT count(*) FROM "{kind}"').fetchone()[0])

    def commit(self) -> None:
        """Hand everything to the file."""
        self._db.execute("COMMIT")
        self._db.execute("BEGIN")

    def close(self) -> None:
        """Give the file free, without what was not committed."""
        self._db.close()


def sealed(index: Path, seal: Path) -> dict[str, list[int]]:
    """Kind → fingerprint of the JSONL file the index speaks of; empty when the index is not believed."""
    try:
        said = json.loads(seal.read_bytes())
        fits = said["index"] == _summary(index)
        return {str(kind): list(print_) for kind, print_ in said["files"].items()} if fits else {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def put_seal(index: Path, seal: Path, files: dict[str, Path], others: dict[str, list[int]]) -> None:
    """Say that the index is complete.

    Args:
        index: The closed index.
        seal: Where to say it.
        files: Kind → its JSONL file, for the kinds used since the folder was opened.
        others: Kind → fingerprint, for the kinds not looked at since.
    """
    settle(list(files.values()))
    prints = {**others, **{kind: fingerprint(path) for kind, path in files.items()}}
    write_whole(seal, json.dumps({"index": _summary(index), "files": prints}).encode())


def _summary(index: Path) -> list[int]:
    crc = size = 0
    with index.open("rb") as file:
        while chunk := file.read(_CHUNK):
            crc, size = zlib.crc32(chunk, crc), size + len(chunk)
    return [size, crc]
