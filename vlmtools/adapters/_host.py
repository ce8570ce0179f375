"""What an adapter asks of its host: where its parts are, which of them train, where numbers live."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from vlmtools.errors import BadInput, CannotAttach
from vlmtools.families import _probe
from vlmtools.families._probe import Attention, bare
from vlmtools.families._refuse import refuse_compiled
from vlmtools.types import Json
from vlmtools.vlm import VLM

Sizes = Mapping[str, Json]
"""Everything a layer is built from besides the hyperparameters; written to `adapter_config.json`."""


@dataclass(frozen=True, slots=True, eq=False)
class Site:
    """One place in a host where a layer goes.

    Args:
        name: Dotted path of the module.
        module: The module itself; it decides dtype and device of the layer.
        sizes: What the layer is built from besides the hyperparameters.
    """

    name: str
    module: nn.Module
    sizes: Sizes = field(default_factory=dict)


def host_of(target: Any) -> nn.Module:
    """The Hugging Face model itself.

    Args:
        target: A `VLM`, a loaded model, wrapped or not, or any module.

    Raises:
        BadInput: It is none of these.
        CannotAttach: It was compiled already.
    """
    model = target.model if isinstance(target, VLM) else target
    host = bare(model)
    if not isinstance(host, nn.Module):
        raise BadInput(
            f"A connector or adapter attaches to a VLM or a torch module, not to {type(target).__name__}. Load one "
            "with vlmtools.load(name)."
        )
    refuse_compiled(model)
    return host


def attentions(host: nn.Module, tower: str = "text") -> tuple[Attention, ...]:
    """The attention modules of one tower, in order.

    Args:
        host: A vision-language model, a language model, or a vision tower alone.
        tower: text, vision, or all; a host with one tower has that one under every name.

    Raises:
        CannotAttach: There is none.
    """
    found = _attentions(host, tower)
    if not found:
        raise CannotAttach(
            f"{type(host).__name__} has no attention modules of known form in tower {tower!r}. Known output "
            f"projections: {', '.join(_probe.PROJECTIONS)}. Choose another tower: text, vision or all."
        )
    return found


def _attentions(host: nn.Module, tower: str) -> tuple[Attention, ...]:
    # a tower alone, such as CLIPVisionModel, has no decoder to look into
    if not hasattr(host, "generate"):
        return tuple(_probe._attention(host, host, _probe._layers(host)))
    anatomy = _probe.anatomy(host)
    return {"text": anatomy.attention, "vision": anatomy.vision}.get(
        tower, anatomy.vision + anatomy.attention
    )


def path_of(host: nn.Module, module: nn.Module) -> str:
    """The dotted path of a module.

    Args:
        host: The whole model.
        module: A part of it.
    """
    return next(str(name) for name, one in host.named_modules() if one is module)


def dtype_and_device(module: nn.Module, host: nn.Module) -> tuple[torch.dtype, torch.device]:
    """Where a layer beside `module` should live; quantised weights say nothing, then the host decides.

    Args:
        module: The neighbour.
        host: The whole model.
    """
    mine = next(module.parameters(), None)
    tensors = (t for one in (module, host) for t in one.parameters() if t.is_floating_point())
    dtype = next((t.dtype for t in tensors), torch.float32)
    return dtype, mine.device if mine is not None else torch.device("cpu")


@dataclass(slots=True)
class _Flags:
    before: list[tuple[nn.Parameter, bool]]
    n: int = 1


_FROZEN: "WeakKeyDictionary[nn.Module, _Flags]" = WeakKeyDictionary()


def freeze(host: nn.Module) -> None:
    """Stop all parameters of the host from training; the flags are kept for `thaw`. Counts its calls.

    Args:
        host: The model.
    """
    if host in _FROZEN:
        _FROZEN[host].n += 1
        return
    _FROZEN[host] = _Flags([(one, one.requires_grad) for one in host.parameters()])
    for parameter in host.parameters():
        parameter.requires_grad_(False)


def thaw(host: nn.Module) -> None:
    """Give the parameters the flags they had, once everything that froze the host is gone.

    Args:
        host: The model.
    """
    _FROZEN[host].n -= 1
    if _FROZEN[host].n == 0:
        for parameter, flag in _FROZEN.pop(host).before:
            parameter.requires_grad_(flag)


def linears(module: nn.Module) -> Iterator[Any]:
    """Projections inside a module, quantised ones included, in the order they were made.

    Args:
        module: Where to look.
    """
    return (one for one in module.modules() if hasattr(one, "in_features") and hasattr(one, "out_features"))


def dense_weight(linear: Any) -> Tensor:
    """The weight of a projection as floating point numbers, on the CPU, dequantised where it is 4-bit.

    Args:
        linear: The projection.

    Raises:
        CannotAttach: It is quantised in a way that is not known here.
    """
    weight = linear.weight
    state = getattr(weight, "quant_state", None)
    if state is not None:
        from bitsandbytes.functional import dequantize_4bit

        found: Tensor = dequantize_4bit(weight.data, state)
        return found.detach().float().cpu()
    if not weight.is_floating_point():
        raise CannotAttach(
            f"{type(linear).__name__} holds {weight.dtype} weights that cannot be copied from. Load the model in 4 "
            "bits or without quantisation."
        )
    plain: Tensor = weight.detach().float().cpu()
    return plain


SEATS = ("multi_modal_projector", "connector", "merger", "modality_projection", "mm_projector")
"""What the module between vision tower and language model is called."""


def seat(host: nn.Module) -> tuple[nn.Module, str, str]:
    """The connector's place: its parent, its name there, its dotted path.

    Args:
        host: A vision-language model.

    Raises:
        CannotAttach: It has none of the known names.
    """
    found = [path for path, _ in host.named_modules() if path.rpartition(".")[2] in SEATS]
    if not found:
        raise CannotAttach(
            f"{type(host).__name__} has no connector under a known name ({', '.join(SEATS)}). Use the connector by "
            "itself: features in, tokens for the language model out."
        )
    # the innermost one: Idefics' connector joins neighbouring patches before its projection
    parent, _, name = max(found, key=lambda path: path.count(".")).rpartition(".")
    return host.get_submodule(parent), name, f"{parent}.{name}".strip(".")


def same_sites(known: Mapping[str, Sizes], found: Sequence[Site]) -> None:
    """Check that loaded layers fit a host.

    Args:
        known: Dotted path → sizes the layers were made for.
        found: The places in the host.

    Raises:
        CannotAttach: They differ; the message names the first difference.
    """
    have = {site.name: dict(site.sizes) for site in found}
    wrong = [
        name for name in {**known, **have} if have.get(name) != (dict(known[name]) if name in known else None)
    ]
    if wrong:
        raise CannotAttach(
            f"The layers were made for another host: at {wrong[0]} they expect {known.get(wrong[0], 'nothing')}, the "
            f"host has {have.get(wrong[0], 'nothing')}. Attach to the architecture they were trained with."
        )
