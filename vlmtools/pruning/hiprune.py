"""HiPrune: anchors from the middle of the vision tower, their neighbours, then the rest from its end."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from vlmtools.errors import BadInput

Fill = Literal["register", "diverse"]
"""How the budget is filled behind anchors and buffers."""

Stages = tuple[Int64[Tensor, " anchor"], Int64[Tensor, " buffer"], Int64[Tensor, " fill"]]
"""Anchors, buffers and the rest, each in the order of choice."""


def n_anchors(n_keep: int, alpha: float) -> int:
    """How many anchors a budget gives: a share of it, over the five tokens of a cross, ties to even.

    Reference: arXiv:2508.00553, section 4.2; rounded as in the released code.

    Args:
        n_keep: The budget in tokens, at least 0.
        alpha: Share of the budget meant for anchors and their neighbours, from 0 (none) up; the paper uses 0.1.
    """
    return round(n_keep * alpha / 5)


def best(scores: Float[Tensor, " image_token"], n: int) -> Int64[Tensor, " best"]:
    """The `n` highest scores, best first; of equal scores the lower index.

    Args:
        scores: One per token.
        n: How many, from 0 to all.
    """
    return scores.argsort(descending=True, stable=True)[:n]


def cross(anchors: Int64[Tensor, " anchor"], n_tokens: int, width: int) -> Int64[Tensor, " buffer"]:
    """Left, right, upper and lower neighbours on the grid, anchors and repetitions left out.

    Reference: arXiv:2508.00553, section 4.2. Nothing wraps from one row into the next.

    Args:
        anchors: Raster indices.
        n_tokens: Tokens of the picture; the last row may be incomplete.
        width: Tokens per row.
    """
    column = anchors % width
    near = [
        anchors[column > 0] - 1,
        anchors[column < width - 1] + 1,
        anchors - width,
        anchors + width,
    ]
    found = torch.cat(near).unique()
    found = found[(found >= 0) & (found < n_tokens)]
    return found[~torch.isin(found, anchors)]


def fill_diverse(
    scores: Float[Tensor, " image_token"],
    features: Float[Tensor, "image_token dim"],
    chosen: Int64[Tensor, " chosen"],
    n: int,
    weight: float = 1.0,
) -> Int64[Tensor, " fill"]:
    """Greedily add the token with the highest attention minus similarity to what is kept already.

    Attention is stretched to 0 … 1 over the picture, similarity is the largest cosine to a kept token. Ours: registers
    by attention alone tend to repeat each other when few tokens are kept.

    Args:
        scores: Attention each token receives.
        features: The tokens.
        chosen: Kept already.
        n: How many to add.
        weight: On similarity, from 0 up; 0 is neutral and gives the tokens with the highest scores.
    """
    unit = torch.nn.functional.normalize(features.float(), dim=-1)
    span = (scores.max() - scores.min()).clamp_min(torch.finfo(torch.float32).tiny)
    value = (scores - scores.min()) / span
    near = unit @ unit[chosen].T
    closest = near.max(-1).values if len(chosen) else torch.zeros_like(value)
    free = torch.ones_like(value, dtype=torch.bool).index_fill(0, chosen, False)
    added: list[Tensor] = []
    for _ in range(n):
        new = torch.where(free, value - weight * closest, -torch.inf).argmax()
        free[new] = False
        closest = torch.maximum(closest, unit @ unit[new]) if added or len(chosen) else unit @ unit[new]
        added.append(new)
    return torch.stack(added) if added else chosen[:0]


def stages(
    object_scores: Float[Tensor, " image_token"],
    deep_scores: Float[Tensor, " image_token"],
    n_keep: int,
    width: int,
    alpha: float = 0.1,
    features: Float[Tensor, "image_token dim"] | None = None,
    weight: float = 1.0,
) -> Stages:
    """The three stages as the paper has them: exactly `n_keep` different tokens, for scores of any scale.

    Reference: arXiv:2508.00553, section 4.2 and algorithm 1.

    Args:
        object_scores: Attention each token receives in the middle layer.
        deep_scores: The same in the deep layer.
        n_keep: Budget, from 0 to the number of tokens. Buffers beyond it go, those with the lowest object score first.
        width: Tokens per row of the grid.
        alpha: Share of anchors and buffers, from 0 (only registers) up.
        features: With them the last stage is `fill_diverse`; None fills by deep score.
        weight: On similarity, for `fill_diverse`.
    """
    anchors = best(object_scores, min(n_anchors(n_keep, alpha), n_keep))
    buffers = cross(anchors, len(object_scores), width)
    buffers = buffers[best(object_scores[buffers], n_keep - len(anchors))]
    chosen = torch.cat([anchors, buffers])
    if features is not None:
        return anchors, buffers, fill_diverse(deep_scores, features, chosen, n_keep - len(chosen), weight)
    open_scores = deep_scores.index_fill(0, chosen, -torch.inf)
    return anchors, buffers, best(open_scores, n_keep - len(chosen))


def released_stages(
    object_scores: Float[Tensor, " image_token"],
    deep_scores: Float[Tensor, " image_token"],
    n_keep: int,
    width: int,
    alpha: float = 0.1,
) -> Stages:
    """The three stages as the released program computes them, its defects included.

    Neighbours are shifts of the flat index, clamped to the first and last token, so they wrap around rows and a border
    anchor keeps a corner. Chosen tokens are excluded by subtracting 1 from their deep score: with scores above 1, as
    Qwen's sums are, some are drawn again, and fewer than `n_keep` different tokens remain.

    Reference: github.com/Danielement321/HiPrune at 6e83a12. Its top-k leaves the order of ties open; here the lower
    index wins.

    Args:
        object_scores: Attention each token receives in the object layer.
        deep_scores: The same in the deep layer.
        n_keep: Budget.
        width: Tokens per row of the grid.
        alpha: Share of anchors and buffers.

    Raises:
        BadInput: More anchors and neighbours than the budget holds; the released program stops there too.
    """
    anchors = best(object_scores, n_anchors(n_keep, alpha))
    shifts = torch.tensor([0, -1, 1, -width, width], device=anchors.device)
    chosen = (anchors[:, None] + shifts).clamp(0, len(object_scores) - 1).unique()
    if len(chosen) > n_keep:
        raise BadInput(
            f"{len(chosen)} anchors and neighbours do not fit into {n_keep} tokens, and the released HiPrune stops "
            "there. Lower alpha, keep more tokens, or use compat=False."
        )
    lowered = deep_scores.index_add(0, chosen, -torch.ones_like(deep_scores[chosen]))
    return anchors, chosen[~torch.isin(chosen, anchors)], best(lowered, n_keep - len(chosen))
