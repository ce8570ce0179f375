"""Responders that say what a test tells them, and count how often they were asked."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from vlmtools.types import Json, Reply, Request

Said = Callable[[Request], str | None]


@dataclass
class Scripted:
    """Answers by a function of the request; None is a failure."""

    name: str
    say: Said
    version: str = "1"
    asked: list[Request] = field(default_factory=list)
    closed: int = 0

    def identity(self) -> Mapping[str, Json]:
        return {"kind": "scripted", "name": self.name, "version": self.version}

    def answer(self, requests: Sequence[Request]) -> Iterator[tuple[Request, Reply]]:
        for request in requests:
            self.asked.append(request)
            text = self.say(request)
            error = None if text is not None else "it broke"
            kinds = request.sample.modality if request.show_media else ()
            yield request, Reply(text, error, 10, 5, modality=kinds)

    def close(self) -> None:
        self.closed += 1


OBJECTS = ("dog", "cat", "car", "boat", "chair", "pizza", "clock", "bird")


def scene(item: str) -> list[str]:
    """Three objects that belong to an item, always the same."""
    start = int(hashlib.sha256(item.encode()).hexdigest(), 16)
    return [OBJECTS[(start + step * 3) % len(OBJECTS)] for step in range(3)]


def describer(lies: float) -> Said:
    """Names the item's objects; with probability `lies` per item also one that is not there."""

    def say(request: Request) -> str:
        item = request.sample.id
        seen = scene(item)
        toss = int(hashlib.sha256(f"{lies}{item}{request.draw}".encode()).hexdigest(), 16)
        extra = (
            [next(o for o in OBJECTS[toss % 8 :] + OBJECTS if o not in seen)]
            if (toss >> 8) % 100 < 100 * lies
            else []
        )
        return " ".join(f"There is a {thing}." for thing in (*seen, *extra))

    return say
