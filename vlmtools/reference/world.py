"""A made-up world whose truth is known exactly: scenes of two to five everyday things on a three-by-three grid.

Things come in four themes and are drawn together the way real ones are: a theme brings its own things, and each thing
has a companion that is often there too. That is what a model can learn to say without looking.

Randomness comes from `random.Random.random` alone, the one method whose sequence Python promises to keep.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Literal, TypeVar

from vlmtools.errors import BadInput

T = TypeVar("T")

THEMES: dict[str, tuple[str, ...]] = {
    "street": ("car", "bus", "truck", "bicycle", "motorcycle", "train", "airplane", "boat"),
    "farm": ("dog", "cat", "horse", "sheep", "cow", "bird", "elephant", "bear"),
    "kitchen": ("apple", "banana", "carrot", "pizza", "cake", "sandwich", "cup", "knife"),
    "room": ("chair", "bed", "couch", "clock", "book", "laptop", "tv", "vase"),
}
"""Theme → its eight things, all of them COCO categories, so that CHAIR and the `objects` judge know the words.

Neighbours (0 and 1, 2 and 3, …) are companions.
"""

THINGS: tuple[str, ...] = tuple(name for theme in THEMES.values() for name in theme)

THEME_OF: dict[str, str] = {name: theme for theme, found in THEMES.items() for name in found}

COMPANION: dict[str, str] = {name: THINGS[index ^ 1] for index, name in enumerate(THINGS)}

CELLS: tuple[str, ...] = (
    "at the top left", "at the top", "at the top right",
    "on the left", "in the middle", "on the right",
    "at the bottom left", "at the bottom", "at the bottom right",
)  # fmt: skip
"""Cell number → how people say it, row by row."""

SIZES = (24, 26, 28, 30, 32)
"""Widths and heights of a thing in pixels; a cell has 32."""

N_OBJECTS = (2, 5)


@dataclass(frozen=True, slots=True)
class Placed:
    """One thing in a scene.

    Args:
        name: One of `THINGS`.
        cell: Where, 0 to 8, row by row.
        size: Width and height in pixels, one of `SIZES`.
        shift: Pixels right and down of the cell's upper left corner, each 0 to 32 - size.
        mirrored: Looks the other way.
    """

    name: str
    cell: int
    size: int = 32
    shift: tuple[int, int] = (0, 0)
    mirrored: bool = False

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Left, top, right, bottom in pixels of the 96-pixel picture."""
        left, top = self.cell % 3 * 32 + self.shift[0], self.cell // 3 * 32 + self.shift[1]
        return left, top, left + self.size, top + self.size


@dataclass(frozen=True, slots=True)
class Scene:
    """What is in one picture, and all there is to know about it.

    Args:
        id: Unique within a world: its split and number.
        theme: Decides the usual things and, nearly always, the background.
        backdrop: Theme whose background is drawn.
        objects: The things in reading order, at most one per cell, no name twice.
        grain: Seed of the background's noise.
    """

    id: str
    theme: str
    backdrop: str
    objects: tuple[Placed, ...]
    grain: int = 0

    @property
    def names(self) -> tuple[str, ...]:
        """The things in reading order."""
        return tuple(thing.name for thing in self.objects)

    @property
    def absent(self) -> tuple[str, ...]:
        """Everything else that exists."""
        return tuple(name for name in THINGS if name not in self.names)


def held_out(one: str, other: str) -> bool:
    """True for the pairs that never meet in training scenes: about one in sixteen, no companions among them.

    Args:
        one: One of `THINGS`.
        other: Another.
    """
    low, high = sorted((THINGS.index(one), THINGS.index(other)))
    return COMPANION[one] != other and (low * 7 + high * 11) % 16 == 3


@dataclass(frozen=True)
class World:
    """A stream of scenes; the same number gives the same scene in every process.

    Args:
        split: `train` never shows a held-out pair together; `test` shows what training could have shown, in scenes of
            its own; `novel` shows at least one held-out pair in every scene.
        theme_share: Chance in [0, 1] that a further thing belongs to the scene's theme.
        companion_share: Chance in [0, 1] that a further thing is the companion of one already there. 0 is a world
            without companions.
        seed: Another seed is another world.
    """

    split: Literal["train", "test", "novel"] = "train"
    theme_share: float = 0.7
    companion_share: float = 0.3
    seed: int = 0

    def scene(self, number: int) -> Scene:
        """Scene `number`, counted from 0.

        Args:
            number: At least 0.

        Raises:
            BadInput: The number is negative.
        """
        if number < 0:
            raise BadInput(f"There is no scene {number}. Scenes are numbered from 0.")
        draw = _Draw(f"{self.split}-{self.seed}-{number}")
        while True:
            names = self._names(draw, theme := draw.one_of(tuple(THEMES)))
            if self._belongs(names):
                return _placed(f"{self.split}-{number:06d}", theme, names, draw)

    def scenes(self, n: int, start: int = 0) -> Iterator[Scene]:
        """`n` scenes from number `start` on."""
        return (self.scene(number) for number in range(start, start + n))

    def _names(self, draw: "_Draw", theme: str) -> list[str]:
        wanted = N_OBJECTS[0] + draw.below(N_OBJECTS[1] - N_OBJECTS[0] + 1)
        names = [draw.one_of(THEMES[theme])]
        while len(names) < wanted:
            name = self._further(draw, theme, names)
            if name not in names:
                names.append(name)
        return names

    def _further(self, draw: "_Draw", theme: str, names: list[str]) -> str:
        if draw.chance(self.companion_share):
            return COMPANION[draw.one_of(tuple(names))]
        return draw.one_of(THEMES[theme] if draw.chance(self.theme_share) else THINGS)

    def _belongs(self, names: list[str]) -> bool:
        met = any(held_out(one, other) for i, one in enumerate(names) for other in names[i + 1 :])
        return met == (self.split == "novel")


def _placed(id_: str, theme: str, names: list[str], draw: "_Draw") -> Scene:
    cells = sorted(draw.some(9, len(names)))
    order = draw.some(len(names), len(names))
    things = []
    for cell, index in zip(cells, order, strict=True):
        size = draw.one_of(SIZES)
        shift = (draw.below(33 - size), draw.below(33 - size))
        things.append(Placed(names[index], cell, size, shift, draw.chance(0.5)))
    backdrop = theme if draw.chance(0.9) else draw.one_of(tuple(THEMES))
    return Scene(id_, theme, backdrop, tuple(things), draw.below(1 << 30))


class _Draw:
    def __init__(self, seed: str) -> None:
        self._random = Random(seed)

    def below(self, n: int) -> int:
        return int(self._random.random() * n)

    def chance(self, share: float) -> bool:
        return self._random.random() < share

    def one_of(self, among: tuple[T, ...]) -> T:
        return among[self.below(len(among))]

    def some(self, n: int, k: int) -> list[int]:
        left = list(range(n))
        return [left.pop(self.below(len(left))) for _ in range(k)]
