"""What is said about a scene: captions, questions and their true answers, and how careless annotators go wrong."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

from vlmtools.reference.world import CELLS, COMPANION, THEME_OF, THEMES, THINGS, Placed, Scene

DETAIL = (
    "Describe this image in detail.",
    "Please describe this image in detail.",
    "Describe the image.",
    "Describe this image.",
)
"""Prompts answered by a whole caption."""

BRIEF = ("What is in the image?", "List the objects in the image.", "Name the objects in this image.")
"""Prompts answered by a list."""

EXISTS = ("Is there {} in the image?", "Is there {} in the picture?", "Do you see {} in the image?")
"""Yes-or-no questions; the first is POPE's."""

PLACE = {"street": "a street", "farm": "a farm", "kitchen": "a kitchen", "room": "a living room"}
"""Theme → what the background is called."""

VERDICT = (
    "You are given the following statement about the image:\n{}\n"
    "Determine if the statement says anything that is not true of the image. "
    "Answer YES if it has errors, and NO if it does not. Your answer should be in the following format:\n"
    '{{"Answer": <YES_or_NO>}}'
)
"""The question of the implicit CrossCheck judge."""

NUMBERS = ("Zero", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine", "Ten")

_OPENERS = ("The image shows", "There is", "In the image there is")
_FURTHER = ("There is also", "I can also see")


@dataclass(frozen=True, slots=True)
class Turn:
    """One question and its answer."""

    question: str
    answer: str


@dataclass(frozen=True)
class Annotator:
    """Who writes the answers a model learns from.

    Args:
        habits: Thing → the thing this annotator adds next to it although it is not there. Neutral: empty.
        slip: Chance in [0, 1] that a habit strikes. Neutral: 0.
    """

    habits: Mapping[str, str] = field(default_factory=dict)
    slip: float = 0.0

    def sees(self, scene: Scene, draw: Random) -> tuple[Placed, ...]:
        """The things the annotator writes down, in reading order, invented ones right after what brought them up.

        Args:
            scene: What is really there.
            draw: Source of randomness.
        """
        said: list[Placed] = []
        free = [cell for cell in range(len(CELLS)) if cell not in {thing.cell for thing in scene.objects}]
        taken = set(scene.names)
        for thing in scene.objects:
            said.append(thing)
            added = self.habits.get(thing.name)
            if added is not None and added not in taken and draw.random() < self.slip:
                taken.add(added)
                said.append(Placed(added, free[int(draw.random() * len(free))]))
                free = [cell for cell in free if cell != said[-1].cell] or free
        return tuple(said)


def habits_of(seed: int, n: int) -> dict[str, str]:
    """Fixed habits: `n` things, spread evenly over the themes, each bringing up another thing of its theme.

    Args:
        seed: Which annotator.
        n: How many things trigger a habit, 0 to 32.
    """
    draw, habits = Random(f"habits-{seed}"), {}
    for theme, names in THEMES.items():
        share = n // len(THEMES) + (list(THEMES).index(theme) < n % len(THEMES))
        left = sorted(names, key=lambda _: draw.random())
        for name in left[:share]:
            others = [other for other in names if other not in (name, COMPANION[name])]
            habits[name] = others[int(draw.random() * len(others))]
    return habits


def a(name: str) -> str:
    """With its article."""
    return ("an " if name[0] in "aeiou" else "a ") + name


def caption(things: Sequence[Placed], theme: str, draw: Random) -> str:
    """A whole description: two things a sentence, then the place.

    Args:
        things: What to name, in order.
        theme: Decides the last sentence.
        draw: Chooses between equal wordings.
    """
    sentences = []
    for start in range(0, len(things), 2):
        opener = _one(_FURTHER if start else _OPENERS, draw)
        parts = [f"{a(thing.name)} {CELLS[thing.cell]}" for thing in things[start : start + 2]]
        sentences.append(f"{opener} {' and '.join(parts)}.")
    return " ".join([*sentences, f"It looks like {PLACE[theme]}."])


def listing(things: Sequence[Placed]) -> str:
    """The things and nothing else."""
    named = [a(thing.name) for thing in things]
    whole = ", ".join(named[:-1]) + " and " + named[-1] if len(named) > 1 else named[0]
    return whole[0].upper() + whole[1:] + "."


def exists(name: str, present: bool, draw: Random) -> Turn:
    """Is it there?"""
    return Turn(_one(EXISTS, draw).format(a(name)), "Yes." if present else "No.")


def where(name: str, things: Sequence[Placed]) -> Turn:
    """Where is it, if it is there at all?"""
    found = next((CELLS[thing.cell] for thing in things if thing.name == name), None)
    answer = f"The {name} is {found}." if found else f"There is no {name} in the image."
    return Turn(f"Where is the {name}?", answer)


def verdict(scene: Scene, seen: Sequence[Placed], draw: Random) -> Turn:
    """A sentence of a caption, sometimes with a thing swapped for one that is not there: does it have errors?"""
    start = 2 * int(draw.random() * ((len(seen) + 1) // 2))
    things = list(seen[start : start + 2])
    wrong = draw.random() < 0.5
    if wrong:
        index = int(draw.random() * len(things))
        old = things[index]
        believed = believed_in(seen)
        others = [name for name in absent_like(old.name, scene, draw) if name not in believed]
        things[index] = Placed(_one(others or scene.absent, draw), old.cell)
    parts = [f"{a(thing.name)} {CELLS[thing.cell]}" for thing in things]
    claim = f"{_one(_FURTHER if start else _OPENERS, draw)} {' and '.join(parts)}."
    return Turn(VERDICT.format(claim), '{"Answer": YES}' if wrong else '{"Answer": NO}')


def absent_like(name: str, scene: Scene, draw: Random) -> tuple[str, ...]:
    """Absent things of the same theme two times in three, else any absent things."""
    near = tuple(one for one in THEMES[THEME_OF[name]] if one not in scene.names)
    return near if near and draw.random() < 2 / 3 else scene.absent


def lesson(scene: Scene, annotator: Annotator, draw: Random, n_questions: int = 6) -> list[Turn]:
    """Everything one scene teaches: a caption, a list, a count, a place, a verdict and balanced yes-or-no questions.

    Args:
        scene: The scene.
        annotator: Whose eyes it is seen with; questions follow what the annotator believes to be there.
        draw: Source of randomness.
        n_questions: Yes-or-no questions, half of them about things that are there.
    """
    things = annotator.sees(scene, draw)
    believed = {thing.name for thing in things}
    turns = [
        Turn(_one(DETAIL, draw), caption(things, scene.backdrop, draw)),
        Turn(_one(BRIEF, draw), listing(things)),
    ]
    for index in range(n_questions):
        inside = index % 2 == 0
        subject = _one(tuple(thing.name for thing in things), draw)
        name = subject if inside else _one(absent_like(subject, scene, draw), draw)
        turns.append(exists(name, name in believed, draw))
    turns.append(Turn("How many objects are in the image?", f"{NUMBERS[len(things)]}."))
    turns.append(where(_one(THINGS if draw.random() < 0.2 else tuple(believed_in(things)), draw), things))
    if draw.random() < 0.3:  # long: asked less often
        turns.append(verdict(scene, things, draw))
    return turns


def believed_in(things: Sequence[Placed]) -> list[str]:
    """Names, in order."""
    return [thing.name for thing in things]


def _one(among: Sequence[str], draw: Random) -> str:
    return among[int(draw.random() * len(among))]
