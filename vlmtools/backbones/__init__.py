"""Vision encoders: one file per architecture."""

from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlmtools import registry
from vlmtools.errors import BadInput, UnknownName, suggest

if TYPE_CHECKING:
    from vlmtools.backbones._features_only import FeaturesOnly
    from vlmtools.backbones.base import Backbone

__all__ = ["create", "find", "list_backbones"]


def create(
    name: str,
    pretrained: bool = False,
    checkpoint: str | Path | None = None,
    num_classes: int | None = None,
    in_chans: int | None = None,
    features_only: bool = False,
    out_indices: Sequence[int] | None = None,
    **changes: Any,
) -> "Backbone | FeaturesOnly":
    """A backbone by the name of its variant (`smt_t`), or of its architecture (`smt`, its first variant).

    Args:
        name: One of `list_backbones()`, or an architecture.
        pretrained: Only with `checkpoint`: no weights are bundled or fetched.
        checkpoint: File of weights, the authors' or ours, .safetensors or .pth.
        num_classes: Outputs; 0 for no classifier, None for the variant's own. With a checkpoint of another number the
            classifier stays fresh.
        in_chans: Channels of the images; None for the variant's own.
        features_only: Give the maps of stages instead of logits.
        out_indices: Which stages, with `features_only`; None for all.
        changes: Further constructor arguments.

    Raises:
        UnknownName: No such backbone.
        BadInput: `pretrained` without `checkpoint`, or weights that do not fit.
    """
    from vlmtools.backbones._features_only import FeaturesOnly

    cls, args = find(name)
    chosen = {"num_classes": num_classes, "in_chans": in_chans}
    model = cls(**{**args, **changes, **{key: value for key, value in chosen.items() if value is not None}})
    if pretrained and checkpoint is None:
        raise BadInput(
            f"pretrained=True, but no weights of {name} are bundled or fetched. Download them from the authors "
            f"({_source(cls, name)}) and pass checkpoint=path."
        )
    if checkpoint is not None:
        _load(model, checkpoint, num_classes)
    return FeaturesOnly(model, out_indices) if features_only else model


def find(name: str) -> "tuple[type[Backbone], dict[str, Any]]":
    """The class of a backbone and the constructor arguments of its variant.

    Args:
        name: A variant or an architecture; hyphens are read as underscores.

    Raises:
        UnknownName: No such backbone.
    """
    wanted = name.replace("-", "_")
    known = registry.names(__name__)
    if wanted in known:
        cls = _load_class(wanted)
        first = next(iter(cls.variants.values()), None)
        return cls, dict(first.args) if first else {}
    for architecture in sorted(known, key=lambda one: not wanted.startswith(one)):
        cls = _load_class(architecture)
        if wanted in cls.variants:
            return cls, dict(cls.variants[wanted].args)
    raise UnknownName(f"There is no backbone {name!r}.{suggest(wanted, [*known, *list_backbones()])}")


def list_backbones(filter: str = "*") -> list[str]:
    """Names of all variants.

    Args:
        filter: Pattern with `*`; "*" for all.
    """
    found = [name for architecture in registry.names(__name__) for name in _load_class(architecture).variants]
    return sorted(name for name in found if fnmatch(name, filter))


def _load_class(architecture: str) -> "type[Backbone]":
    from vlmtools.backbones.base import Backbone

    return registry.load(__name__, architecture, Backbone)  # type: ignore[type-abstract]


def _source(cls: "type[Backbone]", name: str) -> str:
    variant = cls.variants.get(name.replace("-", "_")) or next(iter(cls.variants.values()), None)
    return variant.source if variant else "see the file of the architecture"


def _load(model: "Backbone", checkpoint: str | Path, num_classes: int | None) -> None:
    report = model.load_checkpoint(checkpoint, strict=False)
    misfits = [*report.missing, *report.left_over, *report.reshaped]
    other_head = [one for one in misfits if num_classes is not None and "head" in one.split()[0]]
    if len(other_head) < len(misfits):
        raise BadInput(
            f"{str(checkpoint)!r} does not fit {type(model).__name__}: {report}. Choose the variant it belongs to."
        )
