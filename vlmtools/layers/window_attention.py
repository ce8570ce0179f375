"""Attention inside windows of a map, shifted or not, and from windows to larger windows around them."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from vlmtools.layers.window_index import relative_index, shift_mask


def to_windows(x: Float[Tensor, "batch height width dim"], side: int) -> Float[Tensor, "windows token dim"]:
    """Cut a map into square windows, row by row.

    Args:
        x: Map, channels last; both sides must divide by `side`.
        side: Side of a window.

    Raises:
        ValueError: The map is not made of whole windows.
    """
    batch, height, width, dim = x.shape
    if height % side or width % side:
        raise ValueError(
            f"The map is {height} x {width}; both must be a multiple of the window {side}. Pad it."
        )
    cut = x.reshape(batch, height // side, side, width // side, side, dim)
    return cut.transpose(2, 3).reshape(-1, side**2, dim)


def from_windows(
    windows: Float[Tensor, "windows token dim"], height: int, width: int
) -> Float[Tensor, "batch height width dim"]:
    """Put windows together again.

    Args:
        windows: What `to_windows` gave.
        height: Height of the map.
        width: Width of the map.
    """
    side = round(windows.shape[1] ** 0.5)
    cut = windows.reshape(-1, height // side, width // side, side, side, windows.shape[-1])
    return cut.transpose(2, 3).reshape(-1, height, width, windows.shape[-1])


class WindowAttention(nn.Module):
    """Every pixel sees its window, with a learned bias per offset.

    Args:
        dim: Channels; must divide by `n_heads`.
        n_heads: Heads.
        side: Side of a window.
        shift: How far windows are moved, in pixels; 0 moves none.
        qkv_bias: Biases in the projections of queries, keys and values.

    Reference: arXiv:2103.14030; arXiv:2205.04437
    """

    index: Tensor

    def __init__(self, dim: int, n_heads: int, side: int, shift: int = 0, qkv_bias: bool = True) -> None:
        super().__init__()
        self.n_heads, self.side, self.shift = n_heads, side, shift
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * side - 1) ** 2, n_heads))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)
        self.qkv, self.proj = nn.Linear(dim, 3 * dim, bias=qkv_bias), nn.Linear(dim, dim)
        self.register_buffer("index", relative_index(side, side), persistent=False)

    def forward(self, x: Float[Tensor, "batch height width dim"]) -> Float[Tensor, "batch height width dim"]:
        """The attended map.

        Args:
            x: Map, channels last; both sides must divide by the window.
        """
        height, width = x.shape[1:3]
        windows = to_windows(
            torch.roll(x, (-self.shift, -self.shift), (1, 2)) if self.shift else x, self.side
        )
        q, k, v = self.qkv(windows).unflatten(-1, (3, self.n_heads, -1)).permute(2, 0, 3, 1, 4)
        bias = _bias(self.relative_position_bias_table, self.index, self.side**2)
        if self.shift:
            mask = shift_mask(height, width, self.side, self.shift).to(bias)
            bias = (bias[None] + mask[:, None]).repeat(x.shape[0], 1, 1, 1)
        seen = F.scaled_dot_product_attention(q, k, v, attn_mask=bias).transpose(1, 2).flatten(2)
        out = from_windows(self.proj(seen), height, width)
        return torch.roll(out, (self.shift, self.shift), (1, 2)) if self.shift else out


class OverlappingAttention(nn.Module):
    """The pixels of a window see a larger window around it.

    Args:
        dim: Channels; must divide by `n_heads`.
        n_heads: Heads.
        side: Side of a window.
        overlap: How much longer the side of the larger window is, as a share of `side`.
        qkv_bias: Biases in the projections of queries, keys and values.

    Reference: arXiv:2205.04437
    """

    index: Tensor

    def __init__(
        self, dim: int, n_heads: int, side: int, overlap: float = 0.5, qkv_bias: bool = True
    ) -> None:
        super().__init__()
        self.n_heads, self.side, self.wide = n_heads, side, side + int(side * overlap)
        self.relative_position_bias_table = nn.Parameter(torch.zeros((side + self.wide - 1) ** 2, n_heads))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)
        self.qkv, self.proj = nn.Linear(dim, 3 * dim, bias=qkv_bias), nn.Linear(dim, dim)
        self.register_buffer("index", relative_index(side, self.wide), persistent=False)

    def forward(self, x: Float[Tensor, "batch height width dim"]) -> Float[Tensor, "batch height width dim"]:
        """The attended map.

        Args:
            x: Map, channels last; both sides must divide by the window.
        """
        height, width, dim = x.shape[1:]
        q, kv = self.qkv(x).split([dim, 2 * dim], dim=-1)
        windows = to_windows(q, self.side)
        q = windows.reshape(*windows.shape[:2], self.n_heads, -1).transpose(1, 2)
        around = F.unfold(
            kv.permute(0, 3, 1, 2), self.wide, padding=(self.wide - self.side) // 2, stride=self.side
        )
        parts = around.reshape(len(x), 2, self.n_heads, -1, self.wide**2, around.shape[-1])
        parts = parts.permute(1, 0, 5, 2, 4, 3)
        k, v = parts.flatten(1, 2)
        bias = _bias(self.relative_position_bias_table, self.index, self.side**2)
        seen = F.scaled_dot_product_attention(q, k, v, attn_mask=bias).transpose(1, 2).flatten(2)
        out: Tensor = self.proj(from_windows(seen, height, width))
        return out


def _bias(
    table: Float[Tensor, "offset head"], index: Int[Tensor, "query key"], n_queries: int
) -> Float[Tensor, "head query key"]:
    return table[index.flatten()].reshape(n_queries, -1, table.shape[1]).permute(2, 0, 1)
