"""LayerNorm over the channels of a map that has them first."""

from torch import Tensor, nn


class MapNorm(nn.LayerNorm):
    """LayerNorm for maps of (batch, channel, height, width)."""

    def forward(self, x: Tensor) -> Tensor:
        """The normalised map.

        Args:
            x: (batch, channel, height, width).
        """
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
