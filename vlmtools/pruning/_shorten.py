"""One call with pictures: its inputs, shortened, and its output, with the whole prompt put back in front."""

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from vlmtools.pruning._encode import PIXELS, Chooser, Short, encoder_inputs
from vlmtools.pruning._packing import Cut, columns_of, counted, cut
from vlmtools.pruning.base import Report, Selection, View

TOKEN_TYPES = ("token_type_ids", "mm_token_type_ids")
"""Inputs with one entry per token, besides ids, mask, positions and labels."""


class ShortCall:
    """One call with pictures, shortened.

    Args:
        chooser: Decides, view by view.
        given: Inputs of the call by name.
    """

    def __init__(self, chooser: Chooser, given: dict[str, Any]) -> None:
        self.pruner, self.model, self.given = chooser.pruner, chooser.model, given
        self.report = Report()
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
        wanted = self.pruner.positions
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
        self.report = Report(views, before, after, self.ids.shape[1], self.length)


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
