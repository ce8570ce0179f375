"""Hyena in two dimensions: long convolutions over the picture between gates, in the place of attention.

Reference: arXiv:2309.13600; no program is public. Of the ways the paper describes, the one here writes a filter from
both coordinates at once and looks in all directions. The one-dimensional operator is `hyena.py`; the network is
`backbones/hyena_vit.py`.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn


def convolution_2d(
    x: Float[Tensor, "batch dim height width"], kernel: Float[Tensor, "dim two_height two_width"]
) -> Float[Tensor, "batch dim height width"]:
    """Convolve every channel with a filter that reaches from any position to any other; zeros lie around the map.

    Args:
        x: Map.
        kernel: One filter of 2 height − 1 by 2 width − 1 per channel; the middle weighs the position itself.
    """
    height, width = x.shape[-2:]
    size = (3 * height - 2, 3 * width - 2)  # a circular convolution this large never wraps round
    spectrum = torch.fft.rfft2(x.float(), s=size) * torch.fft.rfft2(kernel.float(), s=size)
    whole: Tensor = torch.fft.irfft2(spectrum, s=size)
    return whole[..., height - 1 : 2 * height - 1, width - 1 : 2 * width - 1].to(x.dtype)


class HyenaND(nn.Module):
    """The Hyena operator on maps.

    Args:
        dim: Channels.
        order: Gates, at least 2; one long convolution less than that.
        hidden: Width of the network that writes the filters.
        decay: Slowest and fastest fading of filters, per half of the picture's side; 0 does not fade.

    Reference: arXiv:2309.13600
    """

    def __init__(
        self, dim: int, order: int = 2, hidden: int = 32, decay: tuple[float, float] = (1.0, 8.0)
    ) -> None:
        super().__init__()
        self.dim, self.order, n_filters = dim, order, dim * (order - 1)
        self.in_proj, self.out_proj = nn.Conv2d(dim, dim * (order + 1), 1), nn.Conv2d(dim, dim, 1)
        self.short_filter = nn.Conv2d(
            dim * (order + 1), dim * (order + 1), 3, padding=1, groups=dim * (order + 1)
        )
        self.write = nn.ModuleList(
            [nn.Linear(2, hidden), nn.Linear(hidden, hidden), nn.Linear(hidden, n_filters)]
        )
        self.skip = nn.Parameter(torch.ones(order - 1, dim))
        self.decay = nn.Parameter(torch.linspace(*decay, n_filters))

    def filters(self, height: int, width: int) -> Float[Tensor, "conv dim two_height two_width"]:
        """The long filters for a map of this size.

        Args:
            height: Of the map.
            width: Of the map.
        """
        like = self.skip
        y = torch.linspace(-1, 1, 2 * height - 1, device=like.device, dtype=like.dtype)
        x = torch.linspace(-1, 1, 2 * width - 1, device=like.device, dtype=like.dtype)
        place = torch.stack(torch.meshgrid(y, x, indexing="ij"), dim=-1)
        h = self.write[1](torch.sin(self.write[0](place) * 4))
        written = self.write[2](torch.sin(h)) * torch.exp(
            -place.norm(dim=-1, keepdim=True) * self.decay.abs()
        )
        # as many weights as positions: their sum should not grow with the picture
        shape = (self.order - 1, self.dim, 2 * height - 1, 2 * width - 1)
        scaled: Tensor = written.permute(2, 0, 1).reshape(shape) / (height * width) ** 0.5
        return scaled

    def forward(self, x: Float[Tensor, "batch dim height width"]) -> Float[Tensor, "batch dim height width"]:
        """Mix over all positions.

        Args:
            x: Map of any size.
        """
        mixed = self.short_filter(self.in_proj(x))
        *gates, v = torch.split(mixed, self.dim, dim=1)
        kernels = self.filters(*x.shape[-2:])
        for kernel, skip, gate in zip(kernels, self.skip, reversed(gates[1:]), strict=True):
            v = v * gate
            v = convolution_2d(v, kernel) + v * skip[:, None, None]
        out: Tensor = self.out_proj(v * gates[0])
        return out
