"""The video half of some processors in Pillow and numpy, for machines without torchvision.

transformers builds video halves on torchvision alone. These give the same tensors: frames scaled to the same size,
normalised by the checkpoint's numbers, and cut into the same patches. Pillow's bicubic filter and torchvision's differ
in the last bits of a pixel, as they do for pictures.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
HALF = (0.5, 0.5, 0.5)


@dataclass(frozen=True)
class PillowVideo:
    """What a processor expects of its video half.

    Args:
        size: As the checkpoint writes it.
        image_mean: Of red, green and blue, from 0 to 1.
        image_std: Of red, green and blue.
        patch_size: Side of a patch in pixels.
        temporal_patch_size: Frames in a patch.
        merge_size: Patches along one side that become one token.
    """

    size: Mapping[str, int]
    image_mean: Sequence[float] = CLIP_MEAN
    image_std: Sequence[float] = CLIP_STD
    patch_size: int = 14
    temporal_patch_size: int = 2
    merge_size: int = 2

    valid_kwargs: ClassVar[Any] = None
    num_frames: ClassVar[Any] = None
    fps: ClassVar[Any] = None

    def __call__(self, videos: Sequence[Any], video_metadata: Any = None, **_options: Any) -> dict[str, Any]:
        """The tensors of some clips.

        Args:
            videos: Each an array (frames, height, width, 3) of 0 to 255.
            video_metadata: Passed on with the tensors, for processors that write times into the prompt.
        """
        from transformers.video_utils import VideoMetadata

        told = [VideoMetadata(**one) for one in video_metadata or ()]
        return self.tensors([np.asarray(clip) for clip in videos]) | (
            {"video_metadata": told} if told else {}
        )

    def tensors(self, clips: Sequence[Any]) -> dict[str, Any]:
        """Name → values, as the model's `forward` takes them."""
        raise NotImplementedError

    def to_dict(self) -> dict[str, Any]:
        """Nothing to save."""
        return {}

    def pixels(self, clip: Any, height: int, width: int) -> "Float[np.ndarray, 'frame 3 height width']":
        """Frames at the size asked for, normalised.

        Args:
            clip: (frames, height, width, 3), 0 to 255.
            height: In pixels.
            width: In pixels.
        """
        from PIL import Image

        scaled = [
            np.asarray(Image.fromarray(frame).resize((width, height), Image.Resampling.BICUBIC))
            for frame in clip
        ]
        shades = np.stack(scaled).astype(np.float32) / 255
        normal = (shades - np.asarray(self.image_mean, np.float32)) / np.asarray(self.image_std, np.float32)
        return np.ascontiguousarray(normal.transpose(0, 3, 1, 2))


class QwenVideo(PillowVideo):
    """Qwen2-VL and Qwen2.5-VL: every frame within the limits of `size`."""

    def tensors(self, clips: Sequence[Any]) -> dict[str, Any]:
        """Patches of all clips in a row, and how each clip's lie: (times, rows, columns)."""
        cut = [self._cut(self.pixels(clip, *self.sides(*clip.shape[:3]))) for clip in clips]
        grids = np.array([grid for _, grid in cut], dtype=np.int64)
        return {
            "pixel_values_videos": np.concatenate([patches for patches, _ in cut]),
            "video_grid_thw": grids,
        }

    def sides(self, _n_frames: int, height: int, width: int) -> tuple[int, int]:
        """(height, width) after scaling: multiples of a merged patch, with an area within the limits."""
        return self._fit(height, width, height * width, 1)

    def _fit(self, height: int, width: int, volume: int, n_frames: int) -> tuple[int, int]:
        unit = self.patch_size * self.merge_size
        rows, columns = round(height / unit) * unit, round(width / unit) * unit
        if n_frames * rows * columns > self.size["longest_edge"]:
            by = math.sqrt(volume / self.size["longest_edge"])
            return max(unit, math.floor(height / by / unit) * unit), max(
                unit, math.floor(width / by / unit) * unit
            )
        if n_frames * rows * columns < self.size["shortest_edge"]:
            by = math.sqrt(self.size["shortest_edge"] / volume)
            return math.ceil(height * by / unit) * unit, math.ceil(width * by / unit) * unit
        return rows, columns

    def _cut(self, pixels: Any) -> tuple[Any, tuple[int, int, int]]:
        """(patches × numbers, grid): patches in the order in which they are merged, the last frame filling up."""
        at_once, merge, side = self.temporal_patch_size, self.merge_size, self.patch_size
        fill = np.repeat(pixels[-1:], -len(pixels) % at_once, axis=0)
        frames, channels, height, width = (clip := np.concatenate([pixels, fill])).shape
        grid = (frames // at_once, height // side, width // side)
        split = clip.reshape(
            grid[0], at_once, channels, grid[1] // merge, merge, side, grid[2] // merge, merge, side
        )
        return split.transpose(0, 3, 6, 4, 7, 2, 1, 5, 8).reshape(math.prod(grid), -1), grid


class Qwen3Video(QwenVideo):
    """Qwen3-VL: the clip as a whole within the limits of `size`."""

    def sides(self, n_frames: int, height: int, width: int) -> tuple[int, int]:
        """(height, width) after scaling: multiples of a merged patch, with a volume within the limits."""
        unit = self.patch_size * self.merge_size
        if min(height, width) < unit:
            by = max(unit / height, unit / width)
            height, width = int(height * by), int(width * by)
        counted = round(n_frames / self.temporal_patch_size) * self.temporal_patch_size
        return self._fit(height, width, n_frames * height * width, counted)


class OneVisionVideo(PillowVideo):
    """LLaVA-OneVision: every frame at one fixed size."""

    def tensors(self, clips: Sequence[Any]) -> dict[str, Any]:
        """Clips of equally many frames, stacked."""
        return {
            "pixel_values_videos": np.stack(
                [self.pixels(clip, self.size["height"], self.size["width"]) for clip in clips]
            )
        }


_QWEN = {"shortest_edge": 128 * 28 * 28, "longest_edge": 28 * 28 * 768}
_HALVES: dict[str, tuple[type[PillowVideo], dict[str, Any]]] = {
    "Qwen2VLProcessor": (QwenVideo, {"size": _QWEN}),
    "Qwen2_5_VLProcessor": (QwenVideo, {"size": _QWEN}),
    "Qwen3VLProcessor": (
        Qwen3Video,
        {
            "size": {"shortest_edge": 128 * 32 * 32, "longest_edge": 32 * 32 * 768},
            "patch_size": 16,
            "image_mean": HALF,
            "image_std": HALF,
        },
    ),
    "LlavaOnevisionProcessor": (OneVisionVideo, {"size": {"height": 384, "width": 384}}),
}
"""Processor class → its video half and what transformers assumes where the checkpoint says nothing."""


def pillow_video(processor_class: str, settings: Mapping[str, Any]) -> PillowVideo | None:
    """The video half of a processor; None when there is none for it here.

    Args:
        processor_class: Name of the class.
        settings: What the checkpoint says of its video half.
    """
    if processor_class not in _HALVES:
        return None
    half, usual = _HALVES[processor_class]
    known = {name: settings[name] for name in half.__dataclass_fields__ if settings.get(name) is not None}
    return half(**(usual | known | {"size": _size(usual["size"], settings)}))


def _size(usual: Mapping[str, int], settings: Mapping[str, Any]) -> dict[str, int]:
    """The limits of the checkpoint over the usual ones; older files call them min_pixels and max_pixels."""
    size = dict(settings.get("size") or usual)
    for old, new in (("min_pixels", "shortest_edge"), ("max_pixels", "longest_edge")):
        if isinstance(settings.get(old), int):
            size[new] = settings[old]
    return {name: int(value) for name, value in size.items() if value is not None}
