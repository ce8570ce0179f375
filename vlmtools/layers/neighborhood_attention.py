"""Neighborhood attention: each token sees the nearest tokens around it, dilated if wished, in plain torch."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F


def neighbours(
    side: int, kernel: int, dilation: int = 1
) -> tuple[Int[Tensor, "side kernel"], Int[Tensor, "side kernel"]]:
    """Which positions of a line each position sees, and how far away each is.

    The window is shifted inwards at the ends, so that everybody has `kernel` neighbours. With dilation, only positions
    of the same remainder count.

    Args:
        side: Positions of the line, at least `kernel * dilation`.
        kernel: Neighbours, odd.
        dilation: Step between neighbours; 1 takes adjacent ones.
    """
    spots = torch.arange(side)
    order, rest = spots // dilation, spots % dilation
    n_alike = (side - rest + dilation - 1) // dilation
    start = torch.minimum((order - kernel // 2).clamp_min(0), n_alike - kernel)
    near = start[:, None] + torch.arange(kernel)
    return near * dilation + rest[:, None], near - order[:, None] + kernel - 1


def gather(
    x: Float[Tensor, "batch head height width dim"], kernel: int, dilation: int = 1
) -> Float[Tensor, "batch head height width neighbour dim"]:
    """The neighbours of every position of a map.

    Args:
        x: Map.
        kernel: Side of the neighbourhood, odd.
        dilation: Step between neighbours.
    """
    height, width = x.shape[2:4]
    rows = neighbours(height, kernel, dilation)[0].to(x.device)
    columns = neighbours(width, kernel, dilation)[0].to(x.device)
    return x[:, :, rows[:, None, :, None], columns[None, :, None, :]].flatten(4, 5)


def position_bias(
    table: Float[Tensor, "head rows columns"], size: tuple[int, int], kernel: int, dilation: int = 1
) -> Float[Tensor, "head height width neighbour"]:
    """The learned bias of every neighbour of every position.

    Args:
        table: One number per head and relative position, 2 x kernel - 1 on each side.
        size: Height and width of the map.
        kernel: Side of the neighbourhood.
        dilation: Step between neighbours.
    """
    away = [neighbours(side, kernel, dilation)[1].to(table.device) for side in size]
    return table[:, away[0][:, None, :, None], away[1][None, :, None, :]].flatten(3)


class NeighborhoodAttention(nn.Module):
    """Multi-head attention over the nearest `kernel` x `kernel` tokens.

    Args:
        dim: Channels; must divide by `n_heads`.
        n_heads: Heads.
        kernel: Side of the neighbourhood, odd.
        dilation: Step between neighbours; 1 takes adjacent ones.
        qkv_bias: Biases in the projections.
        rel_pos_bias: Learn a bias for every relative position.

    Reference: arXiv:2204.07143; arXiv:2209.15001
    """

    def __init__(
        self,
        dim: int,
        n_heads: int,
        kernel: int = 7,
        dilation: int = 1,
        qkv_bias: bool = True,
        rel_pos_bias: bool = True,
    ) -> None:
        super().__init__()
        self.n_heads, self.kernel, self.dilation = n_heads, kernel, dilation
        self.qkv, self.proj = nn.Linear(dim, 3 * dim, bias=qkv_bias), nn.Linear(dim, dim)
        self.rpb: nn.Parameter | None = None
        if rel_pos_bias:
            side = 2 * kernel - 1
            self.rpb = nn.Parameter(nn.init.trunc_normal_(torch.empty(n_heads, side, side), std=0.02))

    def forward(self, x: Float[Tensor, "batch height width dim"]) -> Float[Tensor, "batch height width dim"]:
        """The attended map.

        Args:
            x: Map, channels last; padded with zeros to `kernel * dilation` where it is smaller.
        """
        height, width = x.shape[1:3]
        least = self.kernel * self.dilation
        padded = F.pad(x, (0, 0, 0, max(least - width, 0), 0, max(least - height, 0)))
        size = (padded.shape[1], padded.shape[2])
        qkv = self.qkv(padded).reshape(x.shape[0], *size, 3, self.n_heads, -1).permute(3, 0, 4, 1, 2, 5)
        q, k, v = qkv[0] * qkv.shape[-1] ** -0.5, qkv[1], qkv[2]
        scores = (gather(k, self.kernel, self.dilation) @ q.unsqueeze(-1)).squeeze(-1)
        if self.rpb is not None:
            scores = scores + position_bias(self.rpb, size, self.kernel, self.dilation)
        seen = (scores.softmax(-1).unsqueeze(-2) @ gather(v, self.kernel, self.dilation)).squeeze(-2)
        out: Tensor = self.proj(seen.permute(0, 2, 3, 1, 4).flatten(3))
        return out[:, :height, :width]
