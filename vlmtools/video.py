"""Videos as models want them: a few frames, spread evenly, decoded alone; never the whole clip in memory.

Needs PyAV, the extra `video`. A clip is opened, its length read from the container (or, where the container does not
say, from its packets, which are counted and not decoded), and the decoder is sent to the last key frame before each
wanted frame. One frame is held while looking for the next.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vlmtools.errors import BadInput, NotInstalled

if TYPE_CHECKING:
    from PIL.Image import Image

N_FRAMES = 8
"""Frames shown unless told otherwise, as EventHallusion and many published runs do."""
LATE_S = 1.0
"""A clip may end this long before its container says, in seconds; then the last frame stands for what is missing."""


@dataclass(frozen=True, slots=True)
class Frames:
    """Some frames of a clip.

    Args:
        images: Upright, RGB, in order.
        indices: Their numbers in the clip, from 0.
        fps: Frames per second of the clip.
        n_total: Frames of the whole clip.
    """

    images: "tuple[Image, ...]" = ()
    indices: tuple[int, ...] = ()
    fps: float = 1.0
    n_total: int = 0

    @property
    def times_s(self) -> tuple[float, ...]:
        """When each frame is shown, in seconds from the start."""
        return tuple(index / self.fps for index in self.indices)

    @property
    def duration_s(self) -> float:
        """How long the clip is, in seconds."""
        return self.n_total / self.fps


@dataclass(frozen=True, slots=True)
class Inside:
    """What a media file holds.

    Args:
        duration_s: Length in seconds; None when the container does not say.
        has_video: A picture track.
        has_sound: A sound track.
    """

    duration_s: float | None = None
    has_video: bool = False
    has_sound: bool = False


def spread(n_total: int, n_frames: int) -> tuple[int, ...]:
    """Numbers of `n_frames` frames from the first to the last, evenly spread; all of them when there are fewer.

    Args:
        n_total: Frames of the clip, at least 1.
        n_frames: Frames wanted, at least 1.
    """
    if n_frames >= n_total:
        return tuple(range(n_total))
    return tuple(int(index) for index in np.linspace(0, n_total - 1, n_frames, dtype=int))


def read_frames(path: str | Path, n_frames: int = N_FRAMES, longest_side: int = 0) -> Frames:
    """Evenly spread frames of a clip; nothing else is decoded than what leads to them.

    Args:
        path: The file.
        n_frames: How many, at least 1; a shorter clip gives all it has.
        longest_side: Larger frames are scaled down to this many pixels; 0 keeps their size.

    Raises:
        BadInput: It is missing, no video, broken, or fewer than one frame is wanted.
        NotInstalled: PyAV is missing.
    """
    if n_frames < 1:
        raise BadInput(f"{n_frames} frames cannot be shown. Ask for 1 or more.")
    with opened(path) as container:
        if not container.streams.video:
            raise BadInput(f"{str(path)!r} has no picture track. Name a video, or use the file as `audio`.")
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        n_total, fps = _length(container, stream, path)
        indices = spread(n_total, n_frames)
        images = tuple(
            _picture(frame, longest_side) for frame in _wanted(container, stream, indices, fps, path)
        )
    return Frames(images, indices, fps, n_total)


def look_inside(path: str | Path) -> Inside:
    """Which tracks a media file has, without decoding it.

    Args:
        path: The file.

    Raises:
        BadInput: It is missing or no media file.
        NotInstalled: PyAV is missing.
    """
    with opened(path) as container:
        duration = None if container.duration is None else container.duration / 1e6
        return Inside(duration, bool(container.streams.video), bool(container.streams.audio))


@contextmanager
def opened(path: str | Path) -> Iterator[Any]:
    """A media file opened by PyAV; whatever goes wrong while reading it becomes a `BadInput`.

    Args:
        path: The file. Addresses are refused: nothing is fetched.

    Raises:
        BadInput: It is missing, not a media file, or broken.
        NotInstalled: PyAV is missing.
    """
    try:
        import av
    except ImportError as error:
        raise NotInstalled.extra("av", "video", "Reading videos and sound") from error
    place = Path(path).expanduser()
    if not place.is_file():
        raise BadInput(
            f"The media file {str(path)!r} does not exist. Relative paths count from the current folder, {Path.cwd()}, "
            "and addresses are not fetched. Correct the path in the data file, or save the file there."
        )
    try:
        # PyAV reads names with a colon as addresses; a file: prefix keeps local files local
        with av.open(f"file:{place.absolute()}") as container:
            yield container
    except (av.error.FFmpegError, EOFError, ValueError, MemoryError) as error:
        if isinstance(error, BadInput):
            raise
        raise BadInput(
            f"The media file {str(path)!r} cannot be read: {type(error).__name__}: {error}. "
            "Download it again or replace it; it is counted as unreadable, not as a wrong answer."
        ) from error


def _length(container: Any, stream: Any, path: str | Path) -> tuple[int, float]:
    """(frames, frames per second), from the container or else from the packets."""
    fps = float(stream.average_rate or stream.guessed_rate or 0)
    n_total = int(stream.frames or 0)
    if not n_total and fps:
        seconds = _seconds(container, stream)
        n_total = round(seconds * fps)
    if n_total and fps:
        return n_total, fps
    times = sorted(float(p.pts * p.time_base) for p in container.demux(stream) if p.pts is not None)
    container.seek(0)
    if not times:
        raise BadInput(f"No frame of {str(path)!r} can be found. Replace the file.")
    lasts = times[-1] - times[0]
    return len(times), (len(times) - 1) / lasts if lasts > 0 else 1.0


def _seconds(container: Any, stream: Any) -> float:
    if stream.duration:
        return float(stream.duration * stream.time_base)
    return container.duration / 1e6 if container.duration else 0.0


def _wanted(
    container: Any, stream: Any, indices: Sequence[int], fps: float, path: str | Path
) -> Iterator[Any]:
    """The frame shown at each wanted moment, in order.

    The decoder jumps to a key frame only where that saves work: a jump that lands behind the present place teaches that
    key frames are farther apart, and shorter ways are then walked.
    """
    start = float((stream.start_time or 0) * stream.time_base)
    walk_s = 0.0
    frame: Any = None
    frames: Iterator[Any] = iter(())
    for index in indices:
        goal = start + index / fps - 0.5 / fps
        here = -np.inf if frame is None else _time(frame)
        if goal - here > walk_s:
            container.seek(max(round(goal / stream.time_base), stream.start_time or 0), stream=stream)
            frames = container.decode(stream)
            landed = next(frames, None)
            if landed is not None and _time(landed) <= here:
                walk_s = max(walk_s, goal - here)
            frame = landed or frame
        while frame is None or _time(frame) < goal:
            following = next(frames, None)
            if following is None:
                break
            frame = following
        yield _must_be_near(frame, goal, path)


def _time(frame: Any) -> float:
    return float(frame.time or 0.0)


def _must_be_near(frame: Any, goal: float, path: str | Path) -> Any:
    if frame is None:
        raise BadInput(f"No frame of {str(path)!r} can be decoded. Replace the file.")
    if goal - _time(frame) > LATE_S:
        raise BadInput(
            f"{str(path)!r} ends {goal - _time(frame):.1f} s before the moment {goal:.1f} s that its header promises: "
            "it is cut off. Download it again or replace it."
        )
    return frame


def _picture(frame: Any, longest_side: int) -> "Image":
    scale = min(1.0, longest_side / max(frame.width, frame.height)) if longest_side else 1.0
    size = {"width": max(1, round(frame.width * scale)), "height": max(1, round(frame.height * scale))}
    image: Image = frame.to_image(**(size if scale < 1 else {}))
    turned = int(getattr(frame, "rotation", 0) or 0)  # counter-clockwise, as a phone writes it
    return image.rotate(turned, expand=True) if turned else image
