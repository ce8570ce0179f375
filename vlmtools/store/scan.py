"""Reading a JSONL file of a run folder from end to end, and putting right what a crash did to it."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from vlmtools import lines
from vlmtools.store.files import sync_folder


class Piece(NamedTuple):
    """Consecutive bytes of a file.

    Args:
        start: Where they begin.
        raw: The bytes; for a record without its line break.
        key: The record's key, or None when this is not a record.
        whole: True for a record on a line of its own.
    """

    start: int
    raw: bytes
    key: str | None
    whole: bool


def scan(path: Path) -> Iterator[Piece]:
    """Every record and everything that is none, in file order; nothing that is appended after the start."""
    with path.open("rb") as file:
        left, start = os.fstat(file.fileno()).st_size, 0
        for line in file:
            line = line[: left - start]
            if not line:
                return
            yield from _pieces(start, line)
            start += len(line)


def _pieces(start: int, line: bytes) -> Iterator[Piece]:
    if line.endswith(b"\n"):
        key = lines.key_of(line[:-1])
        if key is not None:
            yield Piece(start, line[:-1], key, True)
            return
    done = 0
    for begin, end in lines.salvage(line):
        if begin > done:
            yield Piece(start + done, line[done:begin], None, False)
        yield Piece(start + begin, line[begin:end], lines.key_of(line[begin:end]), False)
        done = end
    if done < len(line):
        yield Piece(start + done, line[done:], None, False)


def looks_torn(path: Path) -> bool:
    """Whether a file without any record may be the beginning of one."""
    with path.open("rb") as file:
        return lines.begins(file.read(64))


def repair(path: Path, aside: Path, repeated: set[int]) -> int:
    """Keep every record, on a line of its own, and move everything else to the end of another file.

    Args:
        path: The file to put right.
        aside: Where to what is taken out; one JSON line each, with its position and its bytes.
        repeated: Where records start whose key stood further up already.

    Returns:
        How many pieces were moved aside.
    """
    moved = _move_aside(path, aside, repeated)
    clean = _clean_prefix(path, repeated)
    if any(piece.start >= clean and _kept(piece, repeated) for piece in scan(path)):
        _rewrite(path, repeated)
    else:
        _cut(path, clean)
    return moved


def _kept(piece: Piece, repeated: set[int]) -> bool:
    return piece.key is not None and piece.start not in repeated


def _move_aside(path: Path, aside: Path, repeated: set[int]) -> int:
    moved = 0
    with aside.open("ab") as out:
        for piece in scan(path):
            if _kept(piece, repeated) or piece.raw == b"\n":
                continue
            why = "damaged" if piece.key is None else "repeated key"
            # Bytes that are not UTF-8 become lone surrogates, which JSON escapes: nothing is lost.
            note = {"offset": piece.start, "why": why, "bytes": piece.raw.decode("utf-8", "surrogateescape")}
            out.write(json.dumps(note).encode() + b"\n")
            moved += 1
        out.flush()
        os.fsync(out.fileno())
    return moved


def _clean_prefix(path: Path, repeated: set[int]) -> int:
    for piece in scan(path):
        if not (piece.whole and _kept(piece, repeated)):
            return piece.start
    return path.stat().st_size


def _cut(path: Path, size: int) -> None:
    with path.open("r+b") as file:
        file.truncate(size)
        os.fsync(file.fileno())


def _rewrite(path: Path, repeated: set[int]) -> None:
    draft = path.with_name(f".{path.name}.tmp")
    with draft.open("wb") as out:
        for piece in scan(path):
            if _kept(piece, repeated):
                out.write(piece.raw + b"\n")
        out.flush()
        os.fsync(out.fileno())
    draft.replace(path)
    sync_folder(path.parent)
