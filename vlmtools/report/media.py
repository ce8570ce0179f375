"""Pictures small enough to travel inside a page; whatever cannot be shown becomes words that say why."""

import base64
import binascii
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from vlmtools.report._text import one_line, shorten

if TYPE_CHECKING:
    from PIL.Image import Image

_FORMATS = ("BMP", "GIF", "JPEG", "MPO", "PNG", "PPM", "TIFF", "WEBP")
"""Formats that Pillow decodes by itself: none starts another program."""
_MOST_BYTES = 64 * 2**20
_MOST_PIXELS = 100_000_000


@dataclass(frozen=True)
class Picture:
    """What a card shows for one medium.

    Args:
        kind: image, video, audio.
        where: Path or URL as recorded.
        uri: The shrunk picture as a data URI; empty when there is none to show.
        width: Its width in pixels.
        height: Its height in pixels.
        why: Why there is none, in words; empty when there is one.
    """

    kind: str = "image"
    where: str = ""
    uri: str = ""
    width: int = 0
    height: int = 0
    why: str = ""

    @property
    def name(self) -> str:
        """The medium in a few words: the end of its path, or what kind of URL it is."""
        if self.where.startswith("data:"):
            return f"{self.kind} given as data"
        return shorten(one_line(self.where.replace("\\", "/").rpartition("/")[2] or self.where), 60)


@dataclass
class Album:
    """Shrinks every picture once and stops when the page would become too heavy.

    Args:
        root: Folder that relative paths are looked up in, after the current one.
        most: Most pictures.
        most_bytes: Most bytes of all data URIs together.
        side: Longest side of a picture in pixels.
    """

    root: Path | None = None
    most: int = 40
    most_bytes: int = 2_200_000
    side: int = 320
    _seen: dict[tuple[str, str], Picture] = field(default_factory=dict)
    _bytes: int = 0
    _count: int = 0

    def picture(self, kind: str, where: str) -> Picture:
        """The medium as it can be shown; never raises.

        Args:
            kind: image, video, audio.
            where: Path, `data:` URI or URL. URLs are never fetched.
        """
        key = (kind, where)
        if key not in self._seen:
            self._seen[key] = self._made(kind, where)
        return self._seen[key]

    def _made(self, kind: str, where: str) -> Picture:
        if kind != "image":
            return Picture(kind, where, why=f"{kind} is not shown in a report")
        if self._count >= self.most:
            return Picture(kind, where, why=f"left out: this report shows {self.most} pictures at most")
        made = inline(where, self.root, self.side)
        if self._bytes + len(made.uri) > self.most_bytes:
            return Picture(kind, where, why="left out to keep this report small")
        self._bytes += len(made.uri)
        self._count += bool(made.uri)
        return made


def inline(where: str, root: Path | None = None, side: int = 320) -> Picture:
    """One picture as a data URI, drawn anew, so that nothing of the original file but its pixels is kept.

    Args:
        where: Path, `data:` URI or URL. URLs are never fetched.
        root: Folder that relative paths are looked up in, after the current one.
        side: Longest side in pixels; smaller pictures keep their size.
    """
    try:
        content = _content(where, root)
    except (OSError, ValueError) as error:
        return Picture("image", where, why=str(error))
    try:
        return _shrunk(where, content, side)
    except (
        Exception
    ) as error:  # a decoder may raise anything on a damaged file, and a report must still come out
        return Picture("image", where, why=f"cannot be read as a picture ({type(error).__name__})")


def _content(where: str, root: Path | None) -> bytes:
    if where.startswith("data:"):
        return _from_data_uri(where)
    if "://" in where:
        raise ValueError("given as a URL, which a report does not fetch")
    places = [Path(where)] if root is None else [Path(where), root / where]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise ValueError("file not found")
    if found.stat().st_size > _MOST_BYTES:
        raise ValueError(f"file is larger than {_MOST_BYTES // 2**20} MiB")
    return found.read_bytes()


def _from_data_uri(where: str) -> bytes:
    head, _, body = where.partition(",")
    if not head.endswith(";base64"):
        raise ValueError("data URI is not base64")
    try:
        return base64.b64decode(body, validate=True)
    except binascii.Error as error:
        raise ValueError("data URI is damaged") from error


def _shrunk(where: str, content: bytes, side: int) -> Picture:
    from PIL import Image, ImageOps

    Image.init()  # Pillow knows few formats before
    known = [name for name in _FORMATS if name in Image.OPEN]
    with Image.open(io.BytesIO(content), formats=known) as opened:
        if opened.width * opened.height > _MOST_PIXELS:
            return Picture("image", where, why=f"has more than {_MOST_PIXELS:,} pixels")
        opened.draft("RGB", (2 * side, 2 * side))
        upright = ImageOps.exif_transpose(opened)
    upright.thumbnail((side, side), Image.Resampling.LANCZOS)
    body, mime = _encoded(upright)
    uri = f"data:image/{mime};base64,{base64.b64encode(body).decode('ascii')}"
    return Picture("image", where, uri, upright.width, upright.height)


def _encoded(image: "Image") -> tuple[bytes, str]:
    """JPEG, or PNG where that is smaller or where the picture is see-through."""
    clear = image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info
    png = _saved(image.convert("RGBA" if clear else "RGB"), "PNG", {"optimize": True})
    if clear:
        return png, "png"
    jpeg = _saved(image.convert("RGB"), "JPEG", {"quality": 82, "optimize": True})
    return (png, "png") if len(png) < len(jpeg) else (jpeg, "jpeg")


def _saved(image: "Image", kind: str, options: Mapping[str, int | bool]) -> bytes:
    image.info = {}
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()
