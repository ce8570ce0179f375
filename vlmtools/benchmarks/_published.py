"""Is a local copy of a benchmark's data the published one? By checksum, and by count where the bytes differ."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vlmtools.benchmarks._files import read_entries
from vlmtools.errors import BadInput
from vlmtools.responders._tables import _bytes, _unzipped
from vlmtools.types import Json


@dataclass(frozen=True, slots=True)
class Published:
    """A file as its authors published it.

    Args:
        entries: How many entries it has; 0 for a file that is no list.
        sha256: Of its content, unpacked.
    """

    entries: int = 0
    sha256: str = ""


@dataclass(frozen=True, slots=True)
class Copy:
    """A local file beside the published one.

    Args:
        path: Where it lies.
        same: Whether the content is the published one, byte for byte.
        entries: How many entries it has; None where that was not counted.
        expected: How many the published one has; 0 where it is no list.
    """

    path: str = ""
    same: bool = False
    entries: int | None = None
    expected: int = 0

    @property
    def complete(self) -> bool:
        """Whether nothing is missing, as far as can be told: the same bytes, or as many entries."""
        return self.same or self.entries in (None, self.expected)

    def to_json(self) -> dict[str, Json]:
        """As JSON."""
        return {
            "file": self.path, "as_published": self.same, "entries": self.entries, "expected": self.expected,
        }  # fmt: skip

    def __str__(self) -> str:
        """One line for the terminal."""
        if self.same:
            return f"{self.path}: as published"
        if self.entries is None:
            return f"{self.path}: not the published bytes"
        there = f"{self.entries:,} entries, {self.expected:,} are published"
        return f"{self.path}: not the published bytes; {there}"


def copies(published: Mapping[str, Published], data: Path | None) -> list[Copy]:
    """Every file of the data that has the name of a published one.

    Args:
        published: Name → what was published.
        data: The file or folder the user gave.

    Raises:
        BadInput: A file cannot be read.
    """
    if data is None:
        return []
    places = [data] if data.is_file() else sorted(path for path in data.rglob("*") if path.is_file())
    named = ((path, published.get(path.name.removesuffix(".gz"))) for path in places)
    return [_compared(path, known) for path, known in named if known is not None]


def _compared(path: Path, known: Published) -> Copy:
    same = hashlib.sha256(_unzipped(path, _bytes(path))).hexdigest() == known.sha256
    return Copy(str(path), same, None if same or not known.entries else _counted(path), known.entries)


def _counted(path: Path) -> int:
    try:
        return len(read_entries(path))
    except BadInput:
        return 0
