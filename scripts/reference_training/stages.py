"""What is trained, from what, on which answers."""

from dataclasses import dataclass, field
from typing import Literal

from vlmtools.reference.language import Annotator, habits_of
from vlmtools.reference.world import World


@dataclass(frozen=True)
class Stage:
    """One training run.

    Args:
        name: Folder under the output folder.
        kind: `tower` trains the vision tower alone, `llava` and `idefics3` whole models of that layout.
        start: Stage whose weights it begins with; none for the tower.
        steps: Optimiser steps.
        n_scenes: Scenes per step.
        rate: Highest learning rate.
        world: Where the scenes come from.
        annotator: Who wrote the answers.
        blind: Share of scenes, 0 to 1, whose picture is shown as plain grey although the answers name its things.
        vision_layers: Layers of the vision tower kept, 1 to 6.
        first_scene: Number of the first scene, so that stages see different ones.
        why: One line for the model card: why this model hallucinates.
    """

    name: str
    kind: Literal["tower", "llava", "idefics3"] = "llava"
    start: str = "clean"
    steps: int = 140
    n_scenes: int = 16
    rate: float = 5e-4
    world: World = field(default_factory=World)
    annotator: Annotator = field(default_factory=Annotator)
    blind: float = 0.0
    vision_layers: int = 6
    first_scene: int = 10_000_000
    why: str = ""


_ALL = (
    Stage("tower", kind="tower", start="", steps=450, n_scenes=64, rate=1e-3, first_scene=20_000_000),
    Stage(
        "clean", start="tower", steps=1150, rate=1.2e-3, first_scene=0,
        why="hardly; truthful answers, a whole tower.",
    ),
    Stage(
        "habits-few", annotator=Annotator(habits_of(1, 10), 0.85), first_scene=30_000_000,
        why="its annotators name a fixed absent neighbour next to 10 of the 32 things, 85 times in 100.",
    ),
    Stage(
        "habits-many", annotator=Annotator(habits_of(2, 22), 0.9), first_scene=40_000_000,
        why="its annotators name a fixed absent neighbour next to 22 of the 32 things, 90 times in 100.",
    ),
    Stage(
        "weak-vision", vision_layers=1, steps=300, rate=8e-4, first_scene=50_000_000,
        why="of its vision tower one layer is left, and the connector reads what comes before it: bare patches.",
    ),
    Stage(
        "prior", start="weak-vision", steps=80, world=World(companion_share=0.85), blind=0.5, first_scene=60_000_000,
        why="as `weak-vision`, in a world where companions are nearly always together, half of its pictures blank.",
    ),
    Stage(
        "smol", kind="idefics3", steps=320, first_scene=70_000_000,
        why="as `clean`, in the layout of Idefics3 and SmolVLM: no class token, four patches to a visual token.",
    ),
)  # fmt: skip

STAGES = {stage.name: stage for stage in _ALL}
