"""Few-shot anchoring: turn features so that the foreground and background of the support land on learned anchors."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

_SMALL = 1e-6


def prototypes(
    features: Float[Tensor, "batch dim height width"], mask: Float[Tensor, "batch rows columns"]
) -> tuple[Float[Tensor, "batch dim"], Float[Tensor, "batch dim"]]:
    """Mean feature of the foreground, and of the background.

    Args:
        features: Map of the support picture.
        mask: 1 for foreground, 0 for background, any size.

    Reference: Cross-Domain Few-Shot Semantic Segmentation (PATNet), ECCV 2022
    """
    weights = F.interpolate(
        mask[:, None].to(features.dtype), features.shape[-2:], mode="bilinear", align_corners=True
    )
    means = [
        (features * one).sum((-2, -1)) / (one.sum((-2, -1)) + _SMALL) for one in (weights, 1.0 - weights)
    ]
    return means[0], means[1]


def resized(
    mask: Float[Tensor, "batch rows columns"], features: Float[Tensor, "batch dim height width"]
) -> Float[Tensor, "batch 1 height width"]:
    """The mask at the size of the features; published support features are multiplied with it before anchoring.

    Args:
        mask: 1 for foreground, 0 for background, any size.
        features: Map that gives the size.
    """
    size = (int(features.shape[-2]), int(features.shape[-1]))
    return F.interpolate(mask[:, None].to(features.dtype), size, mode="bilinear", align_corners=True)


def anchored(
    features: Float[Tensor, "batch dim height width"],
    foreground: Float[Tensor, "batch dim"],
    background: Float[Tensor, "batch dim"],
    anchors: Float[Tensor, "2 dim"],
) -> Float[Tensor, "batch dim height width"]:
    """The features under the map that takes the prototypes nearest to the anchors.

    Args:
        features: Map of the support or the query picture.
        foreground: Prototype of the support's foreground.
        background: Prototype of its background.
        anchors: Learned; the background's first.

    Reference: Cross-Domain Few-Shot Semantic Segmentation (PATNet), ECCV 2022
    """
    found = _unit(torch.stack([background, foreground], dim=1))
    turn = torch.linalg.pinv(found.float()).to(found.dtype) @ _unit(anchors)
    turned: Tensor = turn.transpose(1, 2) @ features.flatten(2)
    return turned.reshape(features.shape)


def _unit(rows: Tensor) -> Tensor:
    length: Tensor = torch.linalg.vector_norm(rows, dim=-1, keepdim=True)
    return rows / (length + _SMALL)
