"""Pictures as models and servers want them: opened, turned upright, in RGB, or as a `data:` URL."""

import base64
import binascii
import io
import warnings
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes
from urllib.request import urlopen

from vlmtools.errors import BadInput, NotInstalled
from vlmtools.types import Request

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_DOWNLOAD_BYTES = 64 * 2**20
"""A picture behind a URL that is longer than this is refused."""
STORES = (
    "file://",
    "s3://",
    "gs://",
    "gcs://",
    "az://",
    "abfs://",
    "abfss://",
    "hdfs://",
    "hf://",
    "memory://",
)
"""Addresses that fsspec opens: storage that whoever runs this has access to, as to a mounted folder."""


def is_url(source: str) -> bool:
    """True for `http(s):` and `data:` addresses, False for paths."""
    return source[:8].lower().startswith(("http://", "https://", "data:"))


def in_a_store(source: str) -> bool:
    """True for addresses of object stores and of files, such as `s3://bucket/name.jpg`."""
    return source[:9].lower().startswith(STORES)


def prompt_text(request: Request) -> str:
    """What a model reads: the item's passage, when it has one and may be shown, and the prompt."""
    passage = request.sample.text if request.show_media else None
    return f"{passage}\n\n{request.sample.prompt}" if passage else request.sample.prompt


def load_image(source: "str | Path | Image", *, allow_urls: bool = False) -> "Image":
    """Open a picture, turn it as its EXIF orientation says, and convert it to RGB.

    Args:
        source: Path, `data:` URL, `http(s)` URL, or an opened picture.
        allow_urls: Fetch `http(s)` URLs; otherwise they are refused, so that nothing reaches the network
            unasked.

    Raises:
        BadInput: It does not exist, cannot be read as a picture, or is a URL that may not be fetched.
    """
    from PIL import Image, ImageOps

    if isinstance(source, Image.Image):
        return _rgb(ImageOps.exif_transpose(source))
    data = read_bytes(source, allow_urls=allow_urls)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # odd EXIF blocks and huge pictures warn; what cannot be read raises
            with Image.open(io.BytesIO(data)) as image:
                return _rgb(ImageOps.exif_transpose(image))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise BadInput(
            f"{_shown(source)} cannot be read as a picture ({len(data)} bytes: {_why(error)}). "
            "Readable are the formats Pillow knows (JPEG, PNG, WebP, GIF, …). Repair or replace the file."
        ) from None


def data_url(source: str) -> str:
    """The picture as a `data:` URL, its bytes untouched; `http(s)` and `data:` URLs come back as they are.

    Args:
        source: Path or URL of the picture.

    Raises:
        BadInput: The path does not exist or does not hold a picture.
    """
    if is_url(source):
        return source
    data = read_bytes(source)
    return f"data:{_mime(source, data)};base64,{base64.b64encode(data).decode('ascii')}"


def read_bytes(source: str | Path, *, allow_urls: bool = False) -> bytes:
    """The bytes behind a path, an address of an object store, a `data:` URL or, when allowed, an `http(s)` URL.

    Raises:
        BadInput: There is nothing to read, or reading it is not allowed.
    """
    if isinstance(source, str) and is_url(source):
        return _from_data_url(source) if source[:5].lower() == "data:" else _download(source, allow_urls)
    if isinstance(source, str) and in_a_store(source):
        return _from_store(source)
    try:
        return Path(source).expanduser().read_bytes()
    except OSError as error:
        raise BadInput(
            f"The picture {_shown(source)} cannot be opened: {error.strerror or error}. Relative paths count from "
            f"the current folder, {Path.cwd()}. Correct the path in the data file."
        ) from None
    except ValueError as error:
        raise BadInput(
            f"{_shown(source)} is not a path: {error}. Correct the path in the data file."
        ) from None


def _from_data_url(source: str) -> bytes:
    head, _, body = source.partition(",")
    try:
        raw = unquote_to_bytes(body)
        return base64.b64decode(raw, validate=True) if head.endswith(";base64") else raw
    except binascii.Error as error:
        raise BadInput(
            f"The data: URL {_shown(source)} is not valid base64: {error}. Write it anew."
        ) from None


def _download(source: str, allowed: bool) -> bytes:
    if not allowed:
        raise BadInput(
            f"The picture {_shown(source)} lies on the network, which is not used unless asked. "
            "Save it to a file and name its path, or allow URLs (allow_urls=True)."
        )
    try:
        with urlopen(source, timeout=60) as response:
            data: bytes = response.read(MAX_DOWNLOAD_BYTES + 1)
    except OSError as error:
        raise BadInput(
            f"The picture {_shown(source)} cannot be fetched: {error}. Save it to a file first."
        ) from None
    if len(data) > MAX_DOWNLOAD_BYTES:
        raise BadInput(
            f"The picture {_shown(source)} is over {MAX_DOWNLOAD_BYTES >> 20} MiB. Save a smaller copy."
        )
    return data


def _from_store(source: str) -> bytes:
    import fsspec  # comes with huggingface_hub; its drivers of object stores are packages of their own

    try:
        with fsspec.open(source, "rb") as file:
            data: bytes = file.read(MAX_DOWNLOAD_BYTES + 1)
    except ImportError as error:
        raise NotInstalled(
            f"{_shown(source)} lies in an object store whose driver is not installed ({error}). Install it, for "
            "example `pip install s3fs` or `gcsfs`, on every node, or mount the storage and give paths."
        ) from None
    except Exception as error:  # every driver has errors of its own
        raise BadInput(
            f"The picture {_shown(source)} cannot be read: {_why(error)}. Check the address and this node's "
            "credentials."
        ) from None
    if len(data) > MAX_DOWNLOAD_BYTES:
        raise BadInput(
            f"The picture {_shown(source)} is over {MAX_DOWNLOAD_BYTES >> 20} MiB. Save a smaller copy."
        )
    return data


def _mime(source: str, data: bytes) -> str:
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data)) as image:
                return Image.MIME.get(image.format or "", "application/octet-stream")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise BadInput(
            f"{_shown(source)} is not a picture ({len(data)} bytes: {_why(error)}). Servers are sent the "
            "formats Pillow knows (JPEG, PNG, WebP, GIF, …). Repair or replace the file."
        ) from None


def _rgb(image: "Image") -> "Image":
    # a palette with transparent entries must pass through RGBA, or Pillow warns and guesses
    return (image.convert("RGBA") if "transparency" in image.info else image).convert("RGB")


def _shown(source: object) -> str:
    text = str(source)
    return repr(text if len(text) <= 120 else f"{text[:60]}…({len(text)} characters)")


def _why(error: BaseException) -> str:
    name, text = type(error).__name__, str(error)
    return name if not text or "BytesIO" in text else f"{name}: {text}"
