"""What is known of one published size of a backbone."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any


@dataclass(frozen=True)
class Variant:
    """One published size of an architecture.

    Args:
        args: Constructor arguments that make it.
        params: Parameters of the authors' model with these arguments, exact; None when not known.
        top1: ImageNet-1k top-1 accuracy in percent as the authors state it; None when not known.
        size: Side of the training images in pixels.
        licence: Licence of the authors' repository.
        source: Repository of the authors, owner/name.
        note: What else a user should know.
    """

    args: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    params: int | None = None
    top1: float | None = None
    size: int = 224
    licence: str = ""
    source: str = ""
    note: str = ""


def sized(variant: Variant, **facts: Any) -> Variant:
    """A variant with some facts changed; arguments are merged.

    Args:
        variant: Where to start.
        facts: Fields of `Variant`.
    """
    args = {**variant.args, **facts.pop("args", {})}
    return replace(variant, args=MappingProxyType(args), **facts)
