"""One record per line: JSON with its key first and a checksum last, so that damage is always seen.

    {"key":"4f1c…","item":"40468","text":"A man rides a wave.","crc":"9a0b1c2d"}

The checksum is the CRC-32 of every byte before `,"crc"`. Text is UTF-8; line separators and lone surrogates,
which models do write, are escaped, so a line never contains a line break and always decodes.
"""

import json
import re
import zlib
from collections.abc import Iterator, Mapping

from vlmtools.types import Json

_HEAD = b'{"key":"'
_TAIL = re.compile(rb',"crc":"[0-9a-f]{8}"\}')
_TAIL_BYTES = len(b',"crc":"00000000"}')
_RISKY = re.compile("[\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_RESERVED = ("key", "crc")
_written = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


def encode(key: str, record: Mapping[str, Json]) -> bytes:
    """The line that stores `record` under `key`, without its line break.

    Args:
        key: Not empty.
        record: Anything JSON can hold; lists come back for tuples, and a pair of surrogates as the character
            they mean.

    Raises:
        ValueError: NaN, infinity, or a field called `key` or `crc`.
        TypeError: An object JSON cannot hold.
    """
    if not key or any(name in record for name in _RESERVED):
        raise ValueError("a record needs a key of its own, and no field called 'key' or 'crc'")
    body = _RISKY.sub(_escaped, _written({"key": key, **record})).encode()[:-1]
    return body + _tail(body)


def key_of(line: bytes) -> str | None:
    """The key of a whole, undamaged line (without its line break); None for anything else."""
    if not line.startswith(_HEAD) or line[-_TAIL_BYTES:] != _tail(line[:-_TAIL_BYTES]):
        return None
    key = line[len(_HEAD) : line.find(b'"', len(_HEAD))]
    if b"\\" not in key:
        return key.decode()
    return str(json.loads(line)["key"])


def begins(chunk: bytes) -> bool:
    """Whether the bytes may be the beginning of a record."""
    return chunk[: len(_HEAD)] == _HEAD[: len(chunk)]


def decode(line: bytes) -> dict[str, Json] | None:
    """The record of a whole, undamaged line, its key included; None for anything else."""
    if key_of(line) is None:
        return None
    record: dict[str, Json] = json.loads(line)
    del record["crc"]
    return record


def salvage(chunk: bytes) -> Iterator[tuple[int, int]]:
    """(start, end) of every undamaged record in bytes that are no line: two lines whose break is gone."""
    ends = [match.end() for match in _TAIL.finditer(chunk)]
    done = 0
    for head in re.finditer(re.escape(_HEAD), chunk):
        start = head.start()
        for end in ends:
            if start >= done and end > start and key_of(chunk[start:end]) is not None:
                yield start, end
                done = end
                break


def _tail(body: bytes) -> bytes:
    return b',"crc":"%08x"}' % zlib.crc32(body)


def _escaped(match: re.Match[str]) -> str:
    return f"\\u{ord(match.group()):04x}"
