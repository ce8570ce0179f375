"""Hierarchical group attention: tokens of several encoders exchange what is alike; nothing to learn.

Reference: arXiv:2507.22805.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

TINY = 1e-8


class Mixed(NamedTuple):
    """What hierarchical group attention computes.

    Args:
        y: The tokens after it.
        aggregated: Weighted mean of each token's neighbours.
        gate: How much of it enters, 0 to 1.
        edges: Weight of each kept edge, 0 elsewhere; not yet doubled in reverse.
        kept: Where there is an edge; its weight may be 0 too.
    """

    y: Float[Tensor, "batch token dim"]
    aggregated: Float[Tensor, "batch token dim"]
    gate: Float[Tensor, "batch token 1"]
    edges: Float[Tensor, "batch token token"]
    kept: Tensor


def group_attention(
    x: Float[Tensor, "batch token dim"],
    group: Int[Tensor, "token"],
    k: int = 10,
    intra: float = 0.7,
    slope: float = 10.0,
    threshold: float = 0.2,
) -> Mixed:
    """Mix each token with its most similar neighbours, inside its group and across groups.

    Args:
        x: Tokens of all encoders, one after the other.
        group: Which encoder each token is of.
        k: Neighbours per token, from 1.
        intra: Share of them inside the group, 0 to 1. The authors' code calls this `cross_weight`.
        slope: Of the gate.
        threshold: Mean absolute difference between token and neighbourhood at which the gate is half open.
    """
    similarity = _similarity(x)
    kept = neighbours(similarity.detach(), group, k, intra)
    low = similarity.masked_fill(~kept, torch.inf).amin((1, 2), keepdim=True)
    high = similarity.masked_fill(~kept, -torch.inf).amax((1, 2), keepdim=True)
    edges = ((similarity - low) / (high - low + TINY)).masked_fill(~kept, 0.0)
    both = edges + edges.mT  # a mutual pair counts twice
    aggregated = (both @ x) / (both.sum(-1, keepdim=True) + TINY)
    gate = torch.sigmoid(slope * ((x - aggregated).abs().mean(-1, keepdim=True) - threshold))
    y = F.layer_norm((1 - gate) * x + gate * aggregated, x.shape[-1:])
    return Mixed(y, aggregated, gate, edges, kept)


def _similarity(x: Tensor) -> Tensor:
    sharpness = torch.exp(1 / x.norm(dim=-1).mean(-1))
    unit = F.normalize(x, dim=-1)
    return (unit @ unit.mT) * sharpness[:, None, None]


def neighbours(similarity: Tensor, group: Tensor, k: int, intra: float) -> Tensor:
    """Where the edges are: the most similar tokens of the own group, and of the others.

    Args:
        similarity: (batch, token, token).
        group: Which encoder each token is of.
        k: Neighbours per token.
        intra: Share of them inside the group.
    """
    same = group[:, None] == group[None]
    own = same & ~torch.eye(len(group), dtype=torch.bool, device=group.device)
    kept = torch.zeros_like(similarity, dtype=torch.bool)
    for one in torch.unique(group):
        rows = (group == one).nonzero()[:, 0]
        n_in = min(int(k * intra), len(rows) - 1)
        n_out = min(k - int(k * intra), len(group) - len(rows))
        for n, allowed in ((n_in, own[rows]), (n_out, ~same[rows])):
            best = similarity[:, rows].masked_fill(~allowed, -torch.inf).topk(n, dim=-1).indices
            kept[:, rows] |= torch.zeros_like(kept[:, rows]).scatter(-1, best, True)
    return kept
