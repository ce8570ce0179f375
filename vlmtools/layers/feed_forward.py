"""Two linear maps with a GELU between them."""

from torch import Tensor, nn


class FeedForward(nn.Module):
    """The feed-forward part of a block; parameters are called as timm calls them.

    Args:
        dim: Channels.
        hidden: Channels between the two maps.
    """

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1, self.act, self.fc2 = nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """The mapped features.

        Args:
            x: Features, channels last.
        """
        out: Tensor = self.fc2(self.act(self.fc1(x)))
        return out
