"""One call of an attention kernel, and which keys its rows may see, whatever form the kernel takes its mask in."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """One finished call of an attention kernel.

    Args:
        module: Whose attention it is.
        query: (batch, heads, rows, width).
        key: (batch, key/value heads, keys, width), not repeated.
        value: As `key`.
        mask: What the kernel was given: nothing, numbers to add, true where allowed, or a block mask.
        options: Every further keyword the kernel was given.
        base: The kernel's name.
    """

    module: nn.Module
    query: Tensor
    key: Tensor
    value: Tensor
    mask: Any
    options: Mapping[str, Any]
    base: str = "sdpa"

    @property
    def causal(self) -> bool:
        """Whether no mask means that a row sees no later key; eager and flex are always given a mask for that."""
        if self.base in ("eager", "flex_attention"):
            return False
        flag = self.options.get("is_causal")
        return bool(getattr(self.module, "is_causal", True) if flag is None else flag)


def mask_rows(call: Call, start: int, stop: int) -> Float[Tensor, "#batch #head row key"]:
    """What is added to the scores of some rows before the softmax: 0 where a key may be seen.

    Args:
        call: The kernel's call.
        start: First row.
        stop: One past the last row.
    """
    n_rows, n_keys = call.query.shape[2], call.key.shape[2]
    mask, device = call.mask, call.query.device
    if isinstance(mask, Tensor) and mask.ndim == 4:
        given = mask[:, :, start:stop, :n_keys]
        return _added(given) if given.dtype == torch.bool else given.float()
    if mask is None and n_rows == 1 and not call.options.get("sliding_window"):
        return torch.zeros((), device=device).expand(1, 1, 1, n_keys)
    rows = torch.arange(start, stop, device=device)
    keys = torch.arange(n_keys, device=device)
    if hasattr(mask, "mask_mod"):
        return _added(_block_rows(mask, call.query.shape[0], rows, keys))
    flash = "flash" in call.base
    # sdpa aligns a prompt in a longer, empty static cache to the cache's start; flash kernels align to the end
    place = rows[:, None] + (n_keys - n_rows if flash else 0)
    seen = torch.ones(stop - start, n_keys, dtype=torch.bool, device=device)
    if call.causal and n_rows > 1:
        seen = keys[None] <= place
    if flash and call.options.get("sliding_window"):
        seen = seen & (keys[None] > place - call.options["sliding_window"])
    if isinstance(mask, Tensor):  # two axes: true where a key is no padding
        return _added(seen[None, None] & mask[:, None, None, -n_keys:].bool())
    return _added(seen[None, None])


def _block_rows(mask: Any, batch: int, rows: Tensor, keys: Tensor) -> Tensor:
    from torch._dynamo._trace_wrapped_higher_order_op import TransformGetItemToIndex

    samples = torch.arange(batch, device=rows.device)
    head = torch.zeros((), dtype=torch.long, device=rows.device)
    by_key = torch.vmap(mask.mask_mod, (None, None, None, 0))
    by_row = torch.vmap(by_key, (None, None, 0, None))
    with TransformGetItemToIndex():
        seen: Tensor = torch.vmap(by_row, (0, None, None, None))(samples, head, rows, keys)
    return seen[:, None]


NEVER = torch.finfo(torch.float32).min


def _added(seen: Tensor) -> Tensor:
    return torch.zeros(seen.shape, device=seen.device).masked_fill(~seen, NEVER)
