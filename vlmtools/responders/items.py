"""What every model is asked about: item files, and folders of pictures."""

import glob
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from vlmtools.errors import BadInput
from vlmtools.responders._rows import Row
from vlmtools.responders._tables import read_table
from vlmtools.types import Sample

PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
_MEDIA = ("image", "video", "audio")
_KNOWN = ("id", "prompt", "text", "reference", *_MEDIA)
_ADDRESS = re.compile(r"^(data:|[a-z][a-z0-9+.-]+://)", re.IGNORECASE)


def read_items(path: str | Path) -> list[Sample]:
    """Read an item file, in file order.

    Args:
        path: A table with the fields `id`, `image`, `video`, `audio`, `text`, `prompt`, `reference`, all
            optional; others are kept in `extra`. Relative media paths start at the file's folder. A row
            without an id is called by its medium's file name without extension, else by its number.

    Raises:
        BadInput: The file cannot be read, or two different rows have the same id.
    """
    table = read_table(Path(path))
    names = Counter[str]()
    samples: dict[str, Sample] = {}
    for number, row in enumerate(table.rows, start=1):
        sample = _item(row, number, table.path.parent, names)
        if samples.setdefault(sample.id, sample) != sample:
            raise BadInput(
                f"{row.where}: the id {sample.id!r} belongs to an earlier row with other content. Ids are "
                "unique. Rename one."
            )
    return list(samples.values())


def items_from_images(pattern: str, prompt: str = "") -> list[Sample]:
    """One item per picture, in the order of their names, with 2 before 10.

    Args:
        pattern: A folder, or a pattern such as `photos/*.jpg` or `photos/**/*.png`.
        prompt: The question about every picture.

    Raises:
        BadInput: Nothing matches.
    """
    wanted = f"{glob.escape(pattern)}/*" if Path(pattern).is_dir() else pattern
    found = sorted(_pictures(glob.iglob(wanted, recursive=True)), key=_natural)  # noqa: PTH207 (absolute ones too)
    if not found:
        raise BadInput(
            f"No picture matches {pattern!r} (from {Path.cwd()}). Pictures end in {', '.join(PICTURES)}. "
            "Correct the pattern, and quote it so that the shell does not expand it."
        )
    stems = Counter(Path(name).stem for name in found)
    ids = [Path(name).stem if stems[Path(name).stem] == 1 else name for name in found]
    return [Sample(id, prompt=prompt, image=name) for id, name in zip(ids, found, strict=True)]


def media_of(row: Row, folder: Path, must: bool) -> dict[str, Any]:
    """The media a row names, as paths or URLs that other parts can open.

    Args:
        row: The row.
        folder: The table's folder, where relative paths start.
        must: False leaves a path as it is written when no such file lies there.
    """
    named = {kind: row.optional(kind) for kind in _MEDIA}
    return {kind: _place(value, folder, must) for kind, value in named.items() if value is not None}


def _place(value: str, folder: Path, must: bool) -> str:
    if _ADDRESS.match(value) or Path(value).is_absolute():
        return value
    beside = folder / value
    return str(beside) if beside.exists() or (must and not Path(value).exists()) else value


def _item(row: Row, number: int, folder: Path, names: Counter[str]) -> Sample:
    media = media_of(row, folder, must=True)
    return Sample(
        id=_id(row, number, next(iter(media.values()), None), names),
        prompt=row.optional("prompt") or "",
        text=row.optional("text"),
        reference=row.optional("reference"),
        extra={name: value for name, value in row.fields.items() if name not in _KNOWN},
        **media,
    )


def _id(row: Row, number: int, medium: str | None, names: Counter[str]) -> str:
    if row.fields.get("id") not in (None, ""):
        return row.id("id")
    if medium is None or medium.startswith("data:"):
        return str(number)
    name = Path(medium).stem
    names[name] += 1
    return name if names[name] == 1 else f"{name}-{names[name]}"


def _pictures(names: Iterable[str]) -> set[str]:
    return {name for name in names if name.lower().endswith(PICTURES) and Path(name).is_file()}


def _natural(name: str) -> list[tuple[int, int, str]]:
    return [
        (0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", name) if part
    ]
