"""A picture as a model sees it, for a page."""

import base64
import io
from typing import TYPE_CHECKING, Any

from vlmtools.report.media import Picture, inline

if TYPE_CHECKING:
    from PIL.Image import Image

    from vlmtools.vlm import VLM

SIDE = 560
"""Longest side on the page in pixels."""


def as_seen(vlm: "VLM", image: "Image", batch: Any) -> Picture:
    """The picture, cut as the processor cuts it, as a `data:` address.

    Args:
        vlm: The model.
        image: As opened.
        batch: As the processor gave it.
    """
    cut = _given_pixels(getattr(vlm.processor, "image_processor", None), batch)
    buffer = io.BytesIO()
    (cut or image).convert("RGB").save(buffer, "PNG")
    uri = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
    return inline(uri, side=SIDE)


def _given_pixels(processor: Any, batch: Any) -> "Image | None":
    """The pixels the model was given, where its processor cuts the edges off."""
    import torch
    from PIL import Image

    pixels = batch.get("pixel_values")
    if (
        not getattr(processor, "do_center_crop", False)
        or pixels is None
        or pixels.ndim != 4
        or len(pixels) != 1
    ):
        return None
    mean, std = (torch.tensor(getattr(processor, name)).view(3, 1, 1) for name in ("image_mean", "image_std"))
    colours = (pixels[0].float().cpu() * std + mean).clamp(0, 1) * 255
    picture = Image.fromarray(colours.round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy())
    if max(picture.size) >= SIDE:
        return picture
    factor = -(-SIDE // max(picture.size))
    return picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.BICUBIC)
