"""Pictures in object stores are read through fsspec, on whatever machine asks."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from PIL import Image

from vlmtools.errors import BadInput, NotInstalled
from vlmtools.evaluate.media import located
from vlmtools.media import data_url, in_a_store, load_image
from vlmtools.store import media_hash
from vlmtools.types import Sample


def png(colour: str) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (4, 3), colour).save(out, "PNG")
    return out.getvalue()


@pytest.fixture
def bucket() -> Iterator[None]:
    fs = MemoryFileSystem()
    fs.pipe("/bucket/red.png", png("red"))
    yield
    fs.rm("/bucket", recursive=True)


def test_a_picture_in_a_store_is_opened_and_sent(bucket: None) -> None:
    image = load_image("memory://bucket/red.png")
    assert (image.size, image.getpixel((0, 0))) == ((4, 3), (255, 0, 0))
    assert data_url("memory://bucket/red.png").startswith("data:image/png;base64,")


def test_a_file_address_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "blue.png").write_bytes(png("blue"))
    assert load_image(f"file://{tmp_path}/blue.png").getpixel((0, 0)) == (0, 0, 255)


def test_the_scheme_decides_and_http_is_none_of_them() -> None:
    assert in_a_store("S3://bucket/a.jpg")
    assert not any(
        in_a_store(one) for one in ("http://a/b.jpg", "https://a/b.jpg", "data:image/png", "s3/a.jpg")
    )


def test_what_is_not_there_is_said() -> None:
    with pytest.raises(BadInput, match=r"memory://bucket/none\.png"):
        load_image("memory://bucket/none.png")


def test_a_missing_driver_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_driver(*_: Any, **__: Any) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec, "open", no_driver)
    with pytest.raises(NotInstalled, match="pip install s3fs"):
        load_image("s3://bucket/a.png")


def test_the_address_stands_for_the_picture_in_keys_and_in_benchmarks() -> None:
    assert media_hash("s3://bucket/a.png") == "s3://bucket/a.png"
    found, missing = located([Sample("a", image="s3://bucket/a.png")], None, None)
    assert found[0].image == "s3://bucket/a.png"
    assert not missing
