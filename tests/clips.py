"""Short films and tones that tests write themselves: every frame says which one it is."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

N_BITS = 12
RATE = 44_100


def frame_picture(index: int, size: tuple[int, int] = (96, 64)) -> Image.Image:
    """Its number in binary, as twelve wide stripes, black or white: survives any codec."""
    bits = [(index >> bit) & 1 for bit in range(N_BITS)]
    stripes = np.repeat(np.array(bits, dtype=np.uint8) * 255, size[0] // N_BITS)
    return Image.fromarray(np.broadcast_to(stripes[None, :, None], (size[1], len(stripes), 3)).copy())


def number_of(image: Image.Image) -> int:
    """The number a frame carries."""
    row = np.asarray(image.convert("L").resize((N_BITS, 1), Image.Resampling.BOX))[0]
    return sum(1 << bit for bit, value in enumerate(row) if value > 127)


def write_clip(
    path: Path,
    n_frames: int = 30,
    fps: int = 10,
    gop: int = 12,
    size: tuple[int, int] = (96, 64),
    tone_hz: float | None = None,
    codec: str = "mpeg4",
    options: dict[str, str] | None = None,
) -> Path:
    """A film of numbered frames, with a tone of the same length when asked.

    Args:
        path: Where to; its ending chooses the container.
        n_frames: How many frames.
        fps: Frames per second.
        gop: Frames from one key frame to the next.
        size: Width and height in pixels.
        tone_hz: Pitch of the tone, in stereo at 44.1 kHz; None writes no sound.
        codec: Of the frames.
        options: Of the container.
    """
    with av.open(str(path), "w", options=options or {}) as film:
        track = film.add_stream(codec, rate=fps)
        track.width, track.height, track.pix_fmt = *size, "yuv420p"
        track.gop_size, track.max_b_frames, track.bit_rate = gop, 0, 400_000
        sound = film.add_stream("aac", rate=RATE, layout="stereo") if tone_hz else None
        for index in range(n_frames):
            film.mux(track.encode(av.VideoFrame.from_image(frame_picture(index, size))))
        film.mux(track.encode(None))
        if sound is not None:
            for frame in tone_frames(tone_hz or 0.0, n_frames / fps):
                film.mux(sound.encode(frame))
            film.mux(sound.encode(None))
    return path


def tone_frames(hz: float, seconds: float, at_once: int = 1024) -> list[av.AudioFrame]:
    """A sine in both channels, as frames."""
    signal = 0.5 * np.sin(2 * np.pi * hz * np.arange(int(seconds * RATE)) / RATE).astype(np.float32)
    frames = []
    for start in range(0, len(signal), at_once):
        piece = signal[start : start + at_once]
        frame = av.AudioFrame.from_ndarray(np.stack([piece, piece]), format="fltp", layout="stereo")
        frame.sample_rate, frame.pts, frame.time_base = RATE, start, Fraction(1, RATE)
        frames.append(frame)
    return frames


def write_tone(path: Path, hz: float, seconds: float) -> Path:
    """A sound file of one tone."""
    with av.open(str(path), "w") as film:
        sound = film.add_stream("pcm_s16le", rate=RATE, layout="stereo")
        for frame in tone_frames(hz, seconds):
            film.mux(sound.encode(frame))
        film.mux(sound.encode(None))
    return path
