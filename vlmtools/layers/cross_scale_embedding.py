"""Cross-scale embedding: see each position through kernels of several sizes at once."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn


class CrossScaleEmbedding(nn.Module):
    """Convolutions of growing kernels with one stride; small kernels get most channels.

    Args:
        dim_in: Channels that come in.
        dim: Channels that go out: half of them see the first kernel, a quarter the second, and so on.
        kernels: Sides of the kernels.
        stride: Common stride.

    Reference: arXiv:2108.00154
    """

    def __init__(self, dim_in: int, dim: int, kernels: Sequence[int], stride: int) -> None:
        super().__init__()
        shares = [dim // 2 ** (index + 1) for index in range(len(kernels))]
        shares[-1] = dim // 2 ** (len(kernels) - 1)
        self.projs = nn.ModuleList(
            nn.Conv2d(dim_in, share, kernel, stride, padding=(kernel - stride) // 2)
            for share, kernel in zip(shares, kernels, strict=True)
        )

    def forward(self, x: Float[Tensor, "batch channel height width"]) -> Float[Tensor, "batch h w dim"]:
        """The embedded map, channels last.

        Args:
            x: Map or images, channels first.
        """
        return torch.cat([proj(x) for proj in self.projs], dim=1).permute(0, 2, 3, 1)
