"""Two convolutions with norm and ReLU: the step of a plain decoder."""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


class DoubleConv(nn.Module):
    """Convolve, normalise, rectify, twice.

    Args:
        dim: Channels.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(dim, dim, 3, padding=1), nn.BatchNorm2d(dim)
        self.conv3, self.norm3 = nn.Conv2d(dim, dim, 3, padding=1), nn.BatchNorm2d(dim)

    def forward(self, x: Float[Tensor, "batch dim height width"]) -> Float[Tensor, "batch dim height width"]:
        """The convolved map.

        Args:
            x: Map.
        """
        return F.relu(self.norm3(self.conv3(F.relu(self.norm1(self.conv1(x))))))
