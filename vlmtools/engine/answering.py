"""Work whose calls are requests to a responder."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from vlmtools.engine.base import Failed
from vlmtools.types import Json, Reply, Request, Responder, Sample

Keyed = tuple[str, Request]
"""What an answer is stored under, and what is asked."""


@dataclass(frozen=True)
class Answering:
    """A responder is asked; a call is a key and the request whose answer is stored under it.

    Args:
        responder: Who answers.
    """

    responder: Responder

    @property
    def name(self) -> str:
        """The responder's name."""
        return self.responder.name

    @property
    def loads_a_model(self) -> bool:
        """True for models of the machine itself."""
        return self.identity().get("kind") == "hf"

    def identity(self) -> Mapping[str, Json]:
        """The responder's own."""
        return self.responder.identity()

    def travelling(self, call: Keyed) -> Keyed:
        """The call with absolute paths.

        Args:
            call: A key and its request.
        """
        key, request = call
        return key, replace(request, sample=absolute(request.sample))

    def do(self, calls: Sequence[Keyed]) -> Iterator[tuple[int, Reply | Failed]]:
        """Ask; a reply without text is a reply.

        Args:
            calls: Requests that differ in item or draw.
        """
        place = {(request.sample.id, request.draw): index for index, (_, request) in enumerate(calls)}
        for request, reply in self.responder.answer([request for _, request in calls]):
            yield place[request.sample.id, request.draw], reply

    def close(self) -> None:
        """Close the responder."""
        self.responder.close()


def absolute(sample: Sample) -> Sample:
    """The item with absolute paths to its media; addresses, and what is no file here, stay as they are.

    Args:
        sample: The item.
    """
    files = {
        kind: str(Path(where).absolute())
        for kind, where in sample.media
        if ":" not in where[:8] and not Path(where).is_absolute() and Path(where).is_file()
    }
    return replace(sample, **files) if files else sample  # type: ignore[arg-type]
