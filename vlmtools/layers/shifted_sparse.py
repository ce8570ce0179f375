"""Attention inside groups, some heads shifted by half a group: cheap training on long texts, full attention afterwards.

`visible` writes the pattern of SF-Attn as we read it from the SinkLoRA paper: no code of it has been published, so the
share of shifted heads, the seam and the causal sinks are our choices. `s2_attention` is LongLoRA's published form,
whose last shifted group lets the first tokens see the last ones.

Reference: SinkLoRA, arXiv:2406.05678; LongLoRA, arXiv:2309.12307.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F


def visible(
    n_seq: int,
    n_heads: int,
    group: int,
    shifted: float = 0.25,
    n_sinks: int = 4,
    causal: bool = True,
    wrap: bool = False,
    sinks_see_all: bool = True,
    device: torch.device | None = None,
) -> Bool[Tensor, "head query key"]:
    """Who sees whom.

    Args:
        n_seq: Tokens.
        n_heads: Query heads; the last `int(shifted · n_heads)` are shifted by half a group.
        group: Tokens per group.
        shifted: Share of shifted heads, 0 to 1; 0 shifts none.
        n_sinks: First tokens that everybody sees; 0 for none.
        causal: False lets everybody in the group be seen, for encoders.
        wrap: True joins the end of the text with its beginning in shifted heads, as LongLoRA does. Then a token
            stands in its group where the rolled text puts it, and the first tokens see the last ones.
        sinks_see_all: The sinks see everybody, as everybody sees them; False leaves them their group and each other.
            A causal pattern is the same either way.
        device: Where the mask is made.
    """
    place = torch.arange(n_seq, device=device)
    plain = _same_group(place, n_seq, group, 0, causal, wrap)
    moved = _same_group(place, n_seq, group, group // 2, causal, wrap)
    is_sink = place < n_sinks
    sinks = is_sink.expand(n_seq, -1) | (is_sink[:, None] & sinks_see_all)
    sinks = sinks & (place <= place[:, None]) if causal else sinks
    n_moved = int(n_heads * shifted)
    heads = [plain | sinks] * (n_heads - n_moved) + [moved | sinks] * n_moved
    return torch.stack(heads)


def _same_group(place: Tensor, n_seq: int, group: int, offset: int, causal: bool, wrap: bool) -> Tensor:
    rolled = (place - offset) % n_seq
    number = rolled // group
    same = number == number[:, None]
    if wrap:
        return same & (rolled <= rolled[:, None]) if causal else same
    before = place < offset  # the wrapped group holds both ends of the text: cut it there
    same &= before == before[:, None]
    return same & (place <= place[:, None]) if causal else same


def masked_attention(
    q: Float[Tensor, "batch head query head_dim"],
    k: Float[Tensor, "batch head key head_dim"],
    v: Float[Tensor, "batch head key head_dim"],
    mask: Bool[Tensor, "head query key"],
    scale: float | None = None,
) -> Float[Tensor, "batch head query head_dim"]:
    """Attention under an explicit mask per head.

    Args:
        q: Queries.
        k: Keys.
        v: Values.
        mask: True where a query sees a key; every query sees at least one.
        scale: Factor of the scores; None for head_dim^-1/2.
    """
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask[None], scale=scale)


def s2_attention(
    q: Float[Tensor, "batch head seq head_dim"],
    k: Float[Tensor, "batch head seq head_dim"],
    v: Float[Tensor, "batch head seq head_dim"],
    group: int,
) -> Float[Tensor, "batch head seq head_dim"]:
    """LongLoRA's shifted sparse attention: the second half of the heads is rolled by half a group.

    Args:
        q: Queries, rotated already.
        k: Keys, rotated already, one head per query head.
        v: Values.
        group: Tokens per group; divides the length.
    """
    half, (n_batch, n_heads, n_seq, width) = q.shape[1] // 2, q.shape

    def grouped(x: Tensor) -> Tensor:
        rolled = torch.cat([x[:, :half], x[:, half:].roll(-(group // 2), dims=2)], dim=1)
        return rolled.reshape(n_batch, n_heads, n_seq // group, group, width).transpose(1, 2).flatten(0, 1)

    out = F.scaled_dot_product_attention(grouped(q), grouped(k), grouped(v), is_causal=True)
    out = out.reshape(n_batch, n_seq // group, n_heads, group, width).transpose(1, 2).flatten(2, 3)
    return torch.cat([out[:, :half], out[:, half:].roll(group // 2, dims=2)], dim=1)
