import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from clips import number_of, write_clip, write_tone
from PIL import Image

from vlmtools import video
from vlmtools.errors import BadInput
from vlmtools.sound import RATE, read_sound
from vlmtools.video import look_inside, read_frames, spread


def pitch_of(samples: np.ndarray, rate: int) -> float:
    power = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(np.fft.rfftfreq(len(samples), 1 / rate)[power.argmax()])


@pytest.mark.parametrize("ending", ["mp4", "mkv", "avi"])
@pytest.mark.parametrize("gop", [1, 12, 250])
@pytest.mark.parametrize("n_frames", [1, 3, 8, 60, 100])
def test_the_wanted_frames_come_and_no_others(tmp_path: Path, ending: str, gop: int, n_frames: int) -> None:
    path = write_clip(tmp_path / f"clip.{ending}", n_frames=60, gop=gop)
    found = read_frames(path, n_frames)
    assert found.indices == spread(60, n_frames)
    assert tuple(map(number_of, found.images)) == found.indices
    assert (found.n_total, found.fps, found.duration_s) == (60, 10, 6)
    assert found.times_s[-1] == found.indices[-1] / 10


@pytest.mark.parametrize("gop", [5, 100])
def test_a_container_that_does_not_say_its_length_is_counted(tmp_path: Path, gop: int) -> None:
    path = write_clip(tmp_path / "live.mkv", n_frames=40, gop=gop, options={"live": "1"})
    found = read_frames(path, 5)
    assert look_inside(path).duration_s is None
    assert found.n_total == 40
    assert tuple(map(number_of, found.images)) == spread(40, 5)


def test_frames_are_spread_from_the_first_to_the_last() -> None:
    assert spread(10, 4) == (0, 3, 6, 9)
    assert spread(3, 8) == (0, 1, 2)
    assert spread(9, 1) == (0,)


def test_large_frames_are_scaled_down_while_they_are_read(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", n_frames=4, size=(480, 240))
    assert read_frames(path, 2).images[0].size == (480, 240)
    assert read_frames(path, 2, longest_side=96).images[0].size == (96, 48)
    assert read_frames(path, 2, longest_side=999).images[0].size == (480, 240)


def test_only_what_leads_to_the_wanted_frames_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_clip(tmp_path / "clip.mp4", n_frames=1200, gop=10)
    seen = []
    time_of = video._time
    monkeypatch.setattr(video, "_time", lambda frame: seen.append(frame.pts) or time_of(frame))
    assert len(read_frames(path, 8).images) == 8
    assert len(set(seen)) <= 8 * 12


def test_key_frames_far_apart_are_not_decoded_again_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_clip(tmp_path / "clip.mp4", n_frames=400, gop=400)
    decoded = []
    time_of = video._time
    monkeypatch.setattr(video, "_time", lambda frame: decoded.append(id(frame)) or time_of(frame))
    read_frames(path, 100)
    assert len(decoded) < 4 * 400


PEAK = """
import resource, sys
from vlmtools.video import read_frames
import av, numpy, PIL.Image
read_frames(sys.argv[2], 8)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
read_frames(sys.argv[1], 8)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


def test_a_long_clip_takes_no_more_memory_than_its_few_frames(tmp_path: Path) -> None:
    # 400 frames of 636 x 480 are 366 MB when all are held
    long = write_clip(tmp_path / "long.mp4", n_frames=400, gop=50, size=(636, 480))
    short = write_clip(tmp_path / "short.mp4", n_frames=16, gop=8, size=(636, 480))
    run = [sys.executable, "-c", PEAK, str(long), str(short)]
    grown_mib = float(subprocess.run(run, capture_output=True, text=True, check=True).stdout)
    assert grown_mib < 60


def test_a_missing_an_empty_and_a_broken_file_are_refused_by_name(tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"\0\0\0\x18ftypmp42" + b"x" * 500)
    empty = tmp_path / "empty.mp4"
    empty.write_bytes(b"")
    for path in (broken, empty):
        with pytest.raises(BadInput, match=r"cannot be read.*unreadable"):
            read_frames(path)
    with pytest.raises(BadInput, match="does not exist"):
        read_frames(tmp_path / "nothing.mp4")
    with pytest.raises(BadInput, match="does not exist"):
        read_frames("http://127.0.0.1:9/clip.mp4")


def test_a_clip_that_is_cut_off_is_refused_and_not_filled_up(tmp_path: Path) -> None:
    whole = write_clip(tmp_path / "whole.mkv", n_frames=200, gop=5)
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    with pytest.raises(BadInput, match=r"cut off|cannot be read"):
        read_frames(cut)


def test_a_sound_file_is_no_video_and_a_silent_clip_no_sound(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no picture track"):
        read_frames(write_tone(tmp_path / "tone.wav", 440, 0.5))
    with pytest.raises(BadInput, match="no sound track"):
        read_sound(write_clip(tmp_path / "mute.mp4", n_frames=5))
    with pytest.raises(BadInput, match="0 frames"):
        read_frames(tmp_path / "tone.wav", 0)


def test_the_tracks_of_a_file_are_told_apart(tmp_path: Path) -> None:
    both = look_inside(write_clip(tmp_path / "both.mp4", n_frames=20, tone_hz=440))
    assert (both.has_video, both.has_sound) == (True, True)
    assert both.duration_s == pytest.approx(2, abs=0.1)
    assert not look_inside(write_clip(tmp_path / "mute.mp4", n_frames=5)).has_sound
    assert not look_inside(write_tone(tmp_path / "tone.wav", 440, 0.5)).has_video


@pytest.mark.parametrize("hz", [440.0, 1500.0])
def test_the_sound_of_a_clip_is_one_channel_of_16_khz_with_its_pitch(tmp_path: Path, hz: float) -> None:
    found = read_sound(write_clip(tmp_path / "both.mp4", n_frames=30, tone_hz=hz))
    assert (found.rate, found.samples.ndim, found.samples.dtype, found.cut) == (RATE, 1, np.float32, False)
    assert found.duration_s == pytest.approx(3, abs=0.1)
    assert pitch_of(found.samples, RATE) == pytest.approx(hz, abs=3)
    assert np.abs(found.samples).max() == pytest.approx(0.5, abs=0.1)


def test_a_sound_file_is_read_as_well_and_cut_where_asked(tmp_path: Path) -> None:
    path = write_tone(tmp_path / "tone.wav", 1000, 2.0)
    assert read_sound(path).duration_s == pytest.approx(2, abs=0.01)
    cut = read_sound(path, longest_s=0.5)
    assert (cut.duration_s, cut.cut) == (0.5, True)
    assert pitch_of(read_sound(path, rate=8000).samples, 8000) == pytest.approx(1000, abs=2)


class Turned:
    """A frame as a phone held upright writes it."""

    width, height, rotation = 40, 20, 90

    def to_image(self, **size: int) -> Image.Image:
        picture = Image.new("RGB", (size.get("width", 40), size.get("height", 20)))
        picture.putpixel((0, 0), (255, 0, 0))
        return picture


def test_a_frame_with_a_rotation_is_turned_upright() -> None:
    picture = video._picture(Turned(), 0)
    assert picture.size == (20, 40)
    assert picture.getpixel((0, 39)) == (
        255,
        0,
        0,
    )  # a quarter turn to the left: left above becomes left below
