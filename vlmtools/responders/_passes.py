"""A file gone through several times: unpacked and checked on the way, never in memory as a whole."""

import codecs
import gzip
import hashlib
import io
import shutil
import stat
import tempfile
import weakref
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from vlmtools.errors import BadInput

FORMATS = (".jsonl", ".json", ".csv", ".tsv")
GZIP = b"\x1f\x8b"
_CHUNK = 1 << 20


class Passes:
    """A table's bytes, to be read from the beginning as often as needed. All of them are looked at once at the start.

    What is no ordinary file (a pipe) can be read once only: it is copied into a temporary file first.

    Args:
        path: The file, gzipped or not.

    Raises:
        BadInput: No such file, damaged as a gzip file, or not UTF-8.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._place = path if _stays(path) else _copied(path, self)
            self.sha256 = self._looked_through()
        except OSError as error:
            raise unreadable(path, error) from error

    @contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """The unpacked bytes from the beginning; what is read must be what was read at the start.

        Raises:
            BadInput: The file has changed since.
        """
        with self._place.open("rb", buffering=0) as file:
            watched = _Watched(file)
            try:
                yield _unpacked(watched)
            except Exception as error:
                self._must_be_the_same(watched, error)
                raise
            self._must_be_the_same(watched, None)

    def text(self) -> str:
        """The whole content."""
        with self.open() as stream:
            return stream.read().decode("utf-8-sig")

    def _looked_through(self) -> str:
        decoder, clean = codecs.getincrementaldecoder("utf-8")(), True
        with self._place.open("rb", buffering=0) as file:
            watched = _Watched(file)
            stream = _unpacked(watched)
            while chunk := self._next(stream):
                clean = clean and _decodes(decoder, chunk)
            clean = clean and _decodes(decoder, b"", final=True)
            digest = watched.rest()
        if not clean:
            self._name_the_byte()
        return digest

    def _next(self, stream: BinaryIO) -> bytes:
        try:
            return stream.read(_CHUNK)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise damaged(self.path, error) from error

    def _name_the_byte(self) -> None:
        with self._place.open("rb", buffering=0) as file:
            for number, line in enumerate(_unpacked(_Watched(file)), start=1):
                try:
                    line.decode()
                except UnicodeDecodeError as error:
                    raise not_utf8(self.path, number, line[error.start]) from error

    def _must_be_the_same(self, watched: "_Watched", error: Exception | None) -> None:
        if watched.rest() != self.sha256:
            raise BadInput(
                f"{str(self.path)!r} has changed while it was read. A table is gone through more than once and must "
                "stay as it is meanwhile. Wait until whoever writes it is done, or read a copy."
            ) from error


class _Watched(io.RawIOBase):
    """A file whose checksum is taken as it is read."""

    def __init__(self, file: io.FileIO) -> None:
        self._file, self._sha = file, hashlib.sha256()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        n = self._file.readinto(buffer) or 0
        self._sha.update(memoryview(buffer)[:n])
        return n

    def rest(self) -> str:
        """The checksum of the whole file, however much of it was read."""
        while chunk := self._file.read(_CHUNK):
            self._sha.update(chunk)
        return self._sha.hexdigest()


def unreadable(path: Path, error: OSError) -> BadInput:
    """The error for a file that cannot be opened; names the tables beside it."""
    beside = sorted(
        one.name for one in path.parent.glob("*") if one.name.removesuffix(".gz").endswith(FORMATS)
    )
    there = f"Beside it there is: {', '.join(beside[:8])}" if beside else "There is no table beside it"
    return BadInput(
        f"{str(path)!r} cannot be read ({error.strerror}). {there}. Correct the path (looked for "
        f"{path.absolute()})."
    )


def damaged(path: Path, error: Exception) -> BadInput:
    """The error for a gzip file that does not unpack."""
    return BadInput(
        f"{str(path)!r} is a damaged gzip file ({error}). A whole one can be unpacked with gunzip. Copy it again."
    )


def not_utf8(path: Path, line: int, byte: int) -> BadInput:
    """The error for a byte that is no text."""
    return BadInput(
        f"{str(path)!r}, line {line}: the byte {byte:#04x} is not UTF-8. Tables are UTF-8. "
        "Convert the file, for example with: iconv -f latin1 -t utf-8"
    )


def _unpacked(watched: _Watched) -> BinaryIO:
    raw = io.BufferedReader(watched, _CHUNK)
    if not raw.peek(2).startswith(GZIP):
        return raw
    return io.BufferedReader(gzip.GzipFile(fileobj=raw), _CHUNK)


def _decodes(decoder: codecs.IncrementalDecoder, chunk: bytes, final: bool = False) -> bool:
    try:
        decoder.decode(chunk, final)
    except UnicodeDecodeError:
        return False
    return True


def _stays(path: Path) -> bool:
    """Whether it can be read again; a folder is refused when it is opened."""
    mode = path.stat().st_mode
    return stat.S_ISREG(mode) or stat.S_ISDIR(mode)


def _copied(path: Path, owner: object) -> Path:
    """What came through a pipe, in a file that goes when its owner does."""
    with path.open("rb") as pipe, tempfile.NamedTemporaryFile(delete=False) as file:
        weakref.finalize(owner, Path(file.name).unlink, missing_ok=True)
        shutil.copyfileobj(pipe, file, _CHUNK)
    return Path(file.name)
