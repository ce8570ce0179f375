"""A feature pyramid without attention: each level weighs its own channels, then a deformable convolution refines it."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from vlmtools.layers.deform_conv import deform_conv2d


class ModulatedPyramid(nn.Module):
    """From the maps of a backbone to three maps of one width and one fine map for masks.

    The authors gave out no licence, so this was written from the paper and from published numbers, under the names of
    published weights.

    Args:
        widths: Channels of the backbone's maps, finest first.
        dim: Channels inside.
        mask_dim: Channels of the fine map.

    Reference: arXiv:2402.19422, section 3.3
    """

    def __init__(self, widths: Sequence[int], dim: int = 256, mask_dim: int = 256) -> None:
        super().__init__()
        self.in_projections = nn.ModuleList(_Project(width, dim) for width in widths)
        self.conv_avg = _Project(widths[-1], dim)
        self.csm = nn.ModuleList(_SelfModulation(dim) for _ in widths)
        self.dcn = nn.ModuleList(_Refine(dim) for _ in widths[1:])
        self.out = _Project(dim, mask_dim)

    def forward(
        self, maps: Sequence[Float[Tensor, "batch _c _h _w"]]
    ) -> tuple[Float[Tensor, "batch mask_dim height width"], list[Tensor]]:
        """The fine map, and the refined map of every other level, coarsest first.

        Args:
            maps: Maps of the backbone, finest first, each half as large as the one before.
        """
        own = [project(x) for project, x in zip(self.in_projections, maps, strict=True)]
        whole = self.conv_avg(maps[-1].mean((-2, -1), keepdim=True))
        x, refined = self.csm[0](own[-1]) + whole, []
        for refine, modulate, level in zip(self.dcn, self.csm[1:], reversed(own[:-1]), strict=True):
            seen, enlarged = refine(x)
            refined.append(seen)
            x = enlarged + modulate(level)
        return self.out(x), refined


class _Project(nn.Module):
    def __init__(self, dim_in: int, dim: int) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(dim_in, dim, 1, bias=False), nn.BatchNorm2d(dim)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


class _SelfModulation(nn.Module):
    """x + x * weight, one weight per channel, from the mean of the map."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.mlp = nn.ModuleList([_Weights(dim)])

    def forward(self, x: Tensor) -> Tensor:
        # published weights expect the sigmoid twice, so weights are from 0.5 to 0.73
        out: Tensor = x + x * self.mlp[0](x).sigmoid()
        return out


class _Weights(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Conv2d(dim, dim // 2, 1, bias=False), nn.BatchNorm2d(dim // 2), nn.ReLU(),
            nn.Conv2d(dim // 2, dim, 1, bias=False),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.mlp(x.mean((-2, -1), keepdim=True)).sigmoid()
        return out


class _Refine(nn.Module):
    """Deformable convolution, version 2, and the same at twice the size."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dcn_offset = nn.Conv2d(dim, 27, 3, padding=1)
        self.dcn = nn.Conv2d(dim, dim, 3, padding=1, bias=False)
        self.dcn_bn, self.up_bn = nn.BatchNorm2d(dim), nn.BatchNorm2d(dim)
        self.up_sample = nn.ConvTranspose2d(dim, dim, 4, 2, 1, bias=False)
        nn.init.zeros_(self.dcn_offset.weight)
        if self.dcn_offset.bias is not None:
            nn.init.zeros_(self.dcn_offset.bias)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        offset, weights = self.dcn_offset(x).split([18, 9], dim=1)
        seen = deform_conv2d(x, offset, self.dcn.weight, padding=1, mask=weights.sigmoid())
        seen = F.relu(self.dcn_bn(seen))
        return seen, F.relu(self.up_bn(self.up_sample(seen)))
