"""Scale-aware modulation: convolutions of growing kernels weigh the value instead of attention."""

import torch
from jaxtyping import Float
from torch import Tensor, nn


class ScaleAwareModulation(nn.Module):
    """Split the channels into groups, see each at another scale, mix across scales, multiply with the value.

    Args:
        dim: Channels; must divide by `n_groups`.
        n_groups: Groups; group i is convolved with a kernel of 3 + 2 i.
        expand_ratio: Widening between the two mixing convolutions, at least 1.
        qkv_bias: Biases in the value and scale projections.

    Reference: arXiv:2307.08579
    """

    def __init__(self, dim: int, n_groups: int = 4, expand_ratio: int = 2, qkv_bias: bool = True) -> None:
        super().__init__()
        width = dim // n_groups
        self.v = nn.Linear(dim, dim, bias=qkv_bias)
        self.s = nn.Linear(dim, dim, bias=qkv_bias)
        self.local_convs = nn.ModuleList(
            nn.Conv2d(width, width, 3 + 2 * group, padding=1 + group, groups=width)
            for group in range(n_groups)
        )
        self.proj0 = nn.Conv2d(dim, dim * expand_ratio, 1, groups=width)
        self.bn = nn.BatchNorm2d(dim * expand_ratio)
        self.act = nn.GELU()
        self.proj1 = nn.Conv2d(dim * expand_ratio, dim, 1)
        self.proj = nn.Linear(dim, dim)

    def modulator(
        self, x: Float[Tensor, "batch height width dim"]
    ) -> Float[Tensor, "batch height width dim"]:
        """The weights that the value is multiplied with.

        Args:
            x: Map, channels last.
        """
        groups = self.s(x).permute(0, 3, 1, 2).chunk(len(self.local_convs), dim=1)
        scales = [conv(group) for conv, group in zip(self.local_convs, groups, strict=True)]
        # one channel of every scale side by side, so that the grouped 1x1 convolution mixes scales
        mixed = torch.stack(scales, dim=2).flatten(1, 2)
        weights: Tensor = self.proj1(self.act(self.bn(self.proj0(mixed))))
        return weights.permute(0, 2, 3, 1)

    def forward(self, x: Float[Tensor, "batch height width dim"]) -> Float[Tensor, "batch height width dim"]:
        """The modulated map.

        Args:
            x: Map, channels last.
        """
        out: Tensor = self.proj(self.modulator(x) * self.v(x))
        return out
