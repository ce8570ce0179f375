"""Tables people bring: JSONL, JSON, CSV and TSV, gzipped or not, read into rows that remember their line."""

import codecs
import csv
import gzip
import io
import json
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from vlmtools.errors import BadInput
from vlmtools.responders._passes import FORMATS, GZIP, Passes, damaged, not_utf8, unreadable
from vlmtools.responders._rows import Row
from vlmtools.store import spool
from vlmtools.types import Json


@dataclass(frozen=True, slots=True)
class Table:
    """A file of rows, gone through as often as needed; few are kept, many are read from the file every time.

    Args:
        path: The file.
        sha256: Of the file as it lies on disk.
        few: All rows, unless they are many.
        read: Reads them anew.
    """

    path: Path
    sha256: str
    few: tuple[Row, ...] | None
    read: Callable[[], Iterator[Row]]

    def __iter__(self) -> Iterator[Row]:
        """The rows in order, at least one.

        Raises:
            BadInput: The file has changed since it was opened.
        """
        return self.read() if self.few is None else iter(self.few)

    @property
    def rows(self) -> tuple[Row, ...]:
        """All of them at once, for tables that fit in memory."""
        return tuple(self) if self.few is None else self.few


def stem(path: Path) -> str:
    """A file's name without `.gz` and without the extension before it: what a recorded source is called."""
    return Path(path.name.removesuffix(".gz")).stem


def read_table(
    path: Path,
    id_field: str = "id",
    text_field: str = "text",
    seen: Callable[[Row], object] = lambda row: None,
) -> Table:
    """Open a file of rows, and go through all of them once, so that whatever is wrong with the file is told now.

    Args:
        path: `.jsonl`, `.json` (a list of objects, or an object id → text or id → object), `.csv` or `.tsv`,
            also with `.gz` behind; UTF-8. JSON is parsed as a whole, the others are read line by line.
        id_field: Field that receives the ids of a JSON object.
        text_field: Field that receives the texts of a JSON object.
        seen: Shown every row on the way.

    Raises:
        BadInput: No such file, another format, not UTF-8, not JSON, or no rows.
    """
    kind = Path(path.name.removesuffix(".gz")).suffix.lower()
    if kind not in FORMATS:
        raise BadInput(
            f"{str(path)!r} ends in {kind or 'nothing'!r}, which is no table known here. Known are "
            f"{', '.join(FORMATS)}, each also as .gz. Convert the file, or rename it when it is one of "
            "these."
        )
    file = Passes(path)
    read = _reader(kind, file, id_field, text_field)
    few = _few(read(), seen, sys.maxsize if kind == ".json" else spool.MOST)
    if few == ():
        raise BadInput(
            f"{str(path)!r} has no rows. A table has one row per item. Check how the file was written."
        )
    return Table(path, file.sha256, few, read)


def _reader(kind: str, file: Passes, id_field: str, text_field: str) -> Callable[[], Iterator[Row]]:
    if kind == ".json":
        return lambda: _json(file.path, file.text(), id_field, text_field)
    if kind == ".jsonl":
        return lambda: _jsonl_rows(file)
    return lambda: _csv_rows(file, "," if kind == ".csv" else "\t")


def _few(rows: Iterator[Row], seen: Callable[[Row], object], most: int) -> tuple[Row, ...] | None:
    """The rows, unless there are more than that."""
    kept: list[Row] = []
    n = 0
    for n, row in enumerate(rows, start=1):
        seen(row)
        if n <= most:
            kept.append(row)
        else:
            kept.clear()
    return None if n > most else tuple(kept)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise unreadable(path, error) from error


def _unzipped(path: Path, raw: bytes) -> bytes:
    if not raw.startswith(GZIP):
        return raw
    try:
        return gzip.decompress(raw)
    except (OSError, EOFError, zlib.error) as error:
        raise damaged(path, error) from error


def _decoded(path: Path, raw: bytes) -> str:
    body = raw.removeprefix(codecs.BOM_UTF8)
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        raise not_utf8(path, body.count(b"\n", 0, error.start) + 1, body[error.start]) from error


def _jsonl_rows(file: Passes) -> Iterator[Row]:
    with file.open() as stream:
        yield from _numbered(file.path, _lines(stream))


def _lines(stream: Iterable[bytes]) -> Iterator[str]:
    encoding = "utf-8-sig"
    for line in stream:
        yield line.decode(encoding).removesuffix("\n")
        encoding = "utf-8"


def _jsonl(path: Path, text: str) -> Iterator[Row]:
    # Only "\n" ends a line: splitlines() would also break at U+2028 and others, which JSON text may hold.
    return _numbered(path, text.split("\n"))


def _numbered(path: Path, lines: Iterable[str]) -> Iterator[Row]:
    begins = ""
    for number, line in enumerate(lines, start=1):
        if said := line.strip():
            begins = begins or said[0]
            where = f"{str(path)!r}, line {number}"
            yield _object(where, _parsed(where, line, _jsonl_hint(begins)))


def _jsonl_hint(begins: str) -> str:
    if begins == "[":
        return "The file looks like one JSON list: rename it to .json."
    return "Correct the line, or remove it when the file was cut off there."


def _json(path: Path, text: str, id_field: str, text_field: str) -> Iterator[Row]:
    whole = _parsed(repr(str(path)), text, "Rename it to .jsonl when it has one object per line.")
    if isinstance(whole, dict):
        for key, value in whole.items():
            inner = value if isinstance(value, dict) else {text_field: value}
            yield Row(f"{str(path)!r}, entry {key!r}", {id_field: key, **inner})
    elif isinstance(whole, list):
        for number, value in enumerate(whole, start=1):
            yield _object(f"{str(path)!r}, row {number}", value)
    else:
        raise BadInput(
            f"{str(path)!r} holds a {type(whole).__name__}. A .json table is a list of objects, or one "
            "object id → text. Change how it is written."
        )


def _parsed(where: str, text: str, advice: str) -> Json:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{where} is not JSON ({error}). Every row is one JSON object. {advice}") from error


def _object(where: str, value: Json) -> Row:
    if isinstance(value, dict):
        return Row(where, value)
    raise BadInput(
        f"{where} is a {type(value).__name__}, not an object. A row is an object such as "
        """{"id": "1", "text": "A dog."}. Change how the file is written."""
    )


def _csv_rows(file: Passes, delimiter: str) -> Iterator[Row]:
    with file.open() as stream:
        yield from _csv(file.path, io.TextIOWrapper(stream, "utf-8-sig", newline=""), delimiter)


def _csv(path: Path, lines: Iterable[str], delimiter: str) -> Iterator[Row]:
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    try:
        header = _record(reader) or []
        _unique_header(path, header)
        while (cells := _record(reader)) is not None:
            if cells:
                yield Row(
                    f"{str(path)!r}, line {reader.line_num}", _cells(path, reader.line_num, header, cells)
                )
    except csv.Error as error:
        raise BadInput(
            f"{str(path)!r}, line {reader.line_num}: {error}. A cell with quotes or line breaks stands in "
            "double quotes, and a quote inside it is doubled. Correct the line, or write JSONL."
        ) from error


def _record(reader: Iterator[list[str]]) -> list[str] | None:
    """The next record, however long its cells; the limit is everybody's, and several tables may be half read."""
    limit = csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    try:
        return next(reader, None)
    finally:
        csv.field_size_limit(limit)


def _unique_header(path: Path, header: list[str]) -> None:
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise BadInput(
            f"{str(path)!r}, line 1: the column {twice[0]!r} is there twice. The columns are "
            f"{', '.join(header)}. Rename one."
        )


def _cells(path: Path, number: int, header: list[str], cells: list[str]) -> dict[str, Json]:
    if len(cells) != len(header):
        raise BadInput(
            f"{str(path)!r}, line {number} has {len(cells)} cells. The header has {len(header)}: "
            f"{', '.join(header)}. Quote cells that hold the separator or a line break."
        )
    return dict(zip(header, cells, strict=True))
