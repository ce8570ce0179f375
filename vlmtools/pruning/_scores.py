"""Attention scores from queries and keys, block by block, so that no whole attention map is ever in memory."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float
from torch import Tensor

from vlmtools.families._call import Call, mask_rows

BLOCK = {"cpu": 2**20}
"""Entries of an attention map computed at once, by device; elsewhere 2²²: 4 MiB in float32 stay in a processor's cache,
16 MiB keep an accelerator busy. About three times that is in use."""

FORBIDDEN = -1e4
"""A key that gets this or less added to its score is not seen; masks in half precision have -65504."""

Added = Callable[[int, int], Float[Tensor, "#batch #head row key"]]
"""From first row and one past the last to what is added to their scores: 0 where a key may be seen."""


def column_means(
    query: Float[Tensor, "batch head row width"],
    key: Float[Tensor, "batch kv_head key width"],
    scaling: float | None = None,
    added: Added | None = None,
    block: int | None = None,
) -> Float[Tensor, "batch key"]:
    """Attention each key receives: a mean over heads and over the queries that may see it, in float32.

    Reference: arXiv:2508.00553, section 3.2, where it is a sum over queries.

    Args:
        query: As the kernel gets it, class token included.
        key: As the kernel gets it, not repeated for grouped heads.
        scaling: Of the scores; None is width to the power of -1/2.
        added: The mask; None when every query sees every key. A query that may not see itself is padding and left out.
        block: Entries of the map computed at once; None is what suits the device.
    """
    total, seen = column_sums(query, key, scaling, added, block)
    return total / seen.clamp(min=1)


def column_sums(
    query: Float[Tensor, "batch head row width"],
    key: Float[Tensor, "batch kv_head key width"],
    scaling: float | None = None,
    added: Added | None = None,
    block: int | None = None,
) -> tuple[Float[Tensor, "batch key"], Float[Tensor, "batch key"]]:
    """Attention each key receives, a mean over heads and a sum over queries; and how many queries may see the key.

    Args:
        query: As the kernel gets it, class token included.
        key: As the kernel gets it.
        scaling: Of the scores; None is width to the power of -1/2.
        added: The mask; None when every query sees every key.
        block: Entries of the map computed at once; None is what suits the device.
    """
    batch, n_heads, n_rows, _ = query.shape
    total = torch.zeros(batch, key.shape[2], device=query.device)
    seen = torch.zeros_like(total)
    block = BLOCK.get(query.device.type, 2**22) if block is None else block
    step = max(1, block // (batch * n_heads * key.shape[2]))
    for start in range(0, n_rows, step):
        stop = min(start + step, n_rows)
        mask = None if added is None else added(start, stop)
        weights = _weights(query[:, :, start:stop], key, scaling, mask).flatten(1, 2)
        if mask is None:
            total += weights.sum(1)
            seen += stop - start
            continue
        real, allowed = _real_rows(mask, start, stop)
        total += (real.expand(batch, -1).repeat(1, n_heads)[:, None] @ weights)[:, 0]
        seen += (allowed * real[..., None]).sum(-2)
    return total / n_heads, seen


def first_row(
    query: Float[Tensor, "batch head row width"],
    key: Float[Tensor, "batch kv_head key width"],
    scaling: float | None = None,
    mask: Float[Tensor, "#batch #head 1 key"] | None = None,
) -> Float[Tensor, "batch key"]:
    """Attention of the class token, which is the first query, to every key: a mean over heads, in float32.

    Args:
        query: As the kernel gets it.
        key: As the kernel gets it.
        scaling: Of the scores; None is width to the power of -1/2.
        mask: What is added to the scores of the row.
    """
    return _weights(query[:, :, :1], key, scaling, mask).mean(1)[:, 0]


def _weights(query: Tensor, key: Tensor, scaling: float | None, mask: Tensor | None) -> Tensor:
    batch, n_heads, n_rows, width = query.shape
    scaled = query.float() * (width**-0.5 if scaling is None else scaling)
    packed = scaled.reshape(batch, key.shape[1], n_heads // key.shape[1] * n_rows, width)
    scores = (packed @ key.float().transpose(-1, -2)).reshape(batch, n_heads, n_rows, key.shape[2])
    if mask is not None:
        scores += mask
    return scores.softmax(-1)


def _real_rows(mask: Tensor, start: int, stop: int) -> tuple[Tensor, Tensor]:
    """Which rows are no padding, (#batch, row), and which keys they may see, (#batch, row, #key)."""
    allowed = (mask > FORBIDDEN).amax(1).float()
    places = torch.arange(start, stop, device=mask.device)
    itself = allowed.expand(-1, stop - start, -1)[:, places - start, places]
    return itself, allowed


@dataclass(slots=True, eq=False)
class Heard:
    """What one attention layer was asked during one encoding: scores of its calls, one after the other.

    Args:
        class_token: Whether the first key of every picture is the class token, which is dropped.
        received: Gather column means.
        first: Gather the class token's row.
        keys: Gather keys.
        queries: How many queries may see each key; gathered with `received`.
    """

    class_token: bool = False
    received: list[Tensor] | None = None
    first: list[Tensor] | None = None
    keys: list[Tensor] | None = None
    queries: list[Tensor] = field(default_factory=list)

    def clear(self) -> None:
        """Forget the last encoding."""
        for listed in (self.received, self.first, self.keys, self.queries):
            if listed is not None:
                listed.clear()

    @torch.no_grad()
    def see(self, whole: Call) -> None:
        """Take a finished call of the kernel.

        Args:
            whole: The call.
        """
        for call in segments(whole):
            scaling = call.options.get("scaling")
            mask = None if call.mask is None and not call.causal else _mask_of(call)
            if self.received is not None:
                total, seen = column_sums(call.query, call.key, scaling, mask)
                self.received.append(self._patches(total / seen.clamp(min=1)))
                self.queries.append(self._patches(seen))
            if self.first is not None:
                row = None if mask is None else mask(0, 1)
                self.first.append(self._patches(first_row(call.query, call.key, scaling, row)))
            if self.keys is not None:
                self.keys.append(self._patches(call.key.transpose(1, 2).flatten(2).float()))

    def _patches(self, values: Tensor) -> Tensor:
        """(patch, channel), the pictures of a call one after the other."""
        values = values[:, 1:] if self.class_token else values
        return values.reshape(values.shape[0] * values.shape[1], -1)


def _mask_of(call: Call) -> Added:
    return lambda start, stop: mask_rows(call, start, stop)


def segments(call: Call) -> Iterator[Call]:
    """The pictures of one call: flash kernels get several in one row, with their borders beside them.

    Args:
        call: Of a vision tower.
    """
    borders = call.options.get("cu_seq_lens_q")
    if borders is None or "flash" not in call.base:
        yield call
        return
    places = borders.tolist()
    for start, stop in itertools.pairwise(places):
        query, key, value = (one[:, :, start:stop] for one in (call.query, call.key, call.value))
        yield replace(call, query=query, key=key, value=value)
