"""CATANet: lightweight super-resolution by attention among tokens that are alike."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from vlmtools.layers.token_aggregation import TokenAggregation


class CATANet(nn.Module):
    """A larger picture from a small one; weights have the authors' names.

    Args:
        in_chans: Channels of the pictures.
        n_iters: Steps of k-means in training, per block.
        num_tokens: Centres, per block.
        group_size: Tokens in a group, per block.
        upscale: How many times larger the picture gets: 1, 2, 3 or 4.
        dim: Channels inside.
        block_num: Blocks.
        qk_dim: Channels of queries and keys.
        mlp_dim: Channels inside the feed-forward parts.
        heads: Heads.
        patch_size: Side of the overlapping windows, per block; no picture may be smaller.

    Raises:
        ValueError: Another scale.

    Reference: arXiv:2503.06896
    """

    def __init__(
        self,
        in_chans: int = 3,
        n_iters: Sequence[int] = (5,) * 8,
        num_tokens: Sequence[int] = (16, 32, 64, 128) * 2,
        group_size: Sequence[int] = (256, 128, 64, 32) * 2,
        upscale: int = 4,
        dim: int = 40,
        block_num: int = 8,
        qk_dim: int = 36,
        mlp_dim: int = 96,
        heads: int = 4,
        patch_size: Sequence[int] = (16, 20, 24, 28) * 2,
    ) -> None:
        super().__init__()
        if upscale not in (1, 2, 3, 4):
            raise ValueError(f"upscale={upscale}; it can be 1, 2, 3 or 4. Choose one of these.")
        self.upscale = upscale
        self.first_conv = nn.Conv2d(in_chans, dim, 3, padding=1)
        self.blocks, self.mid_convs = nn.ModuleList(), nn.ModuleList()
        for index in range(block_num):
            far = AggregationBlock(
                dim, qk_dim, mlp_dim, heads, n_iters[index], num_tokens[index], group_size[index]
            )
            near = OverlappingWindows(dim, qk_dim, mlp_dim, heads, patch_size[index])
            self.blocks.append(nn.ModuleList([far, near]))
            self.mid_convs.append(nn.Conv2d(dim, dim, 3, padding=1))
        self._add_upsampling(dim)
        self.last_conv = nn.Conv2d(dim, in_chans, 3, padding=1)
        self.apply(_start)

    def _add_upsampling(self, dim: int) -> None:
        if self.upscale == 4:
            self.upconv1, self.upconv2 = (nn.Conv2d(dim, 4 * dim, 3, padding=1) for _ in range(2))
        elif self.upscale > 1:
            self.upconv = nn.Conv2d(dim, self.upscale**2 * dim, 3, padding=1)

    def forward(self, x: Float[Tensor, "batch channel height width"]) -> Float[Tensor, "batch channel h w"]:
        """The larger picture.

        Args:
            x: Picture.
        """
        base = x
        if self.upscale > 1:
            base = F.interpolate(x, scale_factor=self.upscale, mode="bilinear", align_corners=False)
        x = self.first_conv(x)
        deep = x
        for (far, near), conv in zip(self._pairs(), self.mid_convs, strict=True):
            deep = deep + conv(near(far(deep)))
        out: Tensor = self.last_conv(self._enlarged(deep + x)) + base
        return out

    def _pairs(self) -> list[list[nn.Module]]:
        return [list(block.children()) for block in self.blocks]

    def _enlarged(self, x: Tensor) -> Tensor:
        steps = {1: [], 4: ["upconv1", "upconv2"]}.get(self.upscale, ["upconv"])
        for name in steps:
            factor = 2 if self.upscale == 4 else self.upscale
            x = F.leaky_relu(F.pixel_shuffle(self.get_submodule(name)(x), factor), 0.1)
        return x


class AggregationBlock(TokenAggregation):
    """Attention among tokens that are alike, then a feed-forward part.

    Args:
        dim: Channels; must divide by `n_heads`.
        qk_dim: Channels of queries and keys.
        mlp_dim: Channels inside the feed-forward part.
        n_heads: Heads.
        n_iter: Steps of k-means for every batch in training.
        n_centres: Centres.
        group_size: Tokens in a group.

    Reference: arXiv:2503.06896
    """

    def __init__(
        self, dim: int, qk_dim: int, mlp_dim: int, n_heads: int, n_iter: int, n_centres: int, group_size: int
    ) -> None:
        super().__init__(dim, qk_dim, n_heads, n_iter, n_centres, group_size)
        self.mlp = _Normed(dim, _ConvMlp(dim, mlp_dim))

    def forward(self, x: Float[Tensor, "batch dim height width"]) -> Float[Tensor, "batch dim height width"]:
        """The map after both parts.

        Args:
            x: Map.
        """
        x = super().forward(x)
        out: Tensor = x + self.mlp(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return out


class OverlappingWindows(nn.Module):
    """Attention inside windows that overlap by two pixels, overlaps averaged, then a feed-forward part.

    Args:
        dim: Channels; must divide by `n_heads`.
        qk_dim: Channels of queries and keys.
        mlp_dim: Channels inside the feed-forward part.
        n_heads: Heads.
        side: Side of a window.

    Reference: arXiv:2503.06896
    """

    def __init__(self, dim: int, qk_dim: int, mlp_dim: int, n_heads: int, side: int) -> None:
        super().__init__()
        self.side = side
        attention = _Normed(dim, _Attention(dim, qk_dim, n_heads))
        self.layer = nn.ModuleList([attention, _Normed(dim, _ConvMlp(dim, mlp_dim))])

    def forward(self, x: Float[Tensor, "batch dim height width"]) -> Float[Tensor, "batch dim height width"]:
        """The map after both parts.

        Args:
            x: Map, no smaller than a window.

        Raises:
            ValueError: The map is smaller than a window.
        """
        attention, mlp = self.layer
        height, width, side = x.shape[2], x.shape[3], self.side
        if min(height, width) < side:
            raise ValueError(
                f"The map is {height} x {width}, smaller than a window of {side}. Pad the picture."
            )
        corners = [(top, left) for top in _starts(height, side) for left in _starts(width, side)]
        cut = torch.stack([x[..., top : top + side, left : left + side] for top, left in corners])
        tokens = cut.permute(0, 1, 3, 4, 2).flatten(2, 3)
        tokens = tokens + attention(tokens.flatten(0, 1)).reshape(tokens.shape)
        done = tokens.transpose(2, 3).reshape(cut.shape)
        whole = torch.zeros_like(x)
        for (top, left), window in zip(corners, done, strict=True):
            whole[..., top : top + side, left : left + side] += window
        whole = whole * _shares(height, side).to(x)[:, None] * _shares(width, side).to(x)
        out: Tensor = whole + mlp(whole.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return out


def _starts(length: int, side: int) -> list[int]:
    """Where windows begin; the last one is moved back to end with the map."""
    step = side - 2
    return [min(start, length - side) for start in range(0, length + step - side, step)] or [0]


def _shares(length: int, side: int) -> Tensor:
    """1, halved where a window meets the one before, as published."""
    shares, step = torch.ones(length), side - 2
    for start in range(step, length + step - side, step):
        shares[min(start, length - side) : start + 2] /= 2
    return shares


def _start(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


class _Normed(nn.Module):
    def __init__(self, dim: int, inner: nn.Module) -> None:
        super().__init__()
        self.norm, self.fn = nn.LayerNorm(dim), inner

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fn(self.norm(x))
        return out


class _ConvMlp(nn.Module):
    """Feed-forward part with a depthwise convolution added inside; channels last."""

    def __init__(self, dim: int, hidden: int, kernel: int = 5) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(dim, hidden), nn.Linear(hidden, dim)
        conv = nn.Conv2d(hidden, hidden, kernel, padding=kernel // 2, groups=hidden)
        self.dwconv = nn.ModuleDict({"depthwise_conv": nn.Sequential(conv, nn.GELU())})

    def forward(self, x: Tensor) -> Tensor:
        x = F.gelu(self.fc1(x))
        local = self.dwconv["depthwise_conv"](x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        out: Tensor = self.fc2(x + local)
        return out


class _Attention(nn.Module):
    def __init__(self, dim: int, qk_dim: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.to_q, self.to_k = (nn.Linear(dim, qk_dim, bias=False) for _ in range(2))
        self.to_v, self.proj = (nn.Linear(dim, dim, bias=False) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        rows = (self.to_q(x), self.to_k(x), self.to_v(x))
        q, k, v = (one.unflatten(-1, (self.n_heads, -1)).transpose(1, 2) for one in rows)
        seen = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        out: Tensor = self.proj(seen)
        return out
