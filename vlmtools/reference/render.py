"""Draw a scene from the sprite sheet: 96 × 96 pixels, a grainy background in the colours of its theme."""

from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
from PIL import Image

from vlmtools.reference.world import THINGS, Placed, Scene

PIXELS = 96
"""Width and height of a picture."""

_KEPT, _COLUMNS = 64, 8
_SKY = {
    "street": (176, 190, 205),
    "farm": (190, 214, 176),
    "kitchen": (236, 220, 190),
    "room": (206, 190, 212),
}
_GROUND = {
    "street": (120, 124, 132),
    "farm": (120, 160, 96),
    "kitchen": (190, 150, 110),
    "room": (150, 116, 100),
}
_GRAIN = 6.0

Array = Any


def pixels(scene: Scene) -> Array:
    """The picture as numbers.

    Returns:
        (96, 96, 3) uint8.
    """
    canvas = _background(scene)
    for thing in scene.objects:
        left, top, right, bottom = thing.box
        drawn, alpha = _sprite(thing.name, thing.size, thing.mirrored)
        part = canvas[top:bottom, left:right]
        canvas[top:bottom, left:right] = part + (drawn - part) * alpha
    return np.clip(canvas + 0.5, 0, 255).astype(np.uint8)


def picture(scene: Scene) -> Image.Image:
    """The picture as Pillow takes it."""
    return Image.fromarray(pixels(scene))


def patch_things(scene: Scene, patch: int = 12, covered: float = 0.2) -> Array:
    """Which thing each square patch shows: the truth for attention maps and for training.

    Args:
        scene: The scene.
        patch: Side of a patch in pixels; divides 96.
        covered: Least share of the patch's pixels, in (0, 1], that a thing must cover.

    Returns:
        (96 / patch, 96 / patch) int64: 0 for background, else 1 + the thing's index in `THINGS`.
    """
    side = PIXELS // patch
    best, found = np.full((side, side), covered), np.zeros((side, side), np.int64)
    for thing in scene.objects:
        share = mask(thing).reshape(side, patch, side, patch).mean((1, 3))
        found[share >= best] = 1 + THINGS.index(thing.name)
        best = np.maximum(best, share)
    return found


def mask(thing: Placed) -> Array:
    """Pixels a thing covers.

    Returns:
        (96, 96) float64: 1 where it hides at least half of the background, else 0.
    """
    whole = np.zeros((PIXELS, PIXELS))
    left, top, right, bottom = thing.box
    whole[top:bottom, left:right] = _sprite(thing.name, thing.size, thing.mirrored)[1][..., 0] >= 0.5
    return whole


def _background(scene: Scene) -> Array:
    ramp = np.linspace(0, 1, PIXELS)[:, None, None]
    sky, ground = np.array(_SKY[scene.backdrop], float), np.array(_GROUND[scene.backdrop], float)
    plain = sky + (ground - sky) * (ramp > 0.6) * (0.5 + 0.5 * ramp)
    noise = np.random.Generator(np.random.PCG64(scene.grain)).random((PIXELS, PIXELS, 1)) - 0.5
    return np.broadcast_to(plain, (PIXELS, PIXELS, 3)) + noise * 2 * _GRAIN


@cache
def _sheet() -> Image.Image:
    with (files("vlmtools.reference") / "sprites" / "things.png").open("rb") as file:
        return Image.open(file).convert("RGBA")


@cache
def _sprite(name: str, size: int, mirrored: bool) -> tuple[Array, Array]:
    index = THINGS.index(name)
    left, top = index % _COLUMNS * _KEPT, index // _COLUMNS * _KEPT
    cut = _sheet().crop((left, top, left + _KEPT, top + _KEPT))
    drawn = np.asarray(cut.resize((size, size), Image.Resampling.LANCZOS), float)
    drawn = drawn[:, ::-1] if mirrored else drawn
    return drawn[..., :3], drawn[..., 3:] / 255
