"""Wrap the attention kernel a model uses, through the public attention interface, for chosen modules only.

A wrapped kernel keeps the base name in its own, because transformers reads names, and is registered with the mask
function of its base under the same name: without that the mask is dropped silently. It runs the base kernel as it is;
a module that has plans hands the finished call to them, any other module falls straight through.
"""

import contextlib
import importlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from vlmtools.errors import CannotAttach
from vlmtools.families._call import Call
from vlmtools.families._prompt import Removable
from vlmtools.families._rows import Output, Plan, apply

SUFFIX = "_rows"
PLANS = "_vlmtools_plans"
"""The attribute of an attention module that holds its plans, in the order they were attached."""
TAPS = "_vlmtools_taps"
"""The attribute of an attention module that holds who is shown its calls."""
USES = "_vlmtools_wrapped"
"""The attribute of a submodel that counts who needs its kernel wrapped."""


def listen(submodel: Any, plans: Sequence[Plan]) -> Removable:
    """Carry out plans at every attention call of their modules.

    Args:
        submodel: The decoder or the vision tower the modules belong to: its attention implementation is wrapped.
        plans: At most one per module.

    Raises:
        CannotAttach: The kernel in use cannot be wrapped, or the modules do not use the attention interface.
    """
    with contextlib.ExitStack() as stack:
        stack.callback(_wrap(submodel, [plan.attention.module for plan in plans]).remove)
        for plan in plans:
            module: Any = plan.attention.module
            module.__dict__.setdefault(PLANS, []).append(plan)
            stack.callback(_forget, module, plan)
        return Removable(stack.pop_all().close)


def tap(submodel: Any, module: Any, see: Callable[[Call], object]) -> Removable:
    """Show every finished call of one attention module to a function; the kernel's output is not touched.

    Args:
        submodel: The decoder or the vision tower the module belongs to: its attention implementation is wrapped.
        module: The attention module.
        see: Receives the call: queries and keys as the kernel got them.

    Raises:
        CannotAttach: The kernel in use cannot be wrapped, or the module does not use the attention interface.
    """
    with contextlib.ExitStack() as stack:
        stack.callback(_wrap(submodel, [module]).remove)
        module.__dict__.setdefault(TAPS, []).append(see)
        stack.callback(_forget, module, see, TAPS)
        return Removable(stack.pop_all().close)


def _forget(module: Any, one: Any, place: str = PLANS) -> None:
    listed = module.__dict__[place]
    listed.remove(one)
    if not listed:
        del module.__dict__[place]


def _wrap(submodel: Any, modules: Sequence[Any]) -> Removable:
    """Switch the submodel to the wrapped form of its kernel, or count one more user of it."""
    current = str(submodel.config._attn_implementation or "eager")
    users = submodel.__dict__.get(USES)
    if users is None:
        users = {"n": 0, "base": current}
        _switch(submodel, modules, current)
        submodel.__dict__[USES] = users
    elif current != users["base"] + SUFFIX:
        raise CannotAttach(
            f"The attention implementation was set to {current!r} while a method that edits rows was attached, and "
            "that method no longer acts. Remove it first, then choose the kernel and attach again."
        )
    users["n"] += 1
    return Removable(lambda: _unwrap(submodel))


def _unwrap(submodel: Any) -> None:
    users = submodel.__dict__[USES]
    users["n"] -= 1
    if users["n"]:
        return
    submodel.__dict__.pop(USES)
    # somebody who chose another kernel meanwhile keeps it
    if submodel.config._attn_implementation == users["base"] + SUFFIX:
        _set(submodel, users["base"])


def _switch(submodel: Any, modules: Sequence[Any], base: str) -> None:
    if "/" in base or "|" in base:
        raise CannotAttach(
            f"The attention kernel {base!r} cannot be wrapped. Call model.set_attn_implementation('sdpa') first."
        )
    _register(base)
    _set(submodel, base + SUFFIX)
    strange = sorted({type(one).__name__ for one in modules if _implementation(one) != base + SUFFIX})
    if strange:
        _set(submodel, base)
        raise CannotAttach(
            f"{strange[0]} does not go through the attention interface of transformers, so its rows cannot be "
            "reached. Methods that scale head outputs still work on it."
        )


def _implementation(module: Any) -> str | None:
    return getattr(getattr(module, "config", None), "_attn_implementation", None)


def _set(submodel: Any, name: str) -> None:
    if "flash" in name:
        # the public setter would exchange a name it does not know for another flash kernel
        submodel.config._attn_implementation_internal = name
    else:
        submodel.set_attn_implementation(name)


def _register(base: str) -> None:
    """Register the wrapped kernel and its mask function under one name."""
    from transformers import AttentionInterface, AttentionMaskInterface

    masks = AttentionMaskInterface()
    if base not in masks:
        raise CannotAttach(
            f"The attention kernel {base!r} has no mask function registered under its name, so padding would be "
            "ignored. Register one with AttentionMaskInterface.register, or use 'sdpa'."
        )
    if base + SUFFIX not in AttentionInterface():
        AttentionInterface.register(base + SUFFIX, _wrapped(base))
    AttentionMaskInterface.register(base + SUFFIX, masks[base])


def _wrapped(base: str) -> Callable[..., Output]:
    def attention(
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Any = None,
        **options: Any,
    ) -> Output:
        with _named(module, base):
            output: Output = _kernel(base, module)(module, query, key, value, attention_mask, **options)
        plans, taps = module.__dict__.get(PLANS), module.__dict__.get(TAPS)
        if plans is None and taps is None:
            return output
        call = Call(module, query, key, value, attention_mask, options, base)
        if taps is not None:
            _show(taps, call)
        if plans is None:
            return output
        changed: Output = _carry_out(plans, call, output)
        return changed

    return attention


@torch.compiler.disable  # type: ignore[untyped-decorator]
def _show(taps: Sequence[Callable[[Call], object]], call: Call) -> None:
    for see in tuple(taps):
        see(call)


@torch.compiler.disable  # type: ignore[untyped-decorator]  # what plans do depends on data
def _carry_out(plans: Sequence[Plan], call: Call, output: Output) -> Output:
    result: Output = apply(tuple(plans), call, output)
    return result


def _kernel(base: str, module: nn.Module) -> Callable[..., Any]:
    """The function behind a name; every modeling file has an eager one of its own."""
    from transformers import AttentionInterface

    if base == "eager":
        eager: Callable[..., Any] = importlib.import_module(type(module).__module__).eager_attention_forward
        return eager
    registered: Callable[..., Any] = AttentionInterface()[base]
    return registered


@contextlib.contextmanager
def _named(module: Any, base: str) -> Iterator[None]:
    """Flash kernels read from the configuration which of them is meant."""
    if "flash" not in base:
        yield
        return
    config, name = module.config, module.config._attn_implementation
    config._attn_implementation_internal = base
    try:
        yield
    finally:
        config._attn_implementation_internal = name
