"""Criss-cross attention: each pixel looks along its row and its column; two passes reach the whole map."""

import torch
from jaxtyping import Float
from torch import Tensor, nn


class CrissCrossAttention(nn.Module):
    """Attention to height + width - 1 pixels, added with a learned weight that starts at 0.

    Args:
        dim: Channels.
        reduction: How many times fewer channels queries and keys have.

    Reference: arXiv:1811.11721
    """

    def __init__(self, dim: int, reduction: int = 8) -> None:
        super().__init__()
        self.query_conv = nn.Conv2d(dim, dim // reduction, 1)
        self.key_conv = nn.Conv2d(dim, dim // reduction, 1)
        self.value_conv = nn.Conv2d(dim, dim, 1)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(
        self, x: Float[Tensor, "batch dim height width"], n_passes: int = 1
    ) -> Float[Tensor, "batch dim height width"]:
        """The map after one or more passes with the same weights.

        Args:
            x: Map.
            n_passes: How often to look; 2 lets every pixel reach every other.
        """
        for _ in range(n_passes):
            x = self._look(x)
        return x

    def _look(self, x: Tensor) -> Tensor:
        height = x.shape[-2]
        q, k, v = self.query_conv(x), self.key_conv(x), self.value_conv(x)
        column = torch.einsum("bchw,bcgw->bhwg", q, k)
        # the pixel itself is counted once, in its row
        itself = torch.eye(height, dtype=torch.bool, device=x.device)[None, :, None, :]
        column = column.masked_fill(itself, float("-inf"))
        row = torch.einsum("bchw,bchg->bhwg", q, k)
        weights = torch.cat([column, row], dim=-1).softmax(-1)
        seen = torch.einsum("bhwg,bcgw->bchw", weights[..., :height], v)
        seen = seen + torch.einsum("bhwg,bchg->bchw", weights[..., height:], v)
        return self.gamma * seen + x
