"""Efficient channel attention: weigh channels by a small convolution over their means."""

import torch
from jaxtyping import Float
from torch import Tensor, nn


class ECA(nn.Module):
    """One kernel slides over the channels; no layer narrows them.

    Args:
        dim: Channels; unused when `kernel` is given, kept because the authors have it.
        kernel: Neighbouring channels that count, odd; None derives it from `dim`.

    Reference: arXiv:1910.03151
    """

    def __init__(self, dim: int, kernel: int | None = None) -> None:
        super().__init__()
        size = _derived(dim) if kernel is None else kernel
        self.conv = nn.Conv1d(1, 1, size, padding=size // 2, bias=False)

    def forward(self, x: Float[Tensor, "batch dim height width"]) -> Float[Tensor, "batch dim height width"]:
        """The weighed map.

        Args:
            x: Map.
        """
        weights = torch.sigmoid(self.conv(x.mean((-2, -1)).unsqueeze(1)))
        return x * weights[:, 0, :, None, None]


def _derived(dim: int) -> int:
    size = int(abs((torch.tensor(float(dim)).log2().item() + 1) / 2))
    return size if size % 2 else size + 1
