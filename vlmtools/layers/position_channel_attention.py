"""Position attention and channel attention, guided at several scales by an encoder and decoder of their own."""

import torch
from jaxtyping import Float
from torch import Tensor, nn


class PositionAttention(nn.Module):
    """Every pixel sees every pixel; added with a learned weight that starts at 0.

    Args:
        dim: Channels.
        reduction: How many times fewer channels queries and keys have.

    Reference: arXiv:1906.02849; arXiv:1809.02983
    """

    def __init__(self, dim: int, reduction: int = 8) -> None:
        super().__init__()
        self.query_conv = nn.Conv2d(dim, dim // reduction, 1)
        self.key_conv = nn.Conv2d(dim, dim // reduction, 1)
        self.value_conv = nn.Conv2d(dim, dim, 1)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: Float[Tensor, "batch dim height width"]) -> Float[Tensor, "batch dim height width"]:
        """The map with what was seen added.

        Args:
            x: Map.
        """
        q, k, v = (layer(x).flatten(2) for layer in (self.query_conv, self.key_conv, self.value_conv))
        weights = (q.transpose(1, 2) @ k).softmax(-1)
        out: Tensor = self.gamma * (v @ weights.transpose(1, 2)).reshape(x.shape) + x
        return out


class ChannelAttention(nn.Module):
    """Every channel sees the channels that differ from it; added with a learned weight that starts at 0.

    Reference: arXiv:1906.02849; arXiv:1809.02983
    """

    def __init__(self) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: Float[Tensor, "batch dim height width"]) -> Float[Tensor, "batch dim height width"]:
        """The map with what was seen added.

        Args:
            x: Map.
        """
        flat = x.flatten(2)
        alike = flat @ flat.transpose(1, 2)
        weights = (alike.amax(-1, keepdim=True) - alike).softmax(-1)
        return self.gamma * (weights @ flat).reshape(x.shape) + x


class AttentionStage(nn.Sequential):
    """Narrow by half, attend, convolve.

    Args:
        dim: Channels that go out; twice as many come in.
        position: Position attention; otherwise channel attention.
    """

    def __init__(self, dim: int, position: bool = True) -> None:
        attention = PositionAttention(dim) if position else ChannelAttention()
        super().__init__(*_conv(2 * dim, dim, 3), attention, *_conv(dim, dim, 3))


class FuseConvs(nn.Sequential):
    """Three convolutions that fuse the maps of several scales.

    Args:
        dim_in: Channels that come in.
        dim: Channels that go out.
        attention: End with a softmax over channels, to weigh another map.
    """

    def __init__(self, dim_in: int, dim: int, attention: bool = True) -> None:
        last = [nn.Conv2d(64, 64, 1), nn.BatchNorm2d(64), nn.Softmax2d() if attention else nn.PReLU()]
        super().__init__(*_conv(dim_in, 64, 3), *_conv(64, 64, 3), *last)
        if dim != 64:
            raise ValueError(f"dim is {dim}; the published norms have a width of 64. Give 64.")


def _conv(dim_in: int, dim: int, kernel: int) -> list[nn.Module]:
    return [nn.Conv2d(dim_in, dim, kernel, padding=kernel // 2), nn.BatchNorm2d(dim), nn.PReLU()]


class SemanticGuide(nn.Module):
    """An encoder and decoder whose shortest code guides the attention of all scales.

    Args:
        dim: Channels that come in and go out.

    Reference: arXiv:1906.02849
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.enc1, self.enc2 = _two_convs(dim, 2 * dim), _two_convs(2 * dim, 4 * dim)
        self.dec2, self.dec1 = _two_convs(4 * dim, 2 * dim), _two_convs(2 * dim, dim)
        self.up2, self.up1 = nn.ConvTranspose2d(2 * dim, 2 * dim, 2, 2), nn.ConvTranspose2d(dim, dim, 2, 2)

    def forward(
        self, x: Float[Tensor, "batch dim height width"]
    ) -> tuple[Float[Tensor, "batch code"], Float[Tensor, "batch dim height width"]]:
        """The code of every picture, and the map made from it.

        Args:
            x: Map; both sides must divide by 4.
        """
        pool = nn.functional.max_pool2d
        code = pool(self.enc2(pool(self.enc1(x), 2)), 2)
        return code.flatten(1), self.up1(self.dec1(self.up2(self.dec2(code))))


def _two_convs(dim_in: int, dim: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(dim_in, dim, 3, padding=1), nn.BatchNorm2d(dim), nn.ReLU(),
        nn.Conv2d(dim, dim, 3, padding=1), nn.BatchNorm2d(dim), nn.ReLU(),
    )  # fmt: skip
