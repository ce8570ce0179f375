"""Temporary files that have no name and are gone when they are closed."""

import sqlite3
import tempfile
import weakref
from collections.abc import Iterator
from typing import Any

from vlmtools.errors import StoreError

_CACHE_KIB = 4096
ROWS = 1000


def no_room(error: Exception) -> StoreError:
    """What to say when a temporary file cannot be written.

    Args:
        error: What the system said.
    """
    return StoreError(
        f"A temporary file cannot be written ({error}). With many items, lists and sums lie in nameless files in the "
        f"folder that $SQLITE_TMPDIR or $TMPDIR names (here {tempfile.gettempdir()!r}, or /var/tmp). Make room there, "
        "or name another folder. What is stored is kept: run the same line again."
    )


class TableFile:
    """A table of an SQLite file that has no name and is gone when it is closed (SQLITE_TMPDIR or TMPDIR say where)."""

    def __init__(self) -> None:
        self.db = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        weakref.finalize(self, self.db.close)
        self.db.execute("PRAGMA journal_mode=OFF")
        self.db.execute("PRAGMA synchronous=OFF")
        self.db.execute(f"PRAGMA cache_size=-{_CACHE_KIB}")
        self.execute("CREATE TABLE entry (place INTEGER PRIMARY KEY, key BLOB UNIQUE, value TEXT)")
        self.db.execute("BEGIN")

    def execute(self, command: str, values: tuple[Any, ...] = ()) -> sqlite3.Cursor:
        """Run one command.

        Raises:
            StoreError: There is no room, or no folder for temporary files.
        """
        try:
            return self.db.execute(command, values)
        except sqlite3.OperationalError as error:
            raise no_room(error) from error

    def rows(self, column: str) -> Iterator[Any]:
        """One column in order, taken a thousand at a time, so that entries may be added meanwhile."""
        return (row[1] for row in self.stretch(f"place, {column}", 0, None))

    def stretch(self, columns: str, start: int, stop: int | None) -> Iterator[tuple[Any, ...]]:
        """Columns, the place first, of the rows from place `start` + 1 to `stop`, or to the last there is."""
        most = 2**62 if stop is None else stop
        while found := self.execute(
            f"SELECT {columns} FROM entry WHERE place > ? AND place <= ? ORDER BY place LIMIT {ROWS}",
            (start, most),
        ).fetchall():
            start = found[-1][0]
            yield from found
