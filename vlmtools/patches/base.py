"""What a patch is: a training-free method that changes what a loaded model computes while it is attached.

    with VHR(strength=2.0).attach(vlm):
        vlm.answer("beach.jpg", "How many boats are there?")

Weights are never touched, several patches nest and come off in any order, and a patch that fails half-way leaves
nothing behind.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

from vlmtools.errors import BadInput
from vlmtools.families._probe import Anatomy
from vlmtools.families._session import Session
from vlmtools.vlm import VLM


class Handle(Protocol):
    """Anything that is taken back by calling `remove`: hooks of torch, processors, row edits."""

    def remove(self) -> object:
        """Take it back."""


@dataclass(slots=True)
class Status:
    """What a patch found and did.

    Args:
        patch: The patch.
        modules: Dotted names of the modules it sits on.
        heads: Layer → which heads it works on now, (batch, head); empty until the first prompt, and for methods that
            treat all heads alike.
        tokens: Which tokens it reads or changes, in words.
        notes: What it could not do as asked, and what it did instead.
    """

    patch: "Patch"
    modules: list[str] = field(default_factory=list)
    heads: dict[int, Any] = field(default_factory=dict)
    tokens: str = ""
    notes: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        """Add a remark, once.

        Args:
            text: The remark.
        """
        if text not in self.notes:
            self.notes.append(text)

    def __str__(self) -> str:
        """A few lines for people."""
        chosen = {layer: int(heads.sum()) for layer, heads in self.heads.items()}
        lines = [repr(self.patch), f"modules: {len(self.modules)}", f"heads: {chosen or 'all'}"]
        return "\n".join([*lines, f"tokens: {self.tokens or 'all'}", *(f"note: {one}" for one in self.notes)])


@dataclass(frozen=True, slots=True)
class Live:
    """The model a patch is being attached to.

    Args:
        session: Its state: prompt, picture positions, phase; see `families._session`.
        status: Where the patch writes what it found.
    """

    session: Session
    status: Status

    @property
    def anatomy(self) -> Anatomy:
        """Where the model's parts are."""
        return self.session.anatomy


class Attached:
    """A patch that is on: a `with` block, or `remove()`.

    Args:
        live: The model it sits on.
        stack: Takes everything back.
    """

    def __init__(self, live: Live, stack: ExitStack) -> None:
        self.live, self._stack = live, stack

    def __enter__(self) -> Self:
        """It is on already."""
        return self

    def __exit__(self, *_: object) -> None:
        """Take it off, also after an error."""
        self.remove()

    def remove(self) -> None:
        """Take it off; the second call does nothing."""
        self._stack.close()

    def status(self) -> Status:
        """Modules, heads and tokens it works on, and what it could not do as asked."""
        return self.live.status


class Patch(ABC):
    """A training-free method. A subclass is a frozen dataclass with every field defaulted, in a file named after it.

    `hooks` yields one handle per thing it switches on; `neutral` gives the setting that changes nothing.
    """

    @property
    def name(self) -> str:
        """File name of the patch: its name on the command line."""
        return type(self).__module__.rpartition(".")[2]

    def attach(self, target: VLM | Any) -> Attached:
        """Switch the method on. If any part fails to, the earlier parts come off again.

        Args:
            target: A `VLM`, or any loaded Hugging Face model that generates text from pictures.

        Raises:
            CannotAttach: The model has nothing the method could act on, or was compiled already.
            BadInput: A setting does not fit the model.
        """
        model, tokenizer = _opened(target)
        with ExitStack() as stack:
            session = Session.open(model, tokenizer)
            stack.callback(session.close)
            live = Live(session, Status(self))
            for handle in self.hooks(live):
                stack.callback(handle.remove)
            return Attached(live, stack.pop_all())

    @abstractmethod
    def hooks(self, live: Live) -> Iterator[Handle]:
        """Switch the parts on one by one, yielding what takes each back.

        Args:
            live: The model: `live.anatomy`, `live.session`, and `live.status` to fill in.
        """

    @classmethod
    @abstractmethod
    def neutral(cls) -> Self:
        """The setting that leaves every logit bit-identical."""

    @classmethod
    def tiny(cls) -> Self:
        """A setting that acts on a model of three layers; for the tests that every patch inherits."""
        return cls()


def _opened(target: Any) -> tuple[Any, Any]:
    if isinstance(target, VLM):
        return target.model, target.tokenizer
    if not (hasattr(target, "generate") and hasattr(target, "config")):
        raise BadInput(
            f"A patch attaches to a VLM or to a loaded Hugging Face model, not to {type(target).__name__}. Load one "
            "with vlmtools.load(name)."
        )
    return target, None


def chosen_layers(wanted: tuple[int, ...], n_layers: int) -> tuple[int, ...]:
    """Layer numbers, negative ones counted from the end.

    Args:
        wanted: The numbers.
        n_layers: Layers of the decoder.

    Raises:
        BadInput: There is no such layer.
    """
    strange = [layer for layer in wanted if not -n_layers <= layer < n_layers]
    if strange:
        raise BadInput(f"There is no layer {strange[0]}: the decoder has layers 0 to {n_layers - 1}.")
    return tuple(sorted({layer % n_layers for layer in wanted}))


Inputs = Mapping[str, Any]
"""Inputs of a model by name."""
