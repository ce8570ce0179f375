"""HiLo attention: some heads see fine detail inside small windows, the others see the whole map averaged."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


class HiLo(nn.Module):
    """High- and low-frequency heads side by side.

    Args:
        dim: Channels; must divide by `n_heads`.
        n_heads: Heads.
        window: Side of a window and of the average, at least 1; 1 is plain attention.
        alpha: Share of heads with low frequencies, in [0, 1].
        qkv_bias: Biases in the projections.

    Reference: arXiv:2205.13213
    """

    def __init__(
        self, dim: int, n_heads: int, window: int = 2, alpha: float = 0.5, qkv_bias: bool = False
    ) -> None:
        super().__init__()
        self.window, self.width = window, dim // n_heads
        n_low = n_heads if window == 1 else int(n_heads * alpha)
        low, high = n_low * self.width, (n_heads - n_low) * self.width
        self.l_q = nn.Linear(dim, low, bias=qkv_bias) if low else None
        self.l_kv = nn.Linear(dim, 2 * low, bias=qkv_bias) if low else None
        self.l_proj = nn.Linear(low, low) if low else None
        self.h_qkv = nn.Linear(dim, 3 * high, bias=qkv_bias) if high else None
        self.h_proj = nn.Linear(high, high) if high else None

    def forward(self, x: Float[Tensor, "batch height width dim"]) -> Float[Tensor, "batch height width dim"]:
        """The attended map: high frequencies in the first channels.

        Args:
            x: Map, channels last; padded to whole windows inside.
        """
        height, width = x.shape[1:3]
        padded = F.pad(x, (0, 0, 0, -width % self.window, 0, -height % self.window))
        out = torch.cat([*self._high(padded), *self._low(padded)], dim=-1)
        return out[:, :height, :width]

    def _high(self, x: Tensor) -> list[Tensor]:
        if self.h_qkv is None or self.h_proj is None:
            return []
        batch, height, width, _ = x.shape
        s, rows, columns = self.window, height // self.window, width // self.window
        cut = self.h_qkv(x.reshape(batch, rows, s, columns, s, -1).transpose(2, 3))
        q, k, v = cut.reshape(batch, rows * columns, s * s, 3, -1, self.width).permute(3, 0, 1, 4, 2, 5)
        seen = F.scaled_dot_product_attention(q, k, v).transpose(2, 3)
        whole = seen.reshape(batch, rows, columns, s, s, -1).transpose(2, 3).reshape(batch, height, width, -1)
        return [self.h_proj(whole)]

    def _low(self, x: Tensor) -> list[Tensor]:
        if self.l_q is None or self.l_kv is None or self.l_proj is None:
            return []
        batch, height, width, _ = x.shape
        small = F.avg_pool2d(x.permute(0, 3, 1, 2), self.window).flatten(2).transpose(1, 2)
        q = self.l_q(x).reshape(batch, height * width, -1, self.width).transpose(1, 2)
        k, v = self.l_kv(small).reshape(batch, small.shape[1], 2, -1, self.width).permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(q, k, v).transpose(1, 2)
        return [self.l_proj(seen.reshape(batch, height, width, -1))]
