"""Attention among channels: every channel sees the channels that vary as it does."""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

_WEIGHTS: dict[str, Callable[[Tensor], Tensor]] = {
    "softmax": lambda scores: scores.softmax(-1), "relu": F.relu, "gelu": F.gelu, "sigmoid": torch.sigmoid,
    "": lambda scores: scores,
}  # fmt: skip


class TransposedAttention(nn.Module):
    """Queries and keys are whole channels, so the cost grows with the pixels only once.

    Args:
        dim: Channels; must divide by `n_heads`.
        n_heads: Heads.
        weights: How scores become weights: "softmax", "relu" for sparse ones, "gelu", "sigmoid", "" for none.
        local_window: Outside training, attend inside overlapping windows of this side, about as large as the training
            pictures, and average them; None attends over the whole map.
        bias: Biases in the convolutions.

    Reference: arXiv:2111.09881; arXiv:2112.04491 for the windows; arXiv:2301.02031 for "relu"
    """

    def __init__(
        self,
        dim: int,
        n_heads: int,
        weights: str = "softmax",
        local_window: int | None = None,
        bias: bool = False,
    ) -> None:
        super().__init__()
        self.n_heads, self.weights, self.local_window = n_heads, weights, local_window
        self.temperature = nn.Parameter(torch.ones(n_heads, 1, 1))
        self.qkv = nn.Conv2d(dim, 3 * dim, 1, bias=bias)
        self.qkv_dwconv = nn.Conv2d(3 * dim, 3 * dim, 3, padding=1, groups=3 * dim, bias=bias)
        self.project_out = nn.Conv2d(dim, dim, 1, bias=bias)

    def forward(self, x: Float[Tensor, "batch dim height width"]) -> Float[Tensor, "batch dim height width"]:
        """The attended map.

        Args:
            x: Map.
        """
        qkv = self.qkv_dwconv(self.qkv(x))
        windowed = self.local_window is not None and not self.training
        seen = self._in_windows(qkv, self.local_window or 0) if windowed else self._attend(qkv)
        out: Tensor = self.project_out(seen)
        return out

    def _attend(self, qkv: Tensor) -> Tensor:
        q, k, v = qkv.reshape(len(qkv), 3, self.n_heads, -1, qkv.shape[2] * qkv.shape[3]).unbind(1)
        scores = F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(-2, -1) * self.temperature
        seen = _WEIGHTS[self.weights](scores) @ v
        return seen.reshape(len(qkv), -1, *qkv.shape[-2:])

    def _in_windows(self, qkv: Tensor, window: int) -> Tensor:
        height, width = qkv.shape[-2:]
        tall, wide = min(height, window), min(width, window)
        total = torch.zeros_like(qkv[:, : qkv.shape[1] // 3])
        times = torch.zeros_like(total[:1, :1])
        for top in window_starts(height, tall):
            for left in window_starts(width, wide):
                spot = (..., slice(top, top + tall), slice(left, left + wide))
                total[spot] += self._attend(qkv[spot])
                times[spot] += 1
        return total / times


def window_starts(length: int, window: int) -> list[int]:
    """Where windows begin that cover a length with as little overlap as possible, evenly spread.

    Args:
        length: Pixels to cover.
        window: Pixels of a window, at most `length`.
    """
    n_windows = -(-length // window)
    step = window if n_windows == 1 else math.ceil((length - window) / (n_windows - 1) - 1e-8)
    starts = [0]
    while starts[-1] + window < length:
        starts.append(min(starts[-1] + step, length - window))
    return starts
