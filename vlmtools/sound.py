"""Sound as models want it: one channel, 16,000 numbers a second, from any sound or video file.

Needs PyAV, the extra `video`. The track is decoded piece by piece; what is kept is the resampled signal alone,
64 kB a second.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from vlmtools.errors import BadInput
from vlmtools.video import opened

RATE = 16_000
"""Samples per second that speech and sound encoders were trained on."""
LONGEST_S = 600.0
"""Longer tracks are cut here unless asked otherwise: ten minutes are 38 MB."""


@dataclass(frozen=True, slots=True, eq=False)
class Sound:
    """A sound track.

    Args:
        samples: The signal, −1 to 1.
        rate: Samples per second.
        cut: The file goes on behind the last sample.
    """

    samples: Float[np.ndarray, "time"] = field(default_factory=lambda: np.zeros(0, np.float32))
    rate: int = RATE
    cut: bool = False

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return len(self.samples) / self.rate


def read_sound(path: str | Path, rate: int = RATE, longest_s: float = LONGEST_S) -> Sound:
    """The first sound track of a file, mixed to one channel and resampled.

    Args:
        path: A sound or video file.
        rate: Samples per second wanted.
        longest_s: Seconds after which reading stops; `Sound.cut` says whether it did.

    Raises:
        BadInput: It is missing, broken or silent for want of a track.
        NotInstalled: PyAV is missing.
    """
    n_most = round(longest_s * rate)
    with opened(path) as container:
        if not container.streams.audio:
            raise BadInput(f"{str(path)!r} has no sound track. Leave out `audio`, or name a file with sound.")
        pieces: list[Any] = []
        n_samples = 0
        for piece in _resampled(container, rate):
            pieces.append(piece)
            n_samples += len(piece)
            if n_samples > n_most:
                break
    if not n_samples:
        raise BadInput(f"The sound track of {str(path)!r} is empty. Leave out `audio`, or replace the file.")
    return Sound(np.concatenate(pieces)[:n_most], rate, cut=n_samples > n_most)


def _resampled(container: Any, rate: int) -> Iterator[Any]:
    import av

    # the mean of the channels, as the usual loaders mix: FFmpeg's own mix of floats comes out louder than its parts
    resampler = av.AudioResampler(format="fltp", rate=rate)
    for frame in chain(container.decode(container.streams.audio[0]), [None]):  # None asks for the rest
        for piece in resampler.resample(frame):
            yield piece.to_ndarray().mean(0)
