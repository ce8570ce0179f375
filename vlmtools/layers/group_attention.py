"""Long and short distance attention: attend among neighbours, or among tokens far apart at equal steps."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

_NEVER = -1_000_000.0


class GroupAttention(nn.Module):
    """Attention inside groups of `group` x `group` tokens.

    Args:
        dim: Channels; must divide by `n_heads`.
        n_heads: Heads.
        group: Side of a group in tokens.
        interval: Tokens between two of a group; 1 makes groups of neighbours (short distance).
        qkv_bias: Biases in the projections.
        masked: Hide padded tokens from the others.
        padding: 0 pads below and to the right, 1 on all sides.
        position_bias: Learn a bias from relative positions.

    Reference: arXiv:2108.00154
    """

    def __init__(
        self,
        dim: int,
        n_heads: int,
        group: int,
        interval: int = 1,
        qkv_bias: bool = True,
        masked: bool = True,
        padding: int = 0,
        position_bias: bool = True,
    ) -> None:
        super().__init__()
        self.n_heads, self.group, self.interval = n_heads, group, interval
        self.masked, self.padding = masked, padding
        self.qkv, self.proj = nn.Linear(dim, 3 * dim, bias=qkv_bias), nn.Linear(dim, dim)
        self.pos = _PositionBias(dim // 16, n_heads, group) if position_bias else None

    def forward(self, x: Float[Tensor, "batch height width dim"]) -> Float[Tensor, "batch height width dim"]:
        """The attended map.

        Args:
            x: Map, channels last; padded to whole groups inside.
        """
        height, width = x.shape[1:3]
        above, below = self._missing(height)
        left, right = self._missing(width)
        padded = F.pad(x, (0, 0, left, right, above, below))
        groups = self._grouped(padded)
        mask = self._mask(x, (left, right, above, below)) if self.masked else None
        whole = self._ungrouped(self._attend(groups, mask), padded.shape[1], padded.shape[2])
        return whole[:, above : above + height, left : left + width]

    def _missing(self, side: int) -> tuple[int, int]:
        n_missing = -side % (self.group * self.interval)
        first = n_missing // 2 if self.padding else 0
        return first, n_missing - first

    def _attend(self, groups: Tensor, mask: Tensor | None) -> Tensor:
        batch, n_groups, n_tokens, dim = groups.shape
        shape = (batch, n_groups, n_tokens, 3, self.n_heads, dim // self.n_heads)
        q, k, v = self.qkv(groups).reshape(shape).permute(3, 0, 1, 4, 2, 5)
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
        if self.pos is not None:
            scores = scores + self.pos()
        if mask is not None:
            scores = scores + mask
        seen = (scores.softmax(-1) @ v).transpose(2, 3).reshape(groups.shape)
        out: Tensor = self.proj(seen)
        return out

    def _grouped(self, x: Tensor) -> Tensor:
        batch, height, width, dim = x.shape
        g, i = self.group, self.interval
        cut = x.reshape(batch, height // (g * i), g, i, width // (g * i), g, i, dim)
        return cut.permute(0, 1, 4, 3, 6, 2, 5, 7).reshape(batch, -1, g * g, dim)

    def _ungrouped(self, groups: Tensor, height: int, width: int) -> Tensor:
        g, i, batch = self.group, self.interval, groups.shape[0]
        cut = groups.reshape(batch, height // (g * i), width // (g * i), i, i, g, g, -1)
        return cut.permute(0, 1, 5, 3, 2, 6, 4, 7).reshape(batch, height, width, -1)

    def _mask(self, x: Tensor, missing: tuple[int, int, int, int]) -> Tensor | None:
        if not any(missing):
            return None
        real = F.pad(x.new_zeros(1, *x.shape[1:3], 1), (0, 0, *missing), value=_NEVER)
        return self._grouped(real)[:, :, None, None, :, 0]


class _PositionBias(nn.Module):
    """A small network from relative positions to one bias per head."""

    def __init__(self, dim: int, n_heads: int, group: int) -> None:
        super().__init__()
        self.pos_proj = nn.Linear(2, dim)
        self.pos1, self.pos2, self.pos3 = (
            nn.Sequential(nn.LayerNorm(dim), nn.ReLU(), nn.Linear(dim, out)) for out in (dim, dim, n_heads)
        )
        self.n_tokens = group**2
        steps, spots = torch.arange(1 - group, group, device="cpu"), torch.arange(group, device="cpu")
        away = spots[:, None] - spots[None, :] + group - 1
        index = away[:, None, :, None] * (2 * group - 1) + away[None, :, None, :]
        self.offsets: Tensor
        self.index: Tensor
        self.register_buffer("offsets", torch.cartesian_prod(steps, steps).float(), persistent=False)
        self.register_buffer("index", index.reshape(-1), persistent=False)

    def forward(self) -> Tensor:
        table = self.pos3(self.pos2(self.pos1(self.pos_proj(self.offsets))))
        bias: Tensor = table[self.index].reshape(self.n_tokens, self.n_tokens, -1)
        return bias.permute(2, 0, 1)
