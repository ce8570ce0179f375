"""Where media are looked for: as named, in the folder given, beside the data."""

from pathlib import Path

import pytest

from vlmtools.errors import BadInput
from vlmtools.evaluate.media import check_found, located
from vlmtools.types import Sample

KINDS = (("images", "image", "a.jpg"), ("videos", "video", "a.mp4"), ("audio", "audio", "a.wav"))


@pytest.mark.parametrize(("folder", "kind", "name"), KINDS)
def test_a_medium_beside_the_data_is_found_in_its_usual_folder(
    tmp_path: Path, folder: str, kind: str, name: str
) -> None:
    (tmp_path / folder).mkdir()
    (tmp_path / folder / name).touch()
    data = tmp_path / "questions.json"
    data.touch()
    (found,), missing = located([Sample("1", **{kind: f"other/{name}"})], None, data)
    assert missing == [] and getattr(found, kind) == str(tmp_path / folder / name)


def test_an_item_with_two_media_needs_both(tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "a.mp4").touch()
    sample = Sample("1", video="a.mp4", audio="a.wav")
    found, missing = located([sample], None, tmp_path)
    assert (found, missing) == ([], [sample])
    with pytest.raises(BadInput, match=r"--images"):
        check_found(found, missing, None, False)


def test_the_folder_that_was_given_comes_first(tmp_path: Path) -> None:
    for name in ("mine", "images"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.jpg").touch()
    (found,), _ = located([Sample("1", image="a.jpg")], tmp_path / "mine", tmp_path)
    assert found.image == str(tmp_path / "mine" / "a.jpg")
