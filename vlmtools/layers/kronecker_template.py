"""Bottleneck weights for many tasks and layers from two small hypernetworks, grown by Kronecker products.

No code of Polyhistor has been published: this is our reading of its figures. The order of the product, one rank for
all, no biases and separate layer embeddings for each position and projection are our choices.

Reference: Polyhistor, NeurIPS 2022, arXiv:2210.03265.
"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

Activation = Literal["gelu", "relu"]


def template(
    embedding: Float[Tensor, " embed"],
    left: Float[Tensor, "d_rank embed"],
    right: Float[Tensor, "rank_n embed"],
    rank: int,
) -> Float[Tensor, "d n"]:
    """A low-rank weight written by two linear hypernetworks.

    Args:
        embedding: Of the task and of the layer, joined.
        left: Weights of the first hypernetwork, d·rank rows.
        right: Weights of the second, rank·n rows.
        rank: Of the result.
    """
    return (left @ embedding).reshape(-1, rank) @ (right @ embedding).reshape(rank, -1)


def grown(template: Float[Tensor, "d n"], kernel: Float[Tensor, "s s"], kernel_first: bool = True) -> Tensor:
    """The template at every entry of the kernel: a weight s times as large along both axes.

    Args:
        template: Weight of the smallest scale.
        kernel: s × s numbers; 1 × 1 with 1 changes nothing.
        kernel_first: True multiplies kernel ⊗ template, False the other way round.
    """
    return torch.kron(kernel, template) if kernel_first else torch.kron(template, kernel)


def bottleneck(
    x: Float[Tensor, "*batch d"],
    down: Float[Tensor, "d n"],
    up: Float[Tensor, "d n"],
    activation: Activation = "gelu",
) -> Float[Tensor, "*batch d"]:
    """Add up(activation(down(x))) to x, without biases.

    Args:
        x: States.
        down: To the bottleneck.
        up: Back, written as wide as `down`; zeros change nothing.
        activation: In between.
    """
    inner = x @ down
    return x + (F.gelu(inner) if activation == "gelu" else F.relu(inner)) @ up.T
