"""Global response normalization: channels that are strong over the whole map get stronger."""

import torch
from jaxtyping import Float
from torch import Tensor, nn


class GRN(nn.Module):
    """Scale each channel by its norm relative to the mean norm of all channels.

    Args:
        dim: Channels.

    Reference: arXiv:2301.00808
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1, dim, 1, 1))
        self.beta = nn.Parameter(torch.zeros(1, dim, 1, 1))

    def forward(self, x: Float[Tensor, "batch dim height width"]) -> Float[Tensor, "batch dim height width"]:
        """The normalised map.

        Args:
            x: Map.
        """
        strength = torch.linalg.vector_norm(x, dim=(-2, -1), keepdim=True)
        relative = strength / (strength.mean(1, keepdim=True) + 1e-6)
        out: Tensor = (self.gamma * relative + 1) * x + self.beta
        return out
