"""Encode pictures as the model would, let a method decide view by view, and hand over the features that stay."""

import inspect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from vlmtools.errors import BadInput
from vlmtools.pruning._layout import Encoded, Layout
from vlmtools.pruning._layouts import Cells
from vlmtools.pruning._packing import Area, Kept, kept_places
from vlmtools.pruning._tower import Listener
from vlmtools.pruning.base import Seen, Selection, TokenPruner

PIXELS = {"image": "pixel_values", "video": "pixel_values_videos"}
"""Kind → the input that carries it."""


@dataclass(frozen=True, slots=True, eq=False)
class Short:
    """What is left of all pictures, or all videos, of a call.

    Args:
        kind: `image` or `video`.
        mask: Their placeholders in the prompt.
        kept: Which placeholders stay.
        output: For `mm_encoder_outputs`.
        areas: The views.
        selections: What was decided; None where a view stayed whole.
    """

    kind: str
    mask: Bool[Tensor, "batch seq"]
    kept: Kept
    output: Any
    areas: Sequence[Area]
    selections: Sequence[Selection | None]


def encoder_of(model: Any, kind: str) -> Any:
    """The method that encodes pictures or videos; None when there is none.

    Args:
        model: The whole model.
        kind: `image` or `video`.
    """
    return getattr(model.base_model, f"get_{kind}_features", None)


def encoder_inputs(model: Any, kind: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Of the inputs of a call what the encoder takes, chosen as `generate` chooses it.

    Args:
        model: The whole model.
        kind: `image` or `video`.
        inputs: Of the call.
    """
    known = inspect.signature(encoder_of(model, kind)).parameters
    return {name: inputs[name] for name in known if name != "kwargs" and inputs.get(name) is not None}


@dataclass(frozen=True, slots=True, eq=False)
class Chooser:
    """Everything that is needed to shorten the pictures of a call.

    Args:
        pruner: The method.
        model: The whole model.
        layout: Of its family.
        listener: To its tower.
    """

    pruner: TokenPruner
    model: Any
    layout: Layout
    listener: Listener

    def shorten(self, kind: str, ids: Tensor, real: Tensor, inputs: Mapping[str, Any]) -> Short:
        """Encode one kind of medium and choose.

        Args:
            kind: `image` or `video`.
            ids: Of the prompt.
            real: Which tokens are no padding.
            inputs: Of the call.

        Raises:
            BadInput: The prompt has more or fewer placeholders than there are features.
        """
        mask = ids == getattr(self.model.config, f"{kind}_token_id")
        output = self._encode(kind, inputs)
        encoded = Encoded(kind, inputs, _items(output.pooler_output))
        if int(mask.sum()) != encoded.n_tokens:
            raise BadInput(
                f"The prompt has {int(mask.sum())} {kind} tokens and the pictures make {encoded.n_tokens}. Give the "
                "processor's output as it is, with the picture it was made for."
            )
        areas = self.layout.areas(encoded)
        with torch.no_grad():
            selections = self._select(encoded, areas, mask, ids, real)
        kept = kept_places(encoded.n_tokens, areas, selections)
        return Short(kind, mask, kept, _shortened(output, mask, kept, areas, selections), areas, selections)

    def _encode(self, kind: str, inputs: Mapping[str, Any]) -> Any:
        self._refuse_video(kind)
        self.listener.start()
        try:
            with self.layout.watching():
                return encoder_of(self.model, kind)(
                    **encoder_inputs(self.model, kind, inputs), return_dict=True
                )
        finally:
            self.listener.stop()

    def _refuse_video(self, kind: str) -> None:
        if kind == "video" and not isinstance(self.layout, Cells):
            raise BadInput(
                f"Videos of {self.model.config.model_type} cannot be pruned yet: only those of Qwen-VL can. Take "
                "the pruner off for this call, or give pictures."
            )

    def _select(
        self, encoded: Encoded, areas: Sequence[Area], mask: Tensor, ids: Tensor, real: Tensor
    ) -> list[Selection | None]:
        features = torch.cat(encoded.items)
        packed = {key: self.layout.pack(one, encoded) for key, one in self.listener.values().items()}
        rows = mask.nonzero()[:, 0].tolist()
        chosen: list[Selection | None] = []
        for index, (area, n_keep) in enumerate(zip(areas, self._budgets(areas, mask), strict=True)):
            if n_keep >= len(area.places):
                chosen.append(None)
                continue
            row = rows[int(area.places[0])]
            text = self._text(ids[row], real[row]) if self.listener.needs.text else None
            seen = self._seen(features, packed, area, text, encoded.kind, row, index)
            chosen.append(_checked(self.pruner, seen, self.pruner.select(seen, n_keep)))
        return chosen

    def _budgets(self, areas: Sequence[Area], mask: Tensor) -> list[int]:
        """Tokens to keep of every view."""
        found = [0] * len(areas)
        for members in _pictures(areas, mask):
            budgets = self.pruner.budgets([len(areas[index].places) for index in members])
            for index, budget in zip(members, budgets, strict=True):
                found[index] = budget
        return found

    def _seen(
        self, features: Tensor, packed: Mapping[Any, Tensor], area: Area, text: Tensor | None,
        kind: str, row: int, index: int,
    ) -> Seen:  # fmt: skip
        here = {key: one[area.places.to(one.device)].to(features.device) for key, one in packed.items()}
        of = {what: {layer: one for (name, layer), one in here.items() if name == what} for what in _WHAT}
        n_heads = self.listener.parts.vision[0].n_kv_heads if of["keys"] else 1
        return Seen(
            features=features[area.places.to(features.device)],
            grid=area.grid,
            received={layer: one[:, 0] for layer, one in of["received"].items()},
            class_attention={layer: one[:, 0] for layer, one in of["first"].items()},
            keys={layer: one.reshape(len(one), n_heads, -1) for layer, one in of["keys"].items()},
            patches=of["patches"].get(0),
            text=text,
            n_queries=round(float(of["queries"][0].max())) if of["queries"] else 0,
            kind=kind,
            row=row,
            index=index,
            tower=self.listener.tower,
        )

    def _text(self, ids: Tensor, real: Tensor) -> Tensor:
        config = self.model.config
        tokens = {getattr(config, f"{kind}_token_id", None) for kind in PIXELS} - {None}
        visual = torch.isin(ids, torch.tensor(sorted(tokens), device=ids.device))
        embedded: Tensor = self.model.get_input_embeddings()(ids[real.to(ids.device) & ~visual])
        return embedded


_WHAT = ("received", "first", "keys", "patches", "queries")


def _pictures(areas: Sequence[Area], mask: Tensor) -> list[list[int]]:
    """Numbers of the views of every picture."""
    row, column = mask.nonzero(as_tuple=True)
    starts = (row.diff(prepend=row[:1] - 1) != 0) | (column.diff(prepend=column[:1] - 2) != 1)
    run = starts.cumsum(0).tolist()
    found: dict[tuple[str, int], list[int]] = {}
    for index, area in enumerate(areas):
        place = int(area.places[0])
        owner = ("run", run[place]) if area.picture is None else ("picture", area.picture)
        found.setdefault(owner, []).append(index)
    return list(found.values())


def _items(pooled: Any) -> tuple[Tensor, ...]:
    """Features of every picture, (token, dim); a stacked tensor has one along its first axis."""
    return tuple(one.reshape(-1, one.shape[-1]) for one in pooled)


def _checked(pruner: TokenPruner, seen: Seen, chosen: Selection) -> Selection:
    """What a method decided, or what is wrong with it."""
    kept, n = chosen.kept, seen.n_tokens
    ascending = bool((kept[1:] > kept[:-1]).all())
    inside = len(kept) == 0 or (int(kept[0]) >= 0 and int(kept[-1]) < n)
    if not (ascending and inside and chosen.n_tokens):
        raise BadInput(
            f"{pruner.name} chose {kept.tolist()[:8]}… of {n} tokens. Kept indices ascend, none comes twice, at "
            "least one stays: sort them in `select`."
        )
    places = (
        [] if chosen.merged is None else (chosen.merged_at.tolist() if chosen.merged_at is not None else None)
    )
    if places is None or (
        places and (len(places) != chosen.n_tokens - len(kept) or set(places) & set(kept.tolist()))
    ):
        raise BadInput(
            f"{pruner.name} made merged tokens without a place of their own. Give one index that is not kept for "
            "each, in `merged_at`."
        )
    return chosen


def _shortened(
    output: Any, mask: Tensor, kept: Kept, areas: Sequence[Area], selections: Sequence[Selection | None]
) -> Any:
    """The encoder's output with the features that stay, in the container that the family reads."""
    pooled = output.pooler_output
    features = torch.cat(_items(pooled))
    rows = mask.cpu().nonzero()[:, 0][kept.source]
    counts = [int(one) for one in rows.bincount(minlength=len(mask)) if one]
    stays = _with_merged(features[kept.source.to(features.device)], kept, areas, selections)
    held: Any = list(torch.split(stays, counts))
    if isinstance(pooled, Tensor):  # one tensor for all: pieces of equal length that no two prompts share
        held = stays.reshape(-1, math.gcd(*counts), stays.shape[-1])
    more = {}
    deep = getattr(output, "deepstack_features", None)
    if deep is not None:
        flat = [torch.cat(_items(layer)) for layer in deep]
        more = {
            "deepstack_features": [list(torch.split(one[kept.source.to(one.device)], counts)) for one in flat]
        }
    return type(output)(pooler_output=held, **more)


def _with_merged(
    stays: Tensor, kept: Kept, areas: Sequence[Area], selections: Sequence[Selection | None]
) -> Tensor:
    merged = [
        (area, one) for area, one in zip(areas, selections, strict=True) if one and one.merged is not None
    ]
    if not merged:
        return stays
    stays = stays.clone()
    for area, one in merged:
        assert one.merged is not None  # noqa: S101
        stays[kept.order == area.places.max().double() + 0.5] = one.merged.to(stays)
    return stays
