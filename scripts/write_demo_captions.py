"""Write invented captions of a known order, small enough to try a ranking on.

    python scripts/write_demo_captions.py            # writes vlmtools/reference/captions/, always the same bytes
    python scripts/write_demo_captions.py --check    # exit code 1 when the files differ from what would be written

No model wrote any of this: scenes, describers and sentences are made up here, and each describer gets a known habit,
so that the right order of the ranking is known before anything is ranked.
"""

import argparse
import json
import random
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
TARGET = HERE.parent / "vlmtools" / "reference" / "captions"
N_SAMPLES = 3


@dataclass(frozen=True, slots=True)
class Scene:
    """One invented scene.

    Args:
        id: Its name.
        place: Where it is, to be put after a thing: "on a sandy beach".
        remark: A sentence about it that names no object.
        objects: COCO name → how a describer puts it, the most striking first.
        absent: COCO names one would expect here and that are not there.
    """

    id: str
    place: str
    remark: str
    objects: Mapping[str, str]
    absent: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Describer:
    """An invented describer and its habit.

    Args:
        name: File name without `.jsonl`.
        share: Part of the things it names that are not there, in [0, 1).
        at_most: How many things that are there it names, at least 1.
        invents: `expected` adds what one would expect in such a place, `anything` whatever comes to mind.
        sentences: Ways to open, to go on with one thing, and to close.
    """

    name: str
    share: float
    at_most: int
    invents: str
    opening: tuple[str, ...]
    more: tuple[str, ...]
    closing: tuple[str, ...] = ("",)


DESCRIBERS = (
    Describer(
        "terse",
        share=0.01,
        at_most=2,
        invents="expected",
        opening=(
            "{A} {place}.",
            "{A}, {place}.",
            "Seen {place}: {a}.",
            "{A}. That is {place}.",
            "Just {a} {place}.",
        ),
        more=("Also {a}.", "And {a}.", "With {a}.", "{A}, too.", "Plus {a}.", "Then {a}."),
    ),
    Describer(
        "careful",
        share=0.02,
        at_most=4,
        invents="expected",
        opening=(
            "The picture shows {a} {place}.",
            "{A} can be seen {place}.",
            "This is a view of {a} {place}.",
            "In front, {place}, there we have {a}.",
        ),
        more=(
            "It also shows {a}.",
            "Nearby I can make out {a}.",
            "Beside that, {a} can be recognised.",
            "Further back I see {a}.",
        ),
        closing=("", "{remark}"),
    ),
    Describer(
        "talkative",
        share=0.06,
        at_most=6,
        invents="expected",
        opening=(
            "What a scene: {a} {place}, right where everybody would look first.",
            "Let me begin with {a} {place}.",
            "The first thing to draw attention, {place}, must be {a}.",
        ),
        more=(
            "A little further on we come across {a}.",
            "There might well be a story behind {a}, too.",
            "The arrangement continues with {a}.",
            "Looking more closely, one discovers {a}.",
        ),
        closing=(
            "{remark}",
            "{remark} The colours are warm.",
            "{remark} One could stay for hours.",
        ),
    ),
    Describer(
        "dreamer",
        share=0.25,
        at_most=4,
        invents="expected",
        opening=(
            "I see {a} {place}, as one would hope.",
            "I see {a} {place}.",
            "{A} {place}, just as in a story.",
        ),
        more=(
            "Naturally, {a} must not be missing.",
            "As so often, I find {a}.",
            "Close to that I notice {a}.",
            "The impression is completed by {a}.",
        ),
        closing=("", "{remark}"),
    ),
    Describer(
        "guesser",
        share=0.40,
        at_most=3,
        invents="anything",
        opening=("I believe I see {a} {place}.", "Probably {a} {place}.", "It looks like {a} {place}."),
        more=(
            "There could also be {a}.",
            "I think I can see {a}.",
            "Over on the left I suspect {a}.",
            "In the back I would guess at {a}.",
        ),
        closing=("", "", "It is hard to tell."),
    ),
)

THINGS = dict(
    line.split(" = ") for line in (HERE / "demo_things.txt").read_text(encoding="utf-8").splitlines()
)
"""COCO name → how somebody puts it who was not asked to look closely."""


def scenes() -> list[Scene]:
    """The scenes of `demo_scenes.txt` beside this script, in order."""
    text = (HERE / "demo_scenes.txt").read_text(encoding="utf-8")
    blocks = [block for block in text.split("\n\n") if block and not block.startswith("#")]
    return [_scene(block.strip().splitlines()) for block in blocks]


def _scene(lines: Sequence[str]) -> Scene:
    name, place, remark, objects, absent = lines
    pairs = [thing.split(" = ") for thing in objects.split("; ")]
    return Scene(name, place, remark, dict(pairs), tuple(absent.removeprefix("not there: ").split(", ")))


class Teller:
    """Tells all scenes in one describer's manner; keeps its share of inventions exact by keeping count."""

    def __init__(self, who: Describer, draw: int) -> None:
        self.who, self.chance = who, random.Random(f"{who.name} {draw}")
        self.owed = self.chance.random() if draw else 0.5

    def tell(self, scene: Scene) -> tuple[str, list[str]]:
        """The description, and what it names."""
        true = list(scene.objects)[: self.who.at_most]
        if self.who.at_most > 2 and len(true) > 3 and self.chance.random() < 0.4:
            true.remove(self.chance.choice(true[1:]))
        self.owed += len(true) * self.who.share / (1 - self.who.share)
        invented = self._invent(scene, int(self.owed))
        self.owed -= len(invented)
        phrases = {
            **{name: scene.objects[name] for name in true},
            **{name: THINGS[name] for name in invented},
        }
        rest = [*true[1:], *invented]
        self.chance.shuffle(rest)
        return self._words(scene, [phrases[name] for name in (true[0], *rest)]), [true[0], *rest]

    def _invent(self, scene: Scene, count: int) -> list[str]:
        pool = scene.absent if self.who.invents == "expected" else sorted(set(THINGS) - set(scene.objects))
        return self.chance.sample(pool, min(count, len(pool)))

    def _words(self, scene: Scene, phrases: Sequence[str]) -> str:
        ways = self.chance.sample(self.who.more, len(self.who.more))
        said = [_fill(self.chance.choice(self.who.opening), phrases[0], scene)]
        for index, group in enumerate(_groups(phrases[1:])):
            said.append(_fill(ways[index % len(ways)], group, scene))
        said.append(_fill(self.chance.choice(self.who.closing), "", scene))
        return " ".join(filter(None, said))


def _groups(phrases: Sequence[str]) -> list[str]:
    """Things two by two, when there are more than two, so that a text does not become a list of tiny sentences."""
    if len(phrases) < 3:
        return list(phrases)
    return [" and ".join(phrases[start : start + 2]) for start in range(0, len(phrases), 2)]


def _fill(way: str, thing: str, scene: Scene) -> str:
    capital = thing[:1].upper() + thing[1:]
    return way.format(a=thing, A=capital, place=scene.place, remark=scene.remark)


def rows(who: Describer, all_scenes: Sequence[Scene]) -> list[dict[str, object]]:
    """What one describer says about every scene: one text and some further samples of it."""
    tellers = [Teller(who, draw) for draw in range(N_SAMPLES + 1)]
    told = [[teller.tell(scene)[0] for teller in tellers] for scene in all_scenes]
    return [
        {"id": s.id, "text": texts[0], "samples": texts[1:]}
        for s, texts in zip(all_scenes, told, strict=True)
    ]


def files() -> dict[str, str]:
    """File name → content of everything this script writes."""
    every = scenes()
    truth = {scene.id: sorted(scene.objects) for scene in every}
    written = {"truth.json": json.dumps(truth, indent=0, ensure_ascii=False) + "\n"}
    for who in DESCRIBERS:
        written[f"{who.name}.jsonl"] = "".join(
            json.dumps(row, ensure_ascii=False) + "\n" for row in rows(who, every)
        )
    return written


def main() -> int:
    """Write the files, or compare them with those on disk."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; fail when a file is out of date")
    check = parser.parse_args().check
    stale = [name for name, text in files().items() if _read(TARGET / name) != text]
    if check:
        for name in stale:
            print(f"{name} is out of date. Run: python scripts/write_demo_captions.py", file=sys.stderr)
        return 1 if stale else 0
    TARGET.mkdir(parents=True, exist_ok=True)
    for name, text in files().items():
        (TARGET / name).write_text(text, encoding="utf-8", newline="\n")
    return 0


def _read(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.is_file() else None


if __name__ == "__main__":
    sys.exit(main())
