"""Squeeze and excite: weigh channels by a small network of their means, without biases."""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


class SqueezeExcite(nn.Module):
    """One weight in (0, 1) per channel.

    Args:
        dim: Channels.
        reduction: How many times fewer channels there are inside.

    Reference: arXiv:1709.01507
    """

    def __init__(self, dim: int, reduction: int = 16) -> None:
        super().__init__()
        self.narrow = nn.Linear(dim, dim // reduction, bias=False)
        self.widen = nn.Linear(dim // reduction, dim, bias=False)

    def forward(self, x: Float[Tensor, "batch dim height width"]) -> Float[Tensor, "batch dim height width"]:
        """The weighed map.

        Args:
            x: Map.
        """
        weights = self.widen(F.relu(self.narrow(x.mean((-2, -1))))).sigmoid()
        out: Tensor = x * weights[:, :, None, None]
        return out
