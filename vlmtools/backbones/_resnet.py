"""The residual network that DuoFormer stands on, under torchvision's names of weights inside a stage.

Reference: arXiv:1512.03385, with the stride in the 3 x 3 convolution of a bottleneck
"""

from collections.abc import Sequence

from torch import Tensor, nn


class ResNet(nn.Module):
    """Stem and stages; the map of every stage is given.

    Args:
        in_chans: Channels of the images.
        depths: Blocks per stage.
        width: Channels of the stem.
        bottleneck: Blocks of three convolutions that widen by four; otherwise of two that do not.
    """

    def __init__(
        self,
        in_chans: int = 3,
        depths: Sequence[int] = (3, 4, 6, 3),
        width: int = 64,
        bottleneck: bool = True,
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(in_chans, width, 7, 2, 3, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.MaxPool2d(3, 2, 1),
        )
        self.widths = [width * 2**stage * (4 if bottleneck else 1) for stage in range(len(depths))]
        self.stages = nn.ModuleList()
        for stage, n_blocks in enumerate(depths):
            dims = [self.widths[stage - 1] if stage else width] + [self.widths[stage]] * n_blocks
            strides = [1 if stage == 0 else 2] + [1] * (n_blocks - 1)
            block = _Bottleneck if bottleneck else _Basic
            self.stages.append(
                nn.Sequential(*(block(dims[i], dims[i + 1], stride) for i, stride in enumerate(strides)))
            )

    def forward(self, x: Tensor) -> list[Tensor]:
        """The map of every stage.

        Args:
            x: Images.
        """
        maps, x = [], self.stem(x)
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps


class _Block(nn.Module):
    """Adds its input, fitted where the shape changes, and rectifies."""

    def __init__(self, dim_in: int, dim: int, stride: int) -> None:
        super().__init__()
        self.relu, self.downsample = nn.ReLU(), None
        if stride != 1 or dim_in != dim:
            self.downsample = nn.Sequential(
                nn.Conv2d(dim_in, dim, 1, stride, bias=False), nn.BatchNorm2d(dim)
            )

    def _added(self, x: Tensor, branch: Tensor) -> Tensor:
        out: Tensor = self.relu(branch + (x if self.downsample is None else self.downsample(x)))
        return out


class _Basic(_Block):
    def __init__(self, dim_in: int, dim: int, stride: int) -> None:
        super().__init__(dim_in, dim, stride)
        self.conv1, self.bn1 = nn.Conv2d(dim_in, dim, 3, stride, 1, bias=False), nn.BatchNorm2d(dim)
        self.conv2, self.bn2 = nn.Conv2d(dim, dim, 3, 1, 1, bias=False), nn.BatchNorm2d(dim)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.relu(self.bn1(self.conv1(x)))
        return self._added(x, self.bn2(self.conv2(inner)))


class _Bottleneck(_Block):
    def __init__(self, dim_in: int, dim: int, stride: int) -> None:
        super().__init__(dim_in, dim, stride)
        narrow = dim // 4
        self.conv1, self.bn1 = nn.Conv2d(dim_in, narrow, 1, bias=False), nn.BatchNorm2d(narrow)
        self.conv2, self.bn2 = nn.Conv2d(narrow, narrow, 3, stride, 1, bias=False), nn.BatchNorm2d(narrow)
        self.conv3, self.bn3 = nn.Conv2d(narrow, dim, 1, bias=False), nn.BatchNorm2d(dim)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.relu(self.bn1(self.conv1(x)))
        inner = self.relu(self.bn2(self.conv2(inner)))
        return self._added(x, self.bn3(self.conv3(inner)))
