"""Where a shortened prompt enters the model: in front of `generate` and of a plain call, on the instance alone.

Pictures are encoded as `generate` would, tokens are dropped, and the original `generate` gets short ids, mask, token
types and positions, with the features as `mm_encoder_outputs`. The session's wrapper lies inside, so that other methods
on the same model see the short prompt as the prompt.
"""

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from vlmtools.errors import BadInput, CannotAttach
from vlmtools.families._prompt import Removable
from vlmtools.patches.base import Handle, Live
from vlmtools.pruning._encode import PIXELS, Chooser, Short, encoder_inputs
from vlmtools.pruning._layouts import layout_of
from vlmtools.pruning._packing import Cut, columns_of, counted, cut
from vlmtools.pruning._tower import Listener, look_at_tower
from vlmtools.pruning.base import Report, Selection, TokenPruner, View

PLACE = "_vlmtools_pruning"
"""The attribute of the model under which its seam lies."""
TOKEN_TYPES = ("token_type_ids", "mm_token_type_ids")


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
        def before(_module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            given = self._wanted(args, kwargs)
            if given is None:
                return None
            call = _Call(self, chooser, given)
            return (), call.for_forward()

        return self.model.register_forward_pre_hook(before, with_kwargs=True, prepend=True)

    def _generate(self, chooser: Chooser, inner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        given = self._wanted(args, kwargs)
        if given is None:
            return inner(*args, **kwargs)
        call = _Call(self, chooser, given)
        with torch.no_grad():
            short = call.for_generate()
        return call.lengthened(inner(**short))

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
        cache = given.get("past_key_values")
        if cache is not None and cache.get_seq_length():
            raise BadInput(
                "A picture comes with a filled cache. Pruned prompts cannot be continued with their pictures: start a "
                "new generate with the whole conversation."
            )


class _Call:
    """One call with pictures, shortened.

    Args:
        seam: Of the model.
        chooser: Decides.
        given: Inputs of the call by name.
    """

    def __init__(self, seam: Seam, chooser: Chooser, given: dict[str, Any]) -> None:
        self.seam, self.model, self.given = seam, seam.model, given
        self.ids: Tensor = given["input_ids"]
        self.mask = self._mask()
        self.shorts = [
            chooser.shorten(kind, self.ids, self.mask.bool(), given)
            for kind, pixels in PIXELS.items()
            if given.get(pixels) is not None
        ]

    def for_generate(self) -> dict[str, Any]:
        """Inputs for the original `generate`."""
        positions = self._positions()
        # without cache a gap in plain positions is read as the border of packed sequences, unless a mask remains:
        # generate drops one that is all ones, so one column of padding stays
        spare = int(positions.ndim == 2 and self._original and self._without_cache())
        shape = self._cut(spare)
        short = self._short(shape)
        short["position_ids"] = self._moved(positions, shape, short["attention_mask"])
        self._lengths(short, self.ids.shape[1] - short["input_ids"].shape[1])
        if short.get("streamer") is not None:
            short["streamer"] = _WholePrompt(short["streamer"], self.ids)
        return short

    def for_forward(self) -> dict[str, Any]:
        """Inputs for one plain pass."""
        three = _three_axes(self.model)
        given = self.given.get("position_ids")
        needed = three or given is not None or self._original
        shape = self._cut(0)
        short = self._short(shape)
        if needed:
            positions = self._positions() if three or given is not None else self._in_a_row()
            short["position_ids"] = self._moved(positions, shape, short["attention_mask"])
        if three:
            last = short["position_ids"][1:].amax((0, 2))
            self.model.base_model.rope_deltas = (last + 1 - short["attention_mask"].sum(-1))[:, None]
        if self.given.get("labels") is not None:
            short["labels"] = shape.of(self.given["labels"], -100)
        return short

    def lengthened(self, output: Any) -> Any:
        """What `generate` gave, with the original prompt in front of the new tokens.

        Args:
            output: Token ids, or a record with `sequences`.
        """
        if isinstance(output, Tensor):
            return self._whole(output)
        output.sequences = self._whole(output.sequences)
        return output

    def _whole(self, sequences: Tensor) -> Tensor:
        prompt = self.ids.repeat_interleave(len(sequences) // len(self.ids), 0).to(sequences.device)
        return torch.cat([prompt, sequences[:, self.length :]], 1)

    def _mask(self) -> Tensor:
        given = self.given.get("attention_mask")
        if isinstance(given, Tensor):
            return given
        config = self.given.get("generation_config") or self.model.generation_config
        pad, ends = config.pad_token_id, config.eos_token_id
        ends = ends if isinstance(ends, list | tuple) else [ends]
        unknown = pad is None or pad in ends
        return torch.ones_like(self.ids) if unknown else self.ids.ne(pad).long()

    @property
    def _original(self) -> bool:
        wanted = self.seam.pruner.positions
        return wanted == "original" or (wanted == "auto" and _three_axes(self.model))

    def _without_cache(self) -> bool:
        config = self.given.get("generation_config") or self.model.generation_config
        return not self.given.get("use_cache", getattr(config, "use_cache", True))

    def _positions(self) -> Tensor:
        """Positions of the whole prompt, as `generate` would number it."""
        found: Tensor | None = self.given.get("position_ids")
        if found is not None:
            return found if found.ndim > 1 else found[None].expand(len(self.ids), -1)
        named = {**self.given, "attention_mask": self.mask, "input_ids": self.ids}
        made: Tensor = self.model._prepare_position_ids_for_generation(self.ids, named)
        return made

    def _in_a_row(self) -> Tensor:
        return torch.arange(self.ids.shape[1], device=self.ids.device).expand(len(self.ids), -1)

    def _moved(self, positions: Tensor, shape: Cut, mask: Tensor) -> Tensor:
        """Positions of the short prompt; the text row of several axes always counts on without a gap."""
        new = counted(mask.bool())
        if not self._original:
            return new if positions.ndim == 2 else new.expand(len(positions), -1, -1).clone()
        short = shape.of(positions, 0)
        if short.ndim == 3 and len(short) == 4:
            short[0] = new
        return short

    def _cut(self, spare: int) -> Cut:
        columns = columns_of([one.mask for one in self.shorts], [one.kept for one in self.shorts])
        shape = cut(columns, self.mask.bool(), spare)
        self.length = shape.columns.shape[1]
        self._note()
        return shape

    def _short(self, shape: Cut) -> dict[str, Any]:
        used = {name for one in self.shorts for name in encoder_inputs(self.model, one.kind, self.given)}
        short = {name: value for name, value in self.given.items() if name not in used}
        short["input_ids"] = shape.of(self.ids, self._padding())
        short["attention_mask"] = shape.of(self.mask, 0)
        for name in TOKEN_TYPES:
            if isinstance(self.given.get(name), Tensor):
                short[name] = shape.of(self.given[name], 0)
        short["mm_encoder_outputs"] = {one.kind: one.output for one in self.shorts}
        return short

    def _padding(self) -> int:
        found = getattr(self.model.config.get_text_config(decoder=True), "pad_token_id", None)
        return int(found) if found is not None and found >= 0 else 0

    def _lengths(self, short: dict[str, Any], removed: int) -> None:
        """Limits that count the prompt are meant for the prompt as it was given."""
        config = short.get("generation_config") or self.model.generation_config
        new = {"max_length": "max_new_tokens", "min_length": "min_new_tokens"}
        changed = {}
        for name, relative in new.items():
            if short.get(relative) is not None or getattr(config, relative, None) is not None:
                continue
            if short.get(name) is not None:
                short[name] = max(1, short[name] - removed)
            elif getattr(config, name, None):
                changed[name] = max(1, getattr(config, name) - removed)
        if changed:
            short["generation_config"] = copy.deepcopy(config)
            for name, value in changed.items():
                setattr(short["generation_config"], name, value)

    def _note(self) -> None:
        views = tuple(view for one in self.shorts for view in _views(one))
        before = sum(int(one.mask.sum()) for one in self.shorts)
        after = sum(len(one.kept.source) for one in self.shorts)
        self.seam.report = Report(views, before, after, self.ids.shape[1], self.length)


def _views(short: Short) -> Iterator[View]:
    rows = short.mask.nonzero()[:, 0].tolist()
    for area, chosen in zip(short.areas, short.selections, strict=True):
        whole = Selection(torch.arange(len(area.places)))
        yield View(rows[int(area.places[0])], short.kind, area.grid, chosen or whole)


def _three_axes(model: Any) -> bool:
    return hasattr(model.base_model, "rope_deltas")


class _WholePrompt:
    """Shows a streamer the prompt that was given, and then the new tokens.

    Args:
        streamer: The caller's.
        prompt: Token ids as they were given.
    """

    def __init__(self, streamer: Any, prompt: Tensor) -> None:
        self.streamer, self.prompt = streamer, prompt
        self.knows_prompt = False

    def put(self, value: Tensor) -> None:
        """Called with the short prompt first."""
        self.streamer.put(value if self.knows_prompt else self.prompt.cpu())
        self.knows_prompt = True

    def end(self) -> None:
        """After the last token."""
        self.streamer.end()
