"""ContMix: every position gets its own convolution kernels, made from how it matches an overview of the picture."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from vlmtools.layers.neighborhood_attention import gather, position_bias

_OVERVIEW = 7


class ContMix(nn.Module):
    """Two dynamic convolutions, one small and one large, on half of the channels each.

    Args:
        dim: Channels of queries and values.
        n_heads: Kernels per position; channels must divide by twice as many.
        kernel: Side of the large kernel, odd.
        small_kernel: Side of the small kernel, odd.
        context_dim: Channels of the map the overview is taken from; None for `dim`.
        project_value: Project the values first.

    Reference: arXiv:2502.20087
    """

    def __init__(
        self,
        dim: int,
        n_heads: int,
        kernel: int,
        small_kernel: int = 5,
        context_dim: int | None = None,
        project_value: bool = False,
    ) -> None:
        super().__init__()
        self.n_heads, self.kernels = n_heads, (small_kernel, kernel)
        self.weight_query = _projection(dim, dim // 2)
        self.weight_key = _projection(context_dim or dim, dim // 2)
        self.weight_value = _projection(dim, dim) if project_value else nn.Identity()
        self.weight_proj = nn.Conv2d(_OVERVIEW**2, kernel**2 + small_kernel**2, 1)
        self.rpb1 = nn.Parameter(torch.zeros(n_heads, 2 * small_kernel - 1, 2 * small_kernel - 1))
        self.rpb2 = nn.Parameter(torch.zeros(n_heads, 2 * kernel - 1, 2 * kernel - 1))

    def forward(
        self,
        query: Float[Tensor, "batch dim height width"],
        context: Float[Tensor, "batch context height width"],
        value: Float[Tensor, "batch dim height width"],
    ) -> Float[Tensor, "batch dim height width"]:
        """The mixed values; maps smaller than the large kernel are enlarged for it.

        Args:
            query: What decides the kernels.
            context: What the overview is taken from.
            value: What the kernels are applied to.
        """
        size = (int(query.shape[-2]), int(query.shape[-1]))
        enlarged = self._enlarged(*size)
        if enlarged is not None:
            query, context, value = (_resized(one, enlarged) for one in (query, context, value))
        mixed = self._mix(self._weights(query, context), self.weight_value(value))
        return mixed if enlarged is None else F.adaptive_avg_pool2d(mixed, size)

    def _enlarged(self, height: int, width: int) -> tuple[int, int] | None:
        least = self.kernels[1]
        if min(height, width) >= least:
            return None
        return (
            (least, int(least / height * width)) if height < width else (int(least / width * height), least)
        )

    def _weights(self, query: Tensor, context: Tensor) -> Tensor:
        """(batch, head, height, width, taps of both kernels)."""
        batch, dim, height, width = query.shape
        q = self.weight_query(query) * (dim // self.n_heads) ** -0.5
        k = self.weight_key(F.adaptive_avg_pool2d(context, _OVERVIEW))
        q, k = (one.reshape(batch, self.n_heads, -1, one.shape[-2] * one.shape[-1]) for one in (q, k))
        match = torch.einsum("bgcn,bgcl->blgn", q, k)
        taps: Tensor = self.weight_proj(match).reshape(batch, -1, self.n_heads, height, width)
        return taps.permute(0, 2, 3, 4, 1)

    def _mix(self, taps: Tensor, value: Tensor) -> Tensor:
        batch, dim, height, width = value.shape
        halves = value.reshape(batch, 2, self.n_heads, -1, height, width).permute(1, 0, 2, 4, 5, 3)
        weights = taps.split([side**2 for side in self.kernels], dim=-1)  # type: ignore[no-untyped-call]
        mixed = []
        for half, weight, table, side in zip(
            halves, weights, (self.rpb1, self.rpb2), self.kernels, strict=True
        ):
            share = (weight + position_bias(table, (height, width), side)).softmax(-1)
            mixed.append((share.unsqueeze(-2) @ gather(half, side)).squeeze(-2))
        return torch.stack(mixed, dim=1).permute(0, 1, 2, 5, 3, 4).reshape(batch, dim, height, width)


def _projection(dim_in: int, dim: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(dim_in, dim, 1, bias=False), nn.BatchNorm2d(dim))


def _resized(x: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)
