"""TiC: a vision transformer whose attention happens inside convolutions, so that pictures may have any size.

The authors gave out the convolution (`layers/msa_conv.py`, equal to theirs with one head) but not the network, and of
the paper only the abstract and summaries were at hand. They name a hierarchy of several scales, a multi-directional
cyclic shift and pooling in between. Our reading: each quarter of the channels is rolled in one of the four directions
before the convolution, so that opposite borders meet; the map is pooled between stages. All sizes are ours and were not
compared with the published table.
"""

from collections.abc import Sequence
from types import MappingProxyType
from typing import Any, Self

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vlmtools.backbones._init import small_normal
from vlmtools.backbones.base import Backbone, Variant, drop_rates, linear_head, sized
from vlmtools.layers.drop_path import DropPath
from vlmtools.layers.map_norm import MapNorm
from vlmtools.layers.msa_conv import MSAConv2d

_T = Variant(
    MappingProxyType({"embed_dims": (48, 96, 192, 384), "depths": (2, 2, 4, 2)}),
    licence="none in the authors' repository, which has only the convolution; the network is written from the abstract",
    source="zs670980918/MSA-Conv",
    note="sizes are ours, not the paper's",
)


class TiC(Backbone):
    """Stages of convolutions with attention inside.

    Args:
        in_chans: Channels of the images.
        num_classes: Outputs; 0 for none.
        embed_dims: Width of each stage.
        depths: Blocks per stage.
        num_heads: Heads per stage.
        kernel: Side of the neighbourhood that is attended to and convolved, odd.
        dilation: Steps between neighbours; 1 takes those that touch.
        depthwise: Whether the convolution keeps channels apart.
        shift: How far channels are rolled before each convolution, in positions; 0 rolls none.
        drop_path_rate: Highest chance of skipping a block in training, in [0, 1); 0 skips none.

    Reference: arXiv:2310.04134
    """

    variants = MappingProxyType(
        {
            "tic_t": _T,
            "tic_s": sized(_T, args={"embed_dims": (64, 128, 256, 512), "depths": (2, 2, 6, 2)}),
        }
    )

    def __init__(
        self,
        in_chans: int = 3,
        num_classes: int = 1000,
        embed_dims: Sequence[int] = (48, 96, 192, 384),
        depths: Sequence[int] = (2, 2, 4, 2),
        num_heads: Sequence[int] = (1, 2, 4, 8),
        kernel: int = 3,
        dilation: int = 1,
        depthwise: bool = False,
        shift: int = 1,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__(embed_dims, [4 * 2**stage for stage in range(len(depths))], num_classes)
        rates = drop_rates(drop_path_rate, depths)
        self.stages = nn.ModuleList()
        for stage, dim in enumerate(embed_dims):
            embed = _Pool(embed_dims[stage - 1], dim) if stage else nn.Conv2d(in_chans, dim, 4, 4)
            groups, around = (dim if depthwise else 1), dilation * (kernel // 2)
            blocks = [
                _Block(
                    MSAConv2d(dim, dim, kernel, around, num_heads[stage], dilation, groups), dim, shift, rate
                )
                for rate in rates[stage]
            ]
            self.stages.append(nn.Sequential(embed, *blocks))
        self.norm = MapNorm(self.num_features)
        self.head = linear_head(self.num_features, num_classes)
        self.apply(small_normal)

    @classmethod
    def tiny(cls, **changes: Any) -> Self:
        """Four stages of one or two blocks.

        Args:
            changes: Constructor arguments that differ from the tiny ones.
        """
        small: dict[str, Any] = {"embed_dims": (8, 16, 24, 32), "depths": (1, 1, 2, 1), "num_classes": 10}
        return cls(**{**small, **changes})


def rolled(x: Float[Tensor, "batch dim height width"], by: int) -> Float[Tensor, "batch dim height width"]:
    """A quarter of the channels moves down, one up, one right, one left, and comes in again at the other side.

    Args:
        x: Map of at least four channels.
        by: Positions; 0 moves none, a negative number moves back.
    """
    if by == 0:
        return x
    down, up, right, left = torch.tensor_split(x, 4, dim=1)
    moved = [
        torch.roll(down, by, 2),
        torch.roll(up, -by, 2),
        torch.roll(right, by, 3),
        torch.roll(left, -by, 3),
    ]
    return torch.cat(moved, dim=1)


class _Pool(nn.Module):
    """The largest of two by two, then wider."""

    def __init__(self, dim_in: int, dim: int) -> None:
        super().__init__()
        self.pool, self.widen = nn.MaxPool2d(2, ceil_mode=True), nn.Conv2d(dim_in, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.widen(self.pool(x))
        return out


class _Block(nn.Module):
    def __init__(self, conv: MSAConv2d, dim: int, shift: int, rate: float) -> None:
        super().__init__()
        self.norm, self.conv = MapNorm(dim), conv
        # the convolution ends in a ReLU; without a map after it the way round could only grow
        self.proj, self.drop_path, self.shift = nn.Conv2d(dim, dim, 1), DropPath(rate), shift

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.drop_path(self.proj(self.conv(rolled(self.norm(x), self.shift))))
        return out
