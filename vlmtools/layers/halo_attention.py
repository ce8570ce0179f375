"""Halo attention: blocks of pixels look at themselves and at a rim around them."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


class HaloAttention(nn.Module):
    """Attention from each block to the block enlarged on every side.

    Args:
        dim: Channels.
        block_size: Side of a block; maps must divide by it.
        halo_size: Width of the rim; pixels outside the map are never seen.
        dim_head: Channels of a head.
        heads: Heads.
        inverted_mask: Hide the map and show what lies outside, as a widely used reimplementation does by mistake; only
            to load weights that were trained with it. False is the paper.

    Reference: arXiv:2103.12731
    """

    def __init__(
        self,
        dim: int,
        block_size: int,
        halo_size: int,
        dim_head: int = 64,
        heads: int = 8,
        inverted_mask: bool = False,
    ) -> None:
        super().__init__()
        self.inverted_mask = inverted_mask
        self.block, self.halo, self.heads = block_size, halo_size, heads
        self.side = block_size + 2 * halo_size
        inner = heads * dim_head
        self.to_q, self.to_kv = nn.Linear(dim, inner, bias=False), nn.Linear(dim, 2 * inner, bias=False)
        self.to_out = nn.Linear(inner, dim)
        start = dim_head**-0.5
        self.rel_height = nn.Parameter(torch.randn(2 * self.side - 1, dim_head) * start)
        self.rel_width = nn.Parameter(torch.randn(2 * self.side - 1, dim_head) * start)

    def forward(self, x: Float[Tensor, "batch dim height width"]) -> Float[Tensor, "batch dim height width"]:
        """The attended map.

        Args:
            x: Map.

        Raises:
            ValueError: The map does not divide into blocks.
        """
        height, width = x.shape[-2:]
        if height % self.block or width % self.block:
            raise ValueError(
                f"The map is {height} x {width}; blocks have a side of {self.block}. Pad it to a multiple."
            )
        q = self._heads(self.to_q(self._windows(x, self.block, 0)))
        around = self._windows(x, self.side, self.halo)
        k, v = self._heads(self.to_kv(around)).chunk(2, dim=2)
        q = q * q.shape[-1] ** -0.5
        scores = q @ k.transpose(-2, -1) + self._position(q)
        inside = self._windows(torch.ones_like(x[:1, :1]), self.side, self.halo)[..., 0] > 0
        hidden = (inside if self.inverted_mask else ~inside)[:, :, None, None, :]
        scores = scores.masked_fill(hidden, torch.finfo(scores.dtype).min)
        seen = (scores.softmax(-1) @ v).transpose(2, 3).flatten(3)
        return self._joined(self.to_out(seen), height, width)

    def _windows(self, x: Tensor, side: int, padding: int) -> Tensor:
        """(batch, block, pixel, channel)."""
        cut = F.unfold(x, side, stride=self.block, padding=padding)
        return cut.reshape(x.shape[0], x.shape[1], side * side, -1).permute(0, 3, 2, 1)

    def _heads(self, x: Tensor) -> Tensor:
        """(batch, block, pixel, channel) → (batch, block, head, pixel, channel of a head)."""
        width = self.rel_height.shape[1]
        return x.reshape(*x.shape[:3], -1, width).transpose(2, 3)

    def _position(self, q: Tensor) -> Tensor:
        grid = q.unflatten(3, (self.block, self.block))  # type: ignore[no-untyped-call]
        spots = torch.arange(self.side, device=q.device)
        away = spots[None, :] - torch.arange(self.block, device=q.device)[:, None] + self.side - 1
        rows = torch.einsum("bnhxyd,xid->bnhxyi", grid, self.rel_height[away])
        columns = torch.einsum("bnhxyd,yjd->bnhxyj", grid, self.rel_width[away])
        return (rows.unsqueeze(-1) + columns.unsqueeze(-2)).flatten(5).flatten(3, 4)

    def _joined(self, blocks: Tensor, height: int, width: int) -> Tensor:
        columns = blocks.permute(0, 3, 2, 1).flatten(1, 2)
        return F.fold(columns, (height, width), self.block, stride=self.block)
