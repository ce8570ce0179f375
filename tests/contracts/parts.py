"""Every connector and adapter with the tiny host it is tried on, for the contracts they all fulfil."""

import copy
import functools
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vlmtools import adapters, registry
from vlmtools.adapters.base import Part

PARTS = registry.names(adapters)
every = pytest.mark.parametrize("name", PARTS)


@functools.cache
def kind(name: str) -> type[Part]:
    return registry.load(adapters, name, Part)  # type: ignore[type-abstract]


@functools.cache
def _host(name: str) -> tuple[nn.Module, dict[str, Tensor]]:
    return kind(name).tiny_host()


def host(name: str) -> tuple[Any, dict[str, Tensor]]:
    """A fresh copy, in evaluation mode."""
    model, inputs = _host(name)
    return copy.deepcopy(model).eval(), inputs


def made(name: str) -> Part:
    torch.manual_seed(0)
    return kind(name).tiny()


def shake(part: Part, host: nn.Module, scale: float = 0.1) -> None:
    """Leave the start, where gates and up-projections may be zero."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for one in (p for p in host.parameters() if p.requires_grad):
            one.add_(torch.randn(one.shape, generator=generator).to(one) * scale)


def answer(model: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
    return first(model(**inputs))


def first(output: Any) -> Tensor:
    if isinstance(output, Tensor):
        return output
    values = output.values() if isinstance(output, Mapping) else output
    return next(one for one in values if isinstance(one, Tensor) and one.is_floating_point())


def trained(model: nn.Module) -> set[int]:
    return {id(one) for one in model.parameters() if one.requires_grad}


def hooks(model: nn.Module) -> int:
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks")
    return sum(len(getattr(one, kind)) for one in model.modules() for kind in kinds)


def bits(model: nn.Module) -> dict[str, Tensor]:
    return {name: one.clone() for name, one in model.state_dict().items()}


def checkpoint(model: Any, use_reentrant: bool) -> None:
    """Switch gradient checkpointing on, under the name the installed transformers prefers."""
    if hasattr(model, "activation_checkpointing_enable"):
        model.activation_checkpointing_enable(
            activation_checkpointing_kwargs={"use_reentrant": use_reentrant}
        )
    else:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": use_reentrant})
