"""Prototype attention: every query looks at the one pixel, per head, that is most like it."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F


class PrototypeAttention(nn.Module):
    """Cross-attention of object queries to a map, with one pixel per query and head in place of a softmax over all.

    The authors gave out no licence, so this was written from the paper and from published numbers, under the names of
    published weights.

    Args:
        dim: Channels.
        n_heads: Heads.

    Reference: arXiv:2402.19422, section 3.2
    """

    def __init__(self, dim: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.feature_proj = _Local(dim)
        self.query_proj = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, dim))
        self.proj, self.final = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.alpha = nn.Parameter(torch.ones(1, 1, dim))

    def forward(
        self,
        queries: Float[Tensor, "query batch dim"],
        memory: Float[Tensor, "batch dim height width"],
        mask_logits: Float[Tensor, "batch query height width"] | None = None,
        position: Float[Tensor, "batch dim height width"] | None = None,
        query_position: Float[Tensor, "query batch dim"] | None = None,
    ) -> Float[Tensor, "query batch dim"]:
        """The queries, moved towards their prototypes.

        Args:
            queries: Object queries.
            memory: Map of pixels.
            mask_logits: Pixels below 0 may not be a query's prototype; None allows all. A query whose pixels are all
                below 0 takes the first pixel, as the authors' program does.
            position: Added to the map.
            query_position: Added to the queries.
        """
        placed = queries if query_position is None else queries + query_position
        q = F.normalize(self.query_proj(placed).transpose(0, 1), dim=-1)
        pixels = F.normalize(self.feature_proj(memory if position is None else memory + position), dim=-1)
        hidden = None if mask_logits is None else mask_logits.flatten(2) < 0
        found = prototypes(q, pixels, self.n_heads, hidden)
        # the length is taken over the queries, channel by channel
        moved = self.alpha * F.normalize(self.proj(q * found), dim=1) + found
        out: Tensor = queries + self.final(moved).transpose(0, 1)
        return out


def prototypes(
    queries: Float[Tensor, "batch query dim"],
    pixels: Float[Tensor, "batch pixel dim"],
    n_heads: int,
    hidden: Bool[Tensor, "batch query pixel"] | None = None,
) -> Float[Tensor, "batch query dim"]:
    """For every query and head the channels of the pixel with the largest product; heads may take different pixels.

    Args:
        queries: Queries.
        pixels: Tokens of the map.
        n_heads: Heads.
        hidden: Pixels that a query may not take.
    """
    q, k = (x.reshape(*x.shape[:2], n_heads, -1).transpose(1, 2) for x in (queries, pixels))
    likeness = q @ k.transpose(-2, -1)
    if hidden is not None:
        likeness = likeness.masked_fill(hidden[:, None], float("-inf"))
    best = likeness.argmax(-1, keepdim=True).expand(-1, -1, -1, k.shape[-1])
    return k.gather(2, best).transpose(1, 2).flatten(2)


class _Local(nn.Module):
    """Tokens of a map that know their neighbours."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(dim)
        self.to_query_3x3 = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.out(self.to_query_3x3(self.bn(x)).flatten(2).transpose(1, 2))
        return out
