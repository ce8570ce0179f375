"""Shared convolution: one set of kernels runs over the embedding of every token, as a lens does in an optical bench.

Reference: arXiv:2504.11517; no program is public. The network is `backbones/convsharevit.py`.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


class SharedConv(nn.Module):
    """Tokens are channels, each an image; every one is convolved with the same kernels, without padding.

    A kernel as large as the image makes one number of it: then the layer is a linear layer over the embedding, which is
    why valid padding can learn attention and same padding can not.

    Args:
        n_kernels: Kernels, hence maps per token.
        kernel: Height and width of a kernel.

    Reference: arXiv:2504.11517
    """

    def __init__(self, n_kernels: int, kernel: tuple[int, int]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_kernels, 1, *kernel))
        self.bias = nn.Parameter(torch.zeros(n_kernels))
        nn.init.kaiming_uniform_(self.weight, a=5**0.5)

    def forward(
        self, x: Float[Tensor, "batch seq height width"]
    ) -> Float[Tensor, "batch seq kernel height_out width_out"]:
        """The maps of every token.

        Args:
            x: Embeddings laid out as images, at least as large as a kernel.
        """
        batch, n_seq = x.shape[:2]
        maps = F.conv2d(x.reshape(batch * n_seq, 1, *x.shape[2:]), self.weight, self.bias)
        return maps.reshape(batch, n_seq, *maps.shape[1:])


class SharedProjection(nn.Module):
    """From a token laid out as a square image to one of another side, by a shared convolution whose maps become tiles.

    With tiles of one position it is a linear layer; larger tiles share each weight among their positions.

    Args:
        side: Of the image that comes in.
        side_out: Of the image that goes out; divides by `tile`.
        tile: Side of the map that each kernel gives; kernels have the side `side` − `tile` + 1.

    Reference: arXiv:2504.11517
    """

    def __init__(self, side: int, side_out: int, tile: int) -> None:
        super().__init__()
        self.side, self.side_out, self.tile = side, side_out, tile
        kernel = side - tile + 1
        self.conv = SharedConv((side_out // tile) ** 2, (kernel, kernel))

    def forward(self, x: Float[Tensor, "batch seq dim"]) -> Float[Tensor, "batch seq dim_out"]:
        """The projected tokens.

        Args:
            x: Tokens of side x side channels, row by row.
        """
        batch, n_seq = x.shape[:2]
        maps: Tensor = self.conv(x.reshape(batch, n_seq, self.side, self.side))
        n_tiles = self.side_out // self.tile
        tiles = maps.reshape(batch, n_seq, n_tiles, n_tiles, self.tile, self.tile)
        return tiles.transpose(3, 4).reshape(batch, n_seq, self.side_out**2)
