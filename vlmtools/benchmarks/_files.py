"""Reading the files of benchmarks and of answers: JSON lines, JSON lists, JSON objects, CSV; gzipped or not."""

import json
import re
from pathlib import Path

from vlmtools.errors import BadInput
from vlmtools.responders._rows import _ID_NAMES, _TEXT_NAMES, Row
from vlmtools.responders._tables import _bytes, _decoded, _json, _jsonl, _unzipped, read_table
from vlmtools.types import Json

_BLANKS = re.compile(r"[ \t\r\n]*")


def read_entries(path: Path) -> tuple[Row, ...]:
    """Every entry of a file, each remembering its line for messages.

    What is inside decides, not the name: many published `.json` files hold one object per line.

    Args:
        path: JSON lines, objects one after another over several lines each (POPE's captions), a list of objects, an
            object of objects (keys arrive as `id`), an object id → text (as `id` and `text`), `.csv` or `.tsv`; also
            with `.gz` behind.

    Raises:
        BadInput: It cannot be read, or holds no entry; names file and line.
    """
    if path.name.removesuffix(".gz").lower().endswith((".csv", ".tsv")):
        return read_table(path).rows
    text = _decoded(path, _unzipped(path, _bytes(path)))
    named = path.name.removesuffix(".gz").lower().endswith(".jsonl")
    lines = _is_lines(text) or (named and not _is_whole(text))
    rows = _one_after_another(path, text) or tuple(
        _jsonl(path, text) if lines else _json(path, text, "id", "text")
    )
    if not rows:
        raise BadInput(
            f"{str(path)!r} has no entries. It should have one per item. Check how it was written."
        )
    return rows


def read_json(path: Path) -> Json:
    """The content of a JSON file, gzipped or not.

    Raises:
        BadInput: It cannot be read, or is not JSON.
    """
    text = _decoded(path, _unzipped(path, _bytes(path)))
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadInput(
            f"{str(path)!r} is not JSON ({error}). Copy it again from where it is published."
        ) from error


def _is_lines(text: str) -> bool:
    """Whether the first line is a whole object: one of several, or one that has the fields of an entry."""
    head, _, rest = text.strip().partition("\n")
    if not head.startswith("{"):
        return False
    try:
        first = json.loads(head)
    except (ValueError, RecursionError):
        return False
    return isinstance(first, dict) and bool(rest.strip() or first.keys() & {*_ID_NAMES, *_TEXT_NAMES})


def _is_whole(text: str) -> bool:
    """Whether a file called .jsonl holds one JSON list, or one object over several lines."""
    head = text.strip()
    if not head.startswith(("[", "{\n", "{\r")):
        return False
    try:
        return isinstance(json.loads(head), list | dict)
    except (ValueError, RecursionError):
        return False


def _one_after_another(path: Path, text: str) -> tuple[Row, ...]:
    """Objects that each go over several lines; nothing when the text is anything else, or is damaged."""
    if not text.lstrip().startswith(("{\n", "{\r")):
        return ()
    found: list[Row] = []
    place, number, decoder = _BLANKS.match(text).end(), 1, json.JSONDecoder()  # type: ignore[union-attr]
    before = 0
    while place < len(text):
        number, before = number + text.count("\n", before, place), place
        try:
            value, end = decoder.raw_decode(text, place)
        except (ValueError, RecursionError):
            return ()
        if not isinstance(value, dict):
            return ()
        found.append(Row(f"{str(path)!r}, line {number}", value))
        place = _BLANKS.match(text, end).end()  # type: ignore[union-attr]
    return tuple(found) if len(found) > 1 else ()
