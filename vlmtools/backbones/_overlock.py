"""Blocks of OverLoCK: a convolutional one, and one whose kernels follow an overview of the picture."""

from typing import Any

import torch
from torch import Tensor, nn

from vlmtools.backbones._overlock_parts import LayerScale, MapNorm, ResidualConv, SqueezeExcite, feed_forward
from vlmtools.layers.contmix import ContMix
from vlmtools.layers.dilated_reparam import DilatedReparamConv
from vlmtools.layers.drop_path import DropPath
from vlmtools.layers.grn import GRN

SEEN_AS_LAYER = (
    (r"\.dil_conv_(k\d+_\d+)\.", r".helpers.\1.0."),
    (r"\.dil_bn_(k\d+_\d+)\.", r".helpers.\1.1."),
    (r"(^|\.)(weight_query|weight_value|weight_proj|rpb1|rpb2)(\.|$)", r"\1mix.\2\3"),
    (r"(^|\.)weight_key\.1\.", r"\1mix.weight_key.0."),
    (r"(^|\.)weight_key\.2\.", r"\1mix.weight_key.1."),
)
"""From the authors' names inside a block to ours."""


def _scale(dim: int, start: float | None) -> nn.Module:
    return nn.Identity() if start is None else LayerScale(dim, start)


class RepConvBlock(nn.Module):
    """Large convolution and feed-forward part in one residual branch.

    Args:
        dim: Channels.
        kernel: Side of the large kernel.
        mlp_ratio: Widening of the feed-forward part.
        scale: First factor of the layer scale; None for none.
        res_scale: Scale the identity instead of the branch.
        rate: Chance of skipping the branch in training.
        deploy: Start with merged kernels.
    """

    def __init__(
        self,
        dim: int,
        kernel: int,
        mlp_ratio: float,
        scale: float | None,
        res_scale: bool,
        rate: float,
        deploy: bool,
    ) -> None:
        super().__init__()
        self.res_scale, self.dwconv = res_scale, ResidualConv(dim)
        mixing = [
            MapNorm(dim),
            DilatedReparamConv(dim, kernel, deploy),
            nn.BatchNorm2d(dim),
            SqueezeExcite(dim),
        ]
        self.proj = nn.Sequential(*mixing, *feed_forward(dim, int(dim * mlp_ratio)))
        self.ls, self.drop_path = _scale(dim, scale), DropPath(rate)

    def forward(self, x: Tensor) -> Tensor:
        """The map after the block.

        Args:
            x: Map.
        """
        x = self.dwconv(x)
        return _residual(x, self.proj(x), self.ls, self.drop_path, self.res_scale)


def _residual(x: Tensor, branch: Tensor, scale: nn.Module, drop: nn.Module, res_scale: bool) -> Tensor:
    out: Tensor = scale(x) + drop(branch) if res_scale else x + drop(scale(branch))
    return out


class ContMixBlock(nn.Module):
    """ContMix between convolutions, with a feed-forward part: the stand-alone block.

    Args:
        dim: Channels.
        kernel_size: Side of the large kernel.
        smk_size: Side of the small kernel.
        num_heads: Half the number of kernels per position.
        mlp_ratio: Widening of the feed-forward part.
        res_scale: Scale the identity instead of the branch.
        ls_init_value: First factor of the layer scale; None for none.
        drop_path: Chance of skipping a branch in training.
        deploy: Start with merged kernels.

    Reference: arXiv:2502.20087
    """

    lepe: nn.Module
    se_layer: nn.Module
    gate: nn.Module
    proj: nn.Module

    def __init__(
        self,
        dim: int = 64,
        kernel_size: int = 7,
        smk_size: int = 5,
        num_heads: int = 2,
        mlp_ratio: float = 4,
        res_scale: bool = False,
        ls_init_value: float | None = None,
        drop_path: float = 0.0,
        deploy: bool = False,
    ) -> None:
        super().__init__()
        self.res_scale = res_scale
        self.dwconv1, self.norm1 = ResidualConv(dim), MapNorm(dim)
        self.mix = ContMix(dim, 2 * num_heads, kernel_size, smk_size, project_value=True)
        self.fusion_proj = nn.Sequential(nn.Conv2d(dim, dim, 1, bias=False), nn.BatchNorm2d(dim))
        _add_rest(self, dim, dim, kernel_size, int(dim * mlp_ratio), ls_init_value, drop_path, deploy)

    def forward(self, x: Tensor) -> Tensor:
        """The map after the block.

        Args:
            x: Map.
        """
        x = self.dwconv1(x)
        normed = self.norm1(x)
        mixed = self.fusion_proj(self.mix(normed, normed, normed)) + self.lepe(normed)
        return finish(self, x, self.proj(self.gate(normed) * self.se_layer(mixed)))


class DynamicConvBlock(nn.Module):
    """ContMix whose overview comes from the context that travels beside the map.

    Args:
        dim: Channels of the map.
        context: Channels of the context.
        kernel: Side of the large kernel.
        small_kernel: Side of the small kernel.
        n_heads: Kernels per position.
        mlp_ratio: Widening of the feed-forward part.
        scale: First factor of the layer scale; None for none.
        res_scale: Scale the identity instead of the branch.
        rate: Chance of skipping a branch in training.
        first: The context has not been changed yet.
        deploy: Start with merged kernels.
    """

    lepe: nn.Module
    se_layer: nn.Module
    gate: nn.Module
    proj: nn.Module

    def __init__(
        self,
        dim: int,
        context: int,
        kernel: int,
        small_kernel: int,
        n_heads: int,
        mlp_ratio: float,
        scale: float | None,
        res_scale: bool,
        rate: float,
        first: bool,
        deploy: bool,
    ) -> None:
        super().__init__()
        out = dim + context
        self.dim, self.res_scale = dim, res_scale
        self.x_scale = None if first else LayerScale(context, 1.0)
        self.h_scale = None if first else LayerScale(context, 1.0)
        self.dwconv1, self.norm1 = ResidualConv(out), MapNorm(out)
        self.fusion = nn.Sequential(
            nn.Conv2d(out, out, 3, padding=1, groups=out),
            nn.BatchNorm2d(out),
            nn.GELU(),
            nn.Conv2d(out, dim, 1),
            GRN(dim),
        )
        self.mix = ContMix(dim, n_heads, kernel, small_kernel, context)
        self.dyconv_proj = nn.Sequential(nn.Conv2d(dim, dim, 1, bias=False), nn.BatchNorm2d(dim))
        _add_rest(self, dim, out, kernel, int(dim * mlp_ratio), scale, rate, deploy)

    def forward(self, x: Tensor, context: Tensor, first_context: Tensor) -> tuple[Tensor, Tensor]:
        """The map and the context after the block.

        Args:
            x: Map.
            context: Context as the block before left it.
            first_context: Context as it came from the overview.
        """
        if self.x_scale is not None and self.h_scale is not None:
            context = self.x_scale(context) + self.h_scale(first_context)
        both = self.dwconv1(torch.cat([x, context], dim=1))
        normed = self.norm1(both)
        fused = self.fusion(normed)
        query, overview = normed[:, : self.dim], normed[:, self.dim :]
        mixed = self.dyconv_proj(self.mix(query, overview, fused)) + self.lepe(fused)
        done = finish(self, both, self.proj(self.gate(fused) * self.se_layer(mixed)))
        return done[:, : self.dim], done[:, self.dim :]


def _add_rest(
    block: Any, dim: int, out: int, kernel: int, hidden: int, scale: float | None, rate: float, deploy: bool
) -> None:
    """Parts that both blocks have, under the authors' names."""
    block.lepe = nn.Sequential(DilatedReparamConv(dim, kernel, deploy), nn.BatchNorm2d(dim))
    block.se_layer = SqueezeExcite(dim)
    block.gate = nn.Sequential(nn.Conv2d(dim, dim, 1, bias=False), nn.BatchNorm2d(dim), nn.SiLU())
    block.proj = nn.Sequential(nn.BatchNorm2d(dim), nn.Conv2d(dim, out, 1))
    block.dwconv2, block.norm2 = ResidualConv(out), MapNorm(out)
    block.mlp = nn.Sequential(*feed_forward(out, hidden))
    block.ls1, block.ls2, block.drop_path = _scale(out, scale), _scale(out, scale), DropPath(rate)


def finish(block: Any, x: Tensor, branch: Tensor) -> Tensor:
    """Add the mixing branch, then the feed-forward branch.

    Args:
        block: One of the two blocks with ContMix.
        x: Identity.
        branch: What the mixing gave.
    """
    x = _residual(x, branch, block.ls1, block.drop_path, block.res_scale)
    x = block.dwconv2(x)
    return _residual(x, block.mlp(block.norm2(x)), block.ls2, block.drop_path, block.res_scale)
