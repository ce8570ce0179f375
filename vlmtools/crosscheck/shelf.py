"""Arrays by part of a run: in memory while they are few, in a temporary file when they are many."""

import tempfile
import weakref
from collections.abc import Iterator, Mapping
from typing import IO

import numpy as np

from vlmtools.store.temporary import no_room

MOST_BYTES = 32 * 2**20
"""Arrays kept in memory; with more, all of them move to a file."""

Arrays = Mapping[str, np.ndarray]


class Shelf:
    """A list of named arrays to append to and to go through again and again.

    Args:
        most_bytes: Kept in memory.
    """

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most, self._n_bytes = most_bytes, 0
        self._few: list[Arrays] = []
        self._file: IO[bytes] | None = None
        self._places: list[tuple[int, tuple[str, ...]]] = []

    def append(self, arrays: Arrays) -> None:
        """Add arrays at the end.

        Args:
            arrays: By name.

        Raises:
            StoreError: There is no room for temporary files.
        """
        if self._file is not None:
            self._write(self._file, arrays)
            return
        self._few.append(arrays)
        self._n_bytes += sum(array.nbytes for array in arrays.values())
        if self._n_bytes > self._most:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115 (it lives as long as the shelf, and has no name)
            weakref.finalize(self, self._file.close)
            for one in self._few:
                self._write(self._file, one)
            self._few = []

    def __len__(self) -> int:
        """How often something was appended."""
        return len(self._few) if self._file is None else len(self._places)

    def __iter__(self) -> Iterator[Arrays]:
        """All arrays in order."""
        if self._file is None:
            yield from self._few
            return
        for start, names in list(self._places):
            self._file.seek(start)
            yield {name: np.load(self._file, allow_pickle=False) for name in names}

    def _write(self, file: IO[bytes], arrays: Arrays) -> None:
        try:
            start = file.seek(0, 2)
            for array in arrays.values():
                np.save(file, array, allow_pickle=False)
        except OSError as error:
            raise no_room(error) from error
        self._places.append((start, tuple(arrays)))
