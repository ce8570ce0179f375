"""Where a shortened prompt enters the model: in front of `generate` and of a plain call, on the instance alone.

Pictures are encoded as `generate` would, tokens are dropped, and the original `generate` gets short ids, mask, token
types and positions, with the features as `mm_encoder_outputs`. The session's wrapper lies inside, so that other methods
on the same model see the short prompt as the prompt.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from vlmtools.errors import BadInput, CannotAttach
from vlmtools.families._cache import given_cache, held_cache
from vlmtools.families._prompt import Removable
from vlmtools.patches.base import Handle, Live
from vlmtools.pruning._encode import PIXELS, Chooser
from vlmtools.pruning._layouts import layout_of
from vlmtools.pruning._shorten import ShortCall
from vlmtools.pruning._tower import Listener, look_at_tower
from vlmtools.pruning.base import Report, TokenPruner

PLACE = "_vlmtools_pruning"
"""The attribute of the model under which its seam lies."""
SHORT = "_vlmtools_removed"
"""The attribute of a cache that says by how many tokens its prompt was shortened."""


def last_report(live: Live) -> Report:
    """What the last pruned call of a model kept; empty before the first and after removal.

    Args:
        live: The model.
    """
    seam = live.anatomy.model.__dict__.get(PLACE)
    return seam.report if seam is not None else Report()


@dataclass(slots=True, eq=False)
class Seam:
    """One pruner on one model.

    Args:
        pruner: The method.
        live: The model.
    """

    pruner: TokenPruner
    live: Live
    report: Report = field(default_factory=Report)
    is_on: bool = True

    @property
    def model(self) -> Any:
        """The whole model."""
        return self.live.anatomy.model

    def install(self) -> Iterator[Handle]:
        """Switch on: the place, the listeners, the wrapper of `generate`, the hook.

        Raises:
            CannotAttach: Another pruner is on, or the model does not fit.
        """
        parts, status = self.live.anatomy, self.live.status
        self._refuse()
        layout, tower = layout_of(parts), look_at_tower(parts)
        listener = Listener(parts, tower, self.pruner.needs(tower))
        chooser = Chooser(self.pruner, self.model, layout, listener)
        self.model.__dict__[PLACE] = self
        yield Removable(self._leave)
        yield from listener.install()
        status.modules.extend([*listener.modules(), "generate"])
        status.tokens = f"visual tokens in front of the language model, keep={self.pruner.keep}"
        yield self._wrap_generate(chooser)
        yield self._hook_forward(chooser)

    def _leave(self) -> None:
        self.is_on = False
        self.model.__dict__.pop(PLACE, None)

    def _refuse(self) -> None:
        if PLACE in self.model.__dict__:
            other = self.model.__dict__[PLACE].pruner
            raise CannotAttach(
                f"{other!r} is attached already, and one prompt is pruned once. Remove it before "
                f"attaching {self.pruner.name}."
            )
        if not getattr(self.model, "_supports_mm_encoder_outputs", lambda: False)():
            raise CannotAttach(
                f"{type(self.model).__name__} takes no encoded pictures (mm_encoder_outputs), so its prompt cannot be "
                "shortened from outside. Methods on attention heads, such as vhr, work on it."
            )

    def _wrap_generate(self, chooser: Chooser) -> Removable:
        space = self.model.__dict__
        own, inner = space.get("generate"), self.model.generate

        def generate(*args: Any, **kwargs: Any) -> Any:
            return self._generate(chooser, inner, args, kwargs)

        def back() -> None:
            if space.get("generate") is generate:
                space.pop("generate") if own is None else space.update(generate=own)

        space["generate"] = generate
        return Removable(back)

    def _hook_forward(self, chooser: Chooser) -> Any:
        @torch.compiler.disable  # type: ignore[untyped-decorator]  # what stays depends on data
        def before(_module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            given = self._wanted(args, kwargs)
            if given is None:
                self._refuse_long_mask(args, kwargs)
                return None
            call = ShortCall(chooser, given)
            short = call.for_forward()
            self.report = call.report
            return (), short

        return self.model.register_forward_pre_hook(before, with_kwargs=True, prepend=True)

    def _generate(self, chooser: Chooser, inner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        given = self._wanted(args, kwargs)
        if given is None:
            self._refuse_short_cache(kwargs)
            return inner(*args, **kwargs)
        with torch.no_grad():
            call = ShortCall(chooser, given)
            short = call.for_generate()
        self.report = call.report
        output = call.lengthened(inner(**short))
        for cache in (given_cache(given), held_cache(output)):
            if cache is not None:
                cache.__dict__[SHORT] = self.report.length_before - self.report.length_after
        return output

    def _wanted(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any] | None:
        """The named inputs of a call that brings pictures; None for any other, which passes untouched."""
        if not self.is_on or self.pruner.is_neutral or self.live.session.is_bare:
            return None
        if all(kwargs.get(pixels) is None for pixels in PIXELS.values()):
            return None
        given = {**kwargs}
        first = given.pop("inputs", None) if not args else args[0]
        if first is not None:
            given["input_ids"] = first
        self._refuse_inputs(args, given)
        return given

    def _refuse_inputs(self, args: tuple[Any, ...], given: Mapping[str, Any]) -> None:
        if given.get("input_ids") is None or len(args) > 1:
            raise BadInput(
                f"{self.pruner.name} needs input_ids by name to find the picture's tokens. Call generate or the model "
                "with **inputs as the processor gives them."
            )
        cache = given_cache(given)
        if cache is not None and cache.get_seq_length():
            raise BadInput(
                "A picture comes with a filled cache. Pruned prompts cannot be continued with their pictures: start a "
                "new generate with the whole conversation."
            )

    def _refuse_short_cache(self, kwargs: Mapping[str, Any]) -> None:
        """`generate` would take the whole conversation's ids from the place where the short prompt ended."""
        cache = given_cache(kwargs)
        if cache is None or not hasattr(cache, SHORT):
            return
        if not cache.get_seq_length():  # emptied for another prompt
            delattr(cache, SHORT)
            return
        if self.is_on:
            raise BadInput(
                f"The cache was filled by a prompt that {self.pruner.name} made {getattr(cache, SHORT)} tokens "
                "shorter, so the ids of the conversation no longer say where it ends. Start a new generate with the "
                "whole conversation and its pictures, without a cache."
            )

    def _refuse_long_mask(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """A loop of the caller's own that goes on after a shortened prompt as if it had stayed whole."""
        cache, mask = given_cache(kwargs), kwargs.get("attention_mask")
        new = next((one for one in (*args, kwargs.get("input_ids")) if isinstance(one, Tensor)), None)
        if not self.is_on or cache is None or new is None or not isinstance(mask, Tensor) or mask.ndim != 2:
            return
        past = int(cache.get_seq_length())
        if past and mask.shape[1] > past + new.shape[1]:
            raise BadInput(
                f"The mask counts {mask.shape[1]} tokens and the cache has {past}: the prompt was shortened to "
                f"{self.report.length_after} by {self.pruner.name}. Call generate, leave the mask out, or take "
                "the pruner off: traces and passes over a given answer need the whole prompt."
            )
