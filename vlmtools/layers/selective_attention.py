"""Selective attention over a feature pyramid: one level is refined by what all levels see."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


class GlobalContext(nn.Module):
    """Add to every pixel a summary of the map in which some pixels count more.

    Args:
        dim: Channels.
        inner: Channels of the summary inside.

    Reference: arXiv:1904.11492
    """

    def __init__(self, dim: int, inner: int) -> None:
        super().__init__()
        self.conv_mask = nn.Conv2d(dim, 1, 1)
        self.channel_add_conv = nn.Sequential(
            nn.Conv2d(dim, inner, 1), nn.LayerNorm([inner, 1, 1]), nn.ReLU(), nn.Conv2d(inner, dim, 1)
        )

    def forward(self, x: Float[Tensor, "batch dim height width"]) -> Float[Tensor, "batch dim height width"]:
        """The map with the summary added.

        Args:
            x: Map.
        """
        weights = self.conv_mask(x).flatten(2).softmax(-1)
        summary = (x.flatten(2) @ weights.transpose(1, 2)).unsqueeze(-1)
        out: Tensor = x + self.channel_add_conv(summary)
        return out


class SelectiveAttention(nn.Module):
    """Refine one level of a pyramid.

    Args:
        level: The level to refine, 0 for the largest map.
        dim: Channels of every level.
        n_levels: Levels.
        inner: Channels inside the channel attention.
        reduction: How many times fewer channels the summary has.

    Reference: PIDray, ICCV 2021
    """

    def __init__(
        self, level: int, dim: int = 256, n_levels: int = 5, inner: int = 128, reduction: int = 16
    ) -> None:
        super().__init__()
        self.level = level
        self.fc = nn.Sequential(nn.Conv2d(dim, inner, 1, bias=False), nn.BatchNorm2d(inner), nn.ReLU())
        self.fcs = nn.ModuleList(nn.Conv2d(inner, dim, 1) for _ in range(n_levels))
        self.convs = nn.ModuleList(nn.Conv2d(2, 1, 7, padding=3, bias=False) for _ in range(n_levels))
        self.refine = GlobalContext(dim, dim // reduction)

    def forward(self, levels: Sequence[Float[Tensor, "batch dim _h _w"]]) -> Float[Tensor, "batch dim h w"]:
        """The refined level.

        Args:
            levels: Maps from the largest to the smallest.
        """
        size = levels[self.level].shape[-2:]
        gathered = torch.stack(
            [
                F.adaptive_max_pool2d(one, size) if index < self.level else F.interpolate(one, size=size)
                for index, one in enumerate(levels)
            ],
            dim=1,
        )
        weights = self._channels(gathered) + self._places(gathered)
        out: Tensor = self.refine((gathered * weights).sum(1)) + levels[self.level]
        return out

    def _channels(self, gathered: Tensor) -> Tensor:
        summary = self.fc(gathered.sum(1).mean((-2, -1), keepdim=True))
        return torch.stack([fc(summary) for fc in self.fcs], dim=1).softmax(1)

    def _places(self, gathered: Tensor) -> Tensor:
        total = gathered.sum(1)
        both = torch.cat([total.mean(1, keepdim=True), total.amax(1, keepdim=True)], dim=1)
        return torch.stack([conv(both) for conv in self.convs], dim=1).softmax(1)
