"""Pictures in a page: small, upright, stripped of everything but their pixels, and never an error."""

import base64
import io
import re
from pathlib import Path

import pytest
from PIL import Image

from vlmtools.report.media import Album, Picture, inline


def opened(picture: Picture) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(picture.uri.partition(",")[2])))


def noise(path: Path, size: tuple[int, int] = (900, 600), **options: object) -> Path:
    Image.effect_noise(size, 80).convert("RGB").save(path, **options)  # type: ignore[arg-type]
    return path


def test_a_large_picture_is_shrunk_to_320_pixels(tmp_path: Path) -> None:
    made = inline(str(noise(tmp_path / "a.jpg")))
    assert (made.width, made.height) == (320, 213)
    assert opened(made).size == (320, 213)
    assert len(made.uri) < 60_000


def test_a_small_picture_keeps_its_size(tmp_path: Path) -> None:
    assert inline(str(noise(tmp_path / "a.png", (40, 30)))).width == 40


def test_a_turned_photo_stands_upright_and_loses_its_metadata(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "home address"
    made = opened(inline(str(noise(tmp_path / "a.jpg", (400, 200), exif=exif))))
    assert made.size == (160, 320)
    assert not made.getexif()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I", "F", "I;16"])
def test_every_kind_of_pixel_is_shown(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "a.tiff"
    Image.new(mode, (20, 10)).save(path)
    assert inline(str(path)).uri.startswith("data:image/")


@pytest.mark.parametrize(
    "content",
    [b"", b"no picture", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", b"\x89PNG\r\n\x1a\n"],
)
def test_a_file_that_is_no_picture_gives_a_reason(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.png").write_bytes(content)
    made = inline(str(tmp_path / "a.png"))
    assert made.uri == ""
    assert "cannot be read as a picture" in made.why


@pytest.mark.parametrize(
    ("where", "why"),
    [
        ("no/such/file.png", "not found"),
        ("https://example.org/a.png", "does not fetch"),
        ("file:///etc/hostname", "does not fetch"),
        ("data:image/png,abc", "not base64"),
        ("data:image/png;base64,@@", "damaged"),
        ("a\x00b", ""),
        ("x" * 5000, ""),
        ("", ""),
    ],
)
def test_what_cannot_be_read_gives_a_reason(where: str, why: str) -> None:
    made = inline(where)
    assert made.uri == ""
    assert made.why
    assert why in made.why


def test_a_data_uri_is_drawn_anew(tmp_path: Path) -> None:
    uri = "data:image/png;base64," + base64.b64encode(noise(tmp_path / "a.png").read_bytes()).decode()
    assert inline(uri).width == 320
    assert Picture("image", uri).name == "image given as data"


def test_relative_paths_are_looked_up_in_the_root(tmp_path: Path) -> None:
    noise(tmp_path / "here.png")
    assert inline("here.png", tmp_path).uri
    assert not inline("here.png", tmp_path / "elsewhere").uri


def test_the_album_stops_at_its_limits_and_reads_a_picture_once(tmp_path: Path) -> None:
    paths = [str(noise(tmp_path / f"{index}.png")) for index in range(3)]
    album = Album(most=2)
    assert [bool(album.picture("image", path).uri) for path in (*paths, paths[0])] == [
        True,
        True,
        False,
        True,
    ]
    small = Album(most_bytes=10)
    assert re.search("keep this report small", small.picture("image", paths[0]).why)
