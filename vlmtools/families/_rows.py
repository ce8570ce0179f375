"""Recompute chosen rows of an attention call: scores before the softmax, weights after it, head outputs.

The kernel in use has done its work already; what nobody asked to change is handed back as it came, bit for bit.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from vlmtools.errors import BadInput
from vlmtools.families._call import NEVER, Call, mask_rows
from vlmtools.families._probe import Attention
from vlmtools.families._session import Session

Which = Literal["answer", "new", "after_image", "all", "first"]
"""Rows: from the last prompt position on; new tokens only; from behind the (last) picture on; every one; only row 0."""


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """What a function that reads or edits rows is told about them.

    Args:
        attention: The layer, its heads, its module.
        session: The model's state: prompt, phase.
        image: Which keys are pieces of the picture; all of them in cross-attention.
        allowed: Which keys each row may see.
        call: The kernel's call itself.
        start: The first of these rows among the rows of the call.
    """

    attention: Attention
    session: Session
    image: Bool[Tensor, "batch 1 1 key"]
    allowed: Bool[Tensor, "#batch #head row key"]
    call: Call
    start: int


Edit = Callable[[Rows, Float[Tensor, "batch head row key"]], Float[Tensor, "batch head row key"]]
Read = Callable[[Rows, Float[Tensor, "batch head row key"]], object]


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """What one method does to the rows of one attention module.

    Args:
        attention: The module.
        session: Of its model.
        which: The rows.
        scores: Changes scaled scores before mask and softmax.
        weights: Changes weights after the softmax; they need not add up to 1.
        output: Changes head outputs; the last axis is the width of a head.
        read: Is shown the weights that are finally used.
        is_on: Asked at every call; False leaves the call alone.
    """

    attention: Attention
    session: Session
    which: Which = "answer"
    scores: Edit | None = None
    weights: Edit | None = None
    output: Edit | None = None
    read: Read | None = None
    is_on: Callable[[], bool] = lambda: True

    @property
    def edits(self) -> bool:
        """Whether it changes anything."""
        return any(one is not None for one in (self.scores, self.weights, self.output))

    def within(self, call: Call) -> Bool[Tensor, "batch row"]:
        """Which rows of a call are meant.

        Args:
            call: The kernel's call.
        """
        batch, n_rows = call.query.shape[0], call.query.shape[2]
        everywhere = torch.ones(batch, n_rows, dtype=torch.bool, device=call.query.device)
        if self.which == "first":
            return everywhere.cumsum(-1) == 1
        if self.which == "all":
            return everywhere
        prompt = self.session.prompt
        start = {"answer": prompt.last, "new": prompt.last + 1, "after_image": prompt.after_image}[self.which]
        return self.session.rows_from(start.to(everywhere.device), batch)


Output = tuple[Tensor, Tensor | None]
"""What a kernel gives: (batch, rows, heads, width), and its weights when it has them."""


def apply(plans: Sequence[Plan], call: Call, output: Output) -> Output:
    """Carry out the plans in the order they were attached, with one softmax for all of them.

    Args:
        plans: Of this module.
        call: The kernel's call.
        output: What the kernel gave.
    """
    active = [plan for plan in plans if not plan.session.is_bare and plan.is_on()]
    if not active:
        return output
    _refuse_unknown(call)
    within = [_spot(plan, call) for plan in active]
    start, stop = min(spot[0] for spot in within), max(spot[1] for spot in within)
    meant = [_meant(spot, start, stop, call) for spot in within]
    added = mask_rows(call, start, stop)
    rows = _rows(active[0], call, added, start)
    scores = score_rows(call, start, stop)
    for plan, where in zip(active, meant, strict=True):
        scores = _edited(plan.scores, rows, scores, where)
    weights = (scores + added).softmax(-1)
    for plan, where in zip(active, meant, strict=True):
        weights = _edited(plan.weights, rows, weights, where)
    for plan in active:
        if plan.read is not None:
            plan.read(rows, weights)
    if not any(plan.edits for plan in active):
        return output
    heads = mix_values(weights, call)
    for plan, where in zip(active, meant, strict=True):
        heads = _edited(plan.output, rows, heads, where)
    changed = [where for plan, where in zip(active, meant, strict=True) if plan.edits]
    return _overwrite(output, heads, weights, start, stop, _union(changed))


def _spot(plan: Plan, call: Call) -> tuple[int, int, Tensor | None]:
    """First row, one past the last, and which of them are meant when not all are."""
    n_rows, state = call.query.shape[2], plan.session.state
    if plan.which == "first":
        return 0, 1, None if n_rows == 1 else plan.within(call)
    if plan.which == "all" or (state.prompt is not None and state.past >= state.prompt.length):
        return 0, n_rows, None
    within = plan.within(call)
    start = int((~within).all(0).sum())
    return (
        min(start, n_rows - 1),
        n_rows,
        None if bool(within[:, start:].all()) and start < n_rows else within,
    )


def _meant(spot: tuple[int, int, Tensor | None], start: int, stop: int, call: Call) -> Tensor | None:
    """Which rows from `start` to `stop` a plan means; None for all of them."""
    first, last, within = spot
    if within is None and (first, last) == (start, stop):
        return None
    if within is None:
        place = torch.arange(call.query.shape[2], device=call.query.device)
        within = ((place >= first) & (place < last)).expand(call.query.shape[0], -1)
    return within[:, None, start:stop, None]


def _rows(plan: Plan, call: Call, added: Tensor, start: int) -> Rows:
    batch, n_keys = call.query.shape[0], call.key.shape[2]
    if plan.attention.cross or plan.attention not in plan.session.anatomy.attention:
        image = torch.ones(batch, n_keys, dtype=torch.bool, device=call.key.device)
    else:
        image = plan.session.image_keys(batch, n_keys, call.key.device)
    return Rows(plan.attention, plan.session, image[:, None, None], added > NEVER / 2, call, start)


def _edited(edit: Edit | None, rows: Rows, values: Tensor, where: Tensor | None) -> Tensor:
    if edit is None:
        return values
    changed = edit(rows, values)
    return changed if where is None else torch.where(where, changed, values)


def _union(masks: Sequence[Tensor | None]) -> Tensor | None:
    known = [mask for mask in masks if mask is not None]
    if len(known) < len(masks):
        return None
    return torch.stack(known).any(0)


def score_rows(call: Call, start: int, stop: int) -> Float[Tensor, "batch head row key"]:
    """Scaled, soft-capped scores of some rows, before mask and softmax, in float32.

    Args:
        call: The kernel's call.
        start: First row.
        stop: One past the last row.
    """
    query, key = call.query[:, :, start:stop], call.key
    batch, n_heads, n_rows, width = query.shape
    packed = query.reshape(batch, key.shape[1], n_heads // key.shape[1] * n_rows, width)
    scores = (packed @ key.transpose(-1, -2)).reshape(batch, n_heads, n_rows, key.shape[2])
    scale = call.options.get("scaling")
    scores = scores.float() * (width**-0.5 if scale is None else scale)
    cap: float | None = call.options.get("softcap")
    return scores if cap is None else torch.tanh(scores / cap) * cap


def mix_values(
    weights: Float[Tensor, "batch head row key"], call: Call
) -> Float[Tensor, "batch head row width"]:
    """Head outputs from weights.

    Args:
        weights: Of some rows.
        call: The kernel's call.
    """
    value = call.value
    batch, n_heads, n_rows, n_keys = weights.shape
    weights = nn.functional.dropout(weights, call.options.get("dropout") or 0.0, call.module.training)
    packed = weights.to(value.dtype).reshape(
        batch, value.shape[1], n_heads // value.shape[1] * n_rows, n_keys
    )
    return (packed @ value).reshape(batch, n_heads, n_rows, value.shape[-1])


def _refuse_unknown(call: Call) -> None:
    strange = [key for key in ("s_aux", "position_bias", "cache") if call.options.get(key) is not None]
    if strange:
        raise BadInput(
            f"{type(call.module).__name__} gives its attention kernel {', '.join(strange)}, which recomputed rows "
            "would ignore. Use a method that scales head outputs, or generate without continuous batching."
        )


def _overwrite(
    output: Output, heads: Tensor, weights: Tensor, start: int, stop: int, where: Tensor | None
) -> Output:
    old, old_weights = output
    rows = heads.transpose(1, 2).to(old.dtype)
    if where is not None:
        rows = torch.where(where.transpose(1, 2), rows, old[:, start:stop])
    if old_weights is not None and old_weights.ndim == 4:
        old_weights = _put(old_weights, weights.to(old_weights.dtype), start, stop, 2)
    return _put(old, rows, start, stop, 1), old_weights


def _put(old: Tensor, new: Tensor, start: int, stop: int, axis: int) -> Tensor:
    n = old.shape[axis]
    if stop - start == n:
        return new.contiguous()
    return torch.cat([old.narrow(axis, 0, start), new, old.narrow(axis, stop, n - stop)], axis)
