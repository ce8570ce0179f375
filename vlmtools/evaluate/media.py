"""Where the pictures, videos and sounds of a benchmark lie on this machine."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from vlmtools.errors import BadInput
from vlmtools.media import STORES
from vlmtools.types import Sample

FOLDERS = ("images", "videos", "audio")
"""Where media usually lie beside the data."""
_ADDRESSES = ("http://", "https://", "data:", *STORES)


def located(
    samples: Iterable[Sample], media: Path | None, data: Path | None
) -> tuple[list[Sample], list[Sample]]:
    """Items with their media by absolute path, and those with a medium that is nowhere.

    A name is looked for as it stands, then in the folder of media, then in the data's folder and in `images`, `videos`
    and `audio` there, each with its whole relative path and then by file name alone.

    Args:
        samples: The items.
        media: Folder with the media; None when the user gave none.
        data: The benchmark's data.

    Returns:
        (found, missing), each in the order given.
    """
    roots = _roots(media, data)
    found: list[Sample] = []
    missing: list[Sample] = []
    for sample in samples:
        places: dict[str, Any] = {kind: _place(where, roots) for kind, where in sample.media}
        if None in places.values():
            missing.append(sample)
        else:
            found.append(replace(sample, **places) if places else sample)
    return found, missing


def check_found(
    found: Sequence[Sample], missing: Sequence[Sample], media: Path | None, partial: bool
) -> None:
    """Refuse to ask about what cannot be shown.

    Args:
        found: Items whose media are there.
        missing: The others.
        media: Folder the user gave.
        partial: Go on with those that are there.

    Raises:
        BadInput: Media are missing and `partial` is False, or none is there.
    """
    if not missing or (partial and found):
        return
    first = dict(missing[0].media)
    where = "no folder was given" if media is None else f"it is not in {str(media)!r}"
    raise BadInput(
        f"{len(missing):,} of {len(found) + len(missing):,} items have a medium that is not here, first of them "
        f"{missing[0].id!r} with {next(iter(first.values()))!r} ({where}). Name the folder with --images, or add "
        "--partial to ask about those that are there."
    )


def _roots(media: Path | None, data: Path | None) -> list[Path]:
    beside = [] if data is None else [data if data.is_dir() else data.parent]
    inside = [one / name for one in beside for name in FOLDERS]
    return [*([media] if media is not None else []), *beside, *inside]


def _place(where: str, roots: Sequence[Path]) -> str | None:
    if where.startswith(_ADDRESSES):
        return where
    candidates = [
        Path(where),
        *(root / where for root in roots),
        *(root / Path(where).name for root in roots),
    ]
    there = next((path for path in candidates if path.is_file()), None)
    return None if there is None else str(there.absolute())
