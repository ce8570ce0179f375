"""Tables people bring: JSONL, JSON, CSV and TSV, gzipped or not, read into rows that remember their line."""

import csv
import gzip
import hashlib
import io
import json
import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vlmtools.errors import BadInput
from vlmtools.responders._rows import Row
from vlmtools.types import Json

FORMATS = (".jsonl", ".json", ".csv", ".tsv")


@dataclass(frozen=True, slots=True)
class Table:
    """A file of rows.

    Args:
        path: The file.
        rows: Never empty.
        sha256: Of the file as it lies on disk.
    """

    path: Path = Path()
    rows: tuple[Row, ...] = ()
    sha256: str = ""


def stem(path: Path) -> str:
    """A file's name without `.gz` and without the extension before it: what a recorded source is called."""
    return Path(path.name.removesuffix(".gz")).stem


def read_table(path: Path, id_field: str = "id", text_field: str = "text") -> Table:
    """Read a file of rows.

    Args:
        path: `.jsonl`, `.json` (a list of objects, or an object id → text or id → object), `.csv` or `.tsv`,
            also with `.gz` behind; UTF-8.
        id_field: Field that receives the ids of a JSON object.
        text_field: Field that receives the texts of a JSON object.

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
    raw = _bytes(path)
    text = _decoded(path, _unzipped(path, raw))
    if kind == ".jsonl":
        rows = tuple(_jsonl(path, text))
    elif kind == ".json":
        rows = tuple(_json(path, text, id_field, text_field))
    else:
        rows = tuple(_csv(path, text, "," if kind == ".csv" else "\t"))
    if not rows:
        raise BadInput(
            f"{str(path)!r} has no rows. A table has one row per item. Check how the file was written."
        )
    return Table(path, rows, hashlib.sha256(raw).hexdigest())


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        beside = sorted(
            one.name for one in path.parent.glob("*") if one.name.removesuffix(".gz").endswith(FORMATS)
        )
        there = f"Beside it there is: {', '.join(beside[:8])}" if beside else "There is no table beside it"
        raise BadInput(
            f"{str(path)!r} cannot be read ({error.strerror}). {there}. Correct the path (looked for "
            f"{path.absolute()})."
        ) from error


def _unzipped(path: Path, raw: bytes) -> bytes:
    if not raw.startswith(b"\x1f\x8b"):
        return raw
    try:
        return gzip.decompress(raw)
    except (OSError, EOFError, zlib.error) as error:
        raise BadInput(
            f"{str(path)!r} is a damaged gzip file ({error}). A whole one can be unpacked with gunzip. Copy "
            "it again."
        ) from error


def _decoded(path: Path, raw: bytes) -> str:
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise BadInput(
            f"{str(path)!r}, line {line}: the byte {raw[error.start]:#04x} is not UTF-8. Tables are UTF-8. "
            "Convert the file, for example with: iconv -f latin1 -t utf-8"
        ) from error


def _jsonl(path: Path, text: str) -> Iterator[Row]:
    # Only "\n" ends a line: splitlines() would also break at U+2028 and others, which JSON text may hold.
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            where = f"{str(path)!r}, line {number}"
            yield _object(where, _parsed(where, line, _jsonl_hint(text)))


def _jsonl_hint(text: str) -> str:
    if text.lstrip().startswith("["):
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


def _csv(path: Path, text: str, delimiter: str) -> Iterator[Row]:
    limit = csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        header = next(reader, [])
        _unique_header(path, header)
        for cells in reader:
            if cells:
                yield Row(
                    f"{str(path)!r}, line {reader.line_num}", _cells(path, reader.line_num, header, cells)
                )
    except csv.Error as error:
        raise BadInput(
            f"{str(path)!r}, line {reader.line_num}: {error}. A cell with quotes or line breaks stands in "
            "double quotes, and a quote inside it is doubled. Correct the line, or write JSONL."
        ) from error
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
