"""Scenes as items: every picture is drawn once into a folder, and benchmarks, judges and reports read it there."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from vlmtools.reference.language import DETAIL
from vlmtools.reference.world import Scene
from vlmtools.types import Sample

DRAWING = "1"
"""Raised whenever the same scene would be drawn differently: pictures of another version are never mixed in."""


def home() -> Path:
    """Where pictures are kept when nobody says otherwise: `vlmtools/scenes-1` in the user's cache folder."""
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "vlmtools" / f"scenes-{DRAWING}"


def drawn(scene: Scene, folder: Path | None = None) -> Path:
    """The picture's file, drawn now if it is not there.

    Args:
        scene: The scene; its id names the file.
        folder: Where; None takes `home()`.
    """
    place = folder or home()
    path = place / f"{scene.id}.png"
    if not path.exists():
        from vlmtools.reference.render import picture

        place.mkdir(parents=True, exist_ok=True)
        beside = path.with_suffix(f".{os.getpid()}.new")
        picture(scene).save(beside, format="PNG")
        beside.replace(path)
    return path


def as_sample(scene: Scene, folder: Path | None = None, prompt: str = DETAIL[0]) -> Sample:
    """A scene as an item of a run; `extra["objects"]` holds the truth.

    Args:
        scene: The scene.
        folder: Where its picture is kept; None takes `home()`.
        prompt: What is asked.
    """
    truth = {"objects": list(scene.names), "theme": scene.theme}
    return Sample(scene.id, prompt, image=str(drawn(scene, folder)), extra=truth)


def as_samples(
    scenes: Iterable[Scene], folder: Path | None = None, prompt: str = DETAIL[0]
) -> Iterator[Sample]:
    """Several scenes as items."""
    return (as_sample(scene, folder, prompt) for scene in scenes)
