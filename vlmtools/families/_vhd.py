"""Vision-aware head divergence: how much each head's output changes when the picture goes. Pure functions.

Reference: arXiv:2412.13949, section 3.
"""

from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

Distance = Literal["l2", "sq"]
"""Euclidean, as the paper writes, or its square, as a port of the authors' code has it."""


def head_divergence(
    full: Float[Tensor, "*rows head width"],
    text: Float[Tensor, "*rows head width"],
    distance: Distance = "l2",
) -> Float[Tensor, "*rows head"]:
    """VHD of every head, in float32.

    Reference: arXiv:2412.13949, eq. 4.

    Args:
        full: Head outputs before the output projection, with the picture.
        text: The same without it.
        distance: Euclidean or squared.
    """
    squared = (full.float() - text.float()).square().sum(-1)
    return squared if distance == "sq" else squared.sqrt()


def drop_outliers(
    divergence: Float[Tensor, "*rows head"], text: Float[Tensor, "*rows head width"], sample_std: bool = True
) -> Float[Tensor, "*rows head"]:
    """Set heads to 0 that surge when the picture disappears: far above the others in divergence and in text activity.

    Reference: arXiv:2412.13949, eq. 6; the text activity is squared there and the divergence is not.

    Args:
        divergence: Of the heads of one layer.
        text: Head outputs without the picture.
        sample_std: Standard deviation with n - 1; the paper does not say which.
    """
    activity = text.float().square().sum(-1)
    surging = _far_above(divergence, sample_std) & _far_above(activity, sample_std)
    return divergence.masked_fill(surging, 0.0)


def above_median(divergence: Float[Tensor, "*rows head"]) -> Bool[Tensor, "*rows head"]:
    """The heads above the median of their layer: half of them, rounded down; none when all are equal.

    Args:
        divergence: Of the heads of one layer.
    """
    return divergence > divergence.median(-1, keepdim=True).values


def _far_above(values: Tensor, sample_std: bool) -> Tensor:
    centre = values.mean(-1, keepdim=True)
    return values > centre + values.std(-1, keepdim=True, correction=int(sample_std))


def token_divergence(divergence: Float[Tensor, "layer *rows head"], k: int = 8) -> Float[Tensor, "*rows"]:
    """T-VHD: the largest divergences of every layer, added up.

    Reference: arXiv:2412.13949, section 3.2; the paper leaves k open, re-implementations use 8.

    Args:
        divergence: Of all layers, at the step of each token.
        k: Heads per layer, at least 1.
    """
    k = min(k, divergence.shape[-1])
    top: Tensor = torch.topk(divergence, k, dim=-1).values
    return top.sum(-1).sum(0)
