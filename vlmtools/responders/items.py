"""What every model is asked about: item files, and folders of pictures."""

import glob
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from operator import eq
from pathlib import Path
from typing import Any, Self, overload

from vlmtools.errors import BadInput
from vlmtools.responders._rows import Row
from vlmtools.responders._spools import counts, samples_spool
from vlmtools.responders._tables import read_table
from vlmtools.store.spool import Spool
from vlmtools.types import Sample

PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
_MEDIA = ("image", "video", "audio")
_KNOWN = ("id", "prompt", "text", "reference", *_MEDIA)
_ADDRESS = re.compile(r"^(data:|[a-z][a-z0-9+.-]+://)", re.IGNORECASE)


class Items(Sequence[Sample]):
    """Samples in order, each id once: few in memory, many in a temporary file.

    A sample comes back made anew. Slices are `Items` again. Not for several threads at once.

    Args:
        samples: To begin with; their `extra` holds what JSON can hold.

    Raises:
        BadInput: An id is there twice.
    """

    def __init__(self, samples: Iterable[Sample] = ()) -> None:
        self._all = samples_spool()
        for sample in samples:
            if not self.add(sample):
                raise BadInput(f"Two items are called {sample.id!r}. Ids are unique. Rename one.")

    @property
    def by_id(self) -> Mapping[str, Sample]:
        """The same samples by their ids."""
        return self._all

    def add(self, sample: Sample) -> bool:
        """Append a sample; False, and nothing happens, when there is one with its id."""
        return self._all.add(sample.id, sample)

    def put(self, sample: Sample) -> None:
        """Put a sample in the place of the one with its id, or append it."""
        self._all[sample.id] = sample

    def change(self, changed: Callable[[Sample], Sample]) -> Self:
        """Put what `changed` makes of a sample in its place, for every sample.

        Args:
            changed: Leaves the id as it is.
        """
        for sample in self:
            new = changed(sample)
            if new is not sample:
                self.put(new)
        return self

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Sample]: ...
    def __getitem__(self, index: int | slice) -> Sample | Sequence[Sample]:
        """One sample, or some of them."""
        places = range(len(self))[index]
        if isinstance(places, int):
            return next(self._stretch(places, places + 1))
        if places == range(len(self)):
            return self
        if places.step == 1:
            return Items(self._stretch(places.start, places.stop))
        return [self[place] for place in places]

    def __iter__(self) -> Iterator[Sample]:
        """The samples in order."""
        return iter(self._all.values())

    def __len__(self) -> int:
        """Number of samples."""
        return len(self._all)

    def __eq__(self, other: object) -> bool:
        """Equal to any sequence of equal samples."""
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(map(eq, self, other))

    __hash__ = None  # type: ignore[assignment]

    def _stretch(self, start: int, stop: int) -> Iterator[Sample]:
        return (sample for _, sample in self._all.stretch(start, stop))


def read_items(path: str | Path) -> Items:
    """Read an item file, in file order.

    Args:
        path: A table with the fields `id`, `image`, `video`, `audio`, `text`, `prompt`, `reference`, all
            optional; others are kept in `extra`. Relative media paths start at the file's folder. A row
            without an id is called by its medium's file name without extension, else by its number.

    Raises:
        BadInput: The file cannot be read, or two different rows have the same id.
    """
    table = read_table(Path(path))
    names, found = counts(), Items()
    for number, row in enumerate(table, start=1):
        sample = _item(row, number, table.path.parent, names)
        if not found.add(sample) and found.by_id[sample.id] != sample:
            raise BadInput(
                f"{row.where}: the id {sample.id!r} belongs to an earlier row with other content. Ids are "
                "unique. Rename one."
            )
    return found


def items_from_images(pattern: str, prompt: str = "") -> Items:
    """One item per picture, in the order of their names, with 2 before 10.

    Args:
        pattern: A folder, or a pattern such as `photos/*.jpg` or `photos/**/*.png`.
        prompt: The question about every picture.

    Raises:
        BadInput: Nothing matches.
    """
    return pictures(matching(pattern), prompt)


def pictures(paths: Collection[str], prompt: str = "") -> Items:
    """One item per picture, called by its file name without extension, or by its path where that is not unique.

    Args:
        paths: Different from one another.
        prompt: The question about every picture.
    """
    stems = counts()
    for path in paths:
        name = Path(path).stem
        if not stems.add(name, 1):
            stems[name] = 2
    named = ((Path(path).stem, path) for path in paths)
    return Items(Sample(name if stems[name] == 1 else path, prompt, image=path) for name, path in named)


def matching(pattern: str) -> list[str]:
    """The pictures that a pattern names, in the order of their names, with 2 before 10.

    Args:
        pattern: A folder, or a pattern.

    Raises:
        BadInput: There are none.
    """
    wanted = f"{glob.escape(pattern)}/*" if Path(pattern).is_dir() else pattern
    found = sorted(_pictures(glob.iglob(wanted, recursive=True)), key=_natural)  # noqa: PTH207 (absolute ones too)
    if not found:
        raise BadInput(
            f"No picture matches {pattern!r} (from {Path.cwd()}). Pictures end in {', '.join(PICTURES)}. "
            "Correct the pattern, and quote it so that the shell does not expand it."
        )
    return [name for name, _ in groupby(found)]  # a pattern with ** finds some of them twice


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


def _item(row: Row, number: int, folder: Path, names: Spool[int]) -> Sample:
    media = media_of(row, folder, must=True)
    return Sample(
        id=_id(row, number, next(iter(media.values()), None), names),
        prompt=row.optional("prompt") or "",
        text=row.optional("text"),
        reference=row.optional("reference"),
        extra={name: value for name, value in row.fields.items() if name not in _KNOWN},
        **media,
    )


def _id(row: Row, number: int, medium: str | None, names: Spool[int]) -> str:
    if row.fields.get("id") not in (None, ""):
        return row.id("id")
    if medium is None or medium.startswith("data:"):
        return str(number)
    name = Path(medium).stem
    if names.add(name, 1):
        return name
    names[name] = n = names[name] + 1
    return f"{name}-{n}"


def _pictures(names: Iterable[str]) -> Iterator[str]:
    return (name for name in names if name.lower().endswith(PICTURES) and Path(name).is_file())


def _natural(name: str) -> bytes:
    """A key that sorts as a list would that holds the numbers of the name as numbers, in a fifth of its memory."""
    parts = (_ordered(part) for part in re.split(r"(\d+)", name) if part)
    return b"".join(parts) + b"\0" + name.encode("utf-8", "surrogatepass")


def _ordered(part: str) -> bytes:
    """A part of a name: any number comes before any text, a number with fewer digits before one with more."""
    if part.isdecimal():
        digits = str(int(part)).encode()
        return b"\1" + len(digits).to_bytes(2, "big") + digits
    return b"\2" + part.encode("utf-8", "surrogatepass") + b"\0"
