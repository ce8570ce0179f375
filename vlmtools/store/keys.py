"""The identity of a call: what is computed once is found again under the same key, and nothing else is."""

import hashlib
import json
import math
import re
import time
from collections.abc import Mapping
from pathlib import Path

from vlmtools.errors import BadInput
from vlmtools.store.spool import Spool
from vlmtools.types import Json

SCHEMA = 1
"""Goes into every key: raised when a change of the code changes what a call gives."""

_URL = re.compile(r"^[a-z][a-z0-9+.-]+://", re.IGNORECASE)
_SETTLED_NS = 2_000_000_000
_hashes: Spool[str] = Spool(str, lambda _, digest: str(digest))


def call_key(kind: str, parts: Mapping[str, Json]) -> str:
    """The key of one call: equal parts give equal keys, on every machine and in every run.

    Args:
        kind: What the call gives: `answers`, `votes`, …
        parts: Everything that decides the result: the model (name, revision, quantisation, patches,
            processor), the prompt, the hash of every medium (`media_hash`), the decoding, draw and seed, and
            for votes the judge. The order of fields does not matter, and 1 is the same number as 1.0.

    Returns:
        32 hexadecimal digits.

    Raises:
        BadInput: A part is NaN, infinite, or nothing JSON can hold.
    """
    whole = json.dumps([SCHEMA, kind, plain(parts)], sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(whole.encode()).hexdigest()[:32]


def plain(value: Json, where: str = "") -> Json:
    """The same value as dicts, lists, strings, numbers, booleans and None; whole floats become integers.

    Args:
        value: What to look through.
        where: Path to `value`, for the message.

    Raises:
        BadInput: Something inside is NaN, infinite, or nothing JSON can hold.
    """
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return _number(value, where)
    if isinstance(value, Mapping):
        return {_name(key, where): plain(inner, f"{where}.{key}") for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(inner, f"{where}[{index}]") for index, inner in enumerate(value)]
    raise BadInput(
        f"{where or 'The value'} is a {type(value).__name__}, which JSON cannot hold. It can hold text, "
        "numbers, booleans, None, lists and dicts. Convert it first, for example with str() or float()."
    )


def _number(value: float, where: str) -> float | int:
    if not math.isfinite(value):
        raise BadInput(
            f"{where or 'The value'} is {value}, which equals nothing and cannot be stored. Any finite "
            "number can. Leave the field out, or use None."
        )
    return int(value) if value.is_integer() else value


def _name(key: Json, where: str) -> str:
    if isinstance(key, str):
        return key
    raise BadInput(
        f"{where or 'The value'} has the field name {key!r}, a {type(key).__name__}. Field names are text. "
        f"Use {str(key)!r}."
    )


def media_hash(where: str) -> str:
    """What a picture, video or sound is, for a key: the SHA-256 of a file, or an address on the web.

    An `http(s)` or other URL stands for itself: it is not fetched, so what lies behind it is taken to stay
    the same. A `data:` URL is hashed as it is written. The hash of a file is remembered until its size or
    time of change differs.

    Args:
        where: Path or URL.

    Raises:
        BadInput: There is no such file.
    """
    if where.startswith("data:"):
        return f"sha256:{hashlib.sha256(where.encode(errors='surrogatepass')).hexdigest()}"
    if _URL.match(where):
        return where
    path = Path(where)
    if not path.is_file():
        raise BadInput(
            f"There is no file {where!r} (looked for {path.absolute()}). Media are files, http(s) URLs or "
            "data: URLs. Correct the path; in an item file, paths are relative to that file."
        )
    return f"sha256:{file_hash(path)}"


def file_hash(path: Path) -> str:
    """SHA-256 of a file's content, read again only when its size or time of change differs."""
    state = path.stat()
    known = f"{path.absolute()}\0{state.st_size}\0{state.st_mtime_ns}"
    if known in _hashes:
        return _hashes[known]
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    # A file written a moment ago can change again without its coarse time of change showing it.
    if time.time_ns() - state.st_mtime_ns > _SETTLED_NS:
        _hashes[known] = digest
    return digest
