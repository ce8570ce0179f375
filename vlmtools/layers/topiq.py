"""TOPIQ: judge the quality of a picture by letting coarse features question fine ones."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

_SIDE = 32
"""Side of the square that position embeddings are stored for."""


class QualityHead(nn.Module):
    """A quality score from the maps of a network, with or without those of a flawless picture.

    The authors' program and weights are for noncommercial use only (PolyForm Noncommercial). Nothing of the program is
    here: this follows the paper, with the names and shapes of published weights so that they load; who loads them is
    bound by that licence.

    Args:
        backbone_channels: Channels of the maps, finest first.
        inter_dim: Channels inside.
        num_heads: Heads.
        use_ref: Compare with a flawless picture.
        num_class: Scores.
        max_hidden: Most channels inside a feed-forward part.

    Reference: arXiv:2308.03060
    """

    def __init__(
        self,
        backbone_channels: Sequence[int],
        inter_dim: int = 256,
        num_heads: int = 4,
        use_ref: bool = True,
        num_class: int = 1,
        max_hidden: int = 2048,
    ) -> None:
        super().__init__()
        self.use_ref = use_ref
        layer: tuple[Any, ...] = (inter_dim, num_heads, min(4 * inter_dim, max_hidden))
        times = 3 if use_ref else 1
        self.weight_pool, self.dim_reduce = nn.ModuleList(), nn.ModuleList()
        for dim in backbone_channels:
            self.weight_pool.append(_weights(dim) if use_ref else _Gate(dim))
            self.dim_reduce.append(nn.Sequential(nn.Conv2d(times * dim, inter_dim, 1), nn.GELU()))
        self.sa_attn_blks = nn.ModuleList(_Stack(_SelfLayer(*layer)) for _ in backbone_channels)
        self.attn_blks = nn.ModuleList(_Stack(_CrossLayer(*layer)) for _ in backbone_channels[1:])
        self.attn_pool = _SelfLayer(*layer)
        self.score_linear = nn.Sequential(
            nn.LayerNorm(inter_dim), nn.Linear(inter_dim, inter_dim), nn.GELU(),
            nn.LayerNorm(inter_dim), nn.Linear(inter_dim, inter_dim), nn.GELU(),
            nn.Linear(inter_dim, num_class),
        )  # fmt: skip
        # one table for rows and one for columns, each with half of the channels
        self.h_emb, self.w_emb = (
            nn.Parameter(torch.randn(1, inter_dim // 2, *sides)) for sides in ((_SIDE, 1), (1, _SIDE))
        )

    def forward(
        self, maps: Sequence[Float[Tensor, "batch _ _ _"]], reference: Sequence[Tensor] | None = None
    ) -> Float[Tensor, "batch score"]:
        """The score.

        Args:
            maps: Maps of the picture, finest first.
            reference: Maps of the flawless picture, if the head compares.

        Raises:
            ValueError: The head compares and there is nothing to compare with, or the reverse.
        """
        if self.use_ref != (reference is not None):
            raise ValueError(
                f"use_ref={self.use_ref}, reference given: {reference is not None}. Make them agree."
            )
        size = maps[-1].shape[-2:]
        levels = [
            self._level(index, x, None if reference is None else reference[index], size)
            for index, x in enumerate(maps)
        ]
        asked = levels[-1]
        for block, level in zip(self.attn_blks, reversed(levels[:-1]), strict=True):
            asked = block(asked, level)
        score: Tensor = self.score_linear(self.attn_pool(asked).mean(1))
        return score

    def _level(self, index: int, x: Tensor, reference: Tensor | None, size: Sequence[int]) -> Tensor:
        pool = self.weight_pool[index]
        if reference is None:
            x = pool(x)
        else:
            apart = (x - reference).abs()
            x = torch.cat([x, reference, apart], dim=1) * pool(apart)
        if x.shape[2] > size[0] and x.shape[3] > size[1]:
            x = F.adaptive_avg_pool2d(x, (size[0], size[1]))
        x = self.dim_reduce[index](x)
        placed = (x + self._positions(x)).flatten(2).transpose(1, 2)
        out: Tensor = self.sa_attn_blks[index](placed)
        return out

    def _positions(self, x: Tensor) -> Tensor:
        whole = (1, self.h_emb.shape[1], _SIDE, _SIDE)
        table = torch.cat([self.h_emb.expand(whole), self.w_emb.expand(whole)], dim=1)
        return F.interpolate(table, size=x.shape[2:], mode="bicubic", align_corners=False)


def _weights(dim: int) -> nn.Sequential:
    """One weight in (0, 1) per position."""
    return nn.Sequential(
        nn.Conv2d(dim, 64, 1), nn.GELU(), nn.Conv2d(64, 64, 3, padding=1), nn.GELU(),
        nn.Conv2d(64, 1, 3, padding=1), nn.Sigmoid(),
    )  # fmt: skip


class _Gate(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.splitconv, self.weight_blk = nn.Conv2d(dim, 2 * dim, 1), _weights(dim)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.splitconv(x).chunk(2, dim=1)
        out: Tensor = F.gelu(value) * self.weight_blk(gate)
        return out


class _Stack(nn.Module):
    """One layer, under the name that it has in published weights."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleList([layer])

    def forward(self, *tokens: Tensor) -> Tensor:
        out: Tensor = self.layers[0](*tokens)
        return out


class _SelfLayer(nn.Module):
    def __init__(self, dim: int, n_heads: int, hidden: int) -> None:
        super().__init__()
        self.self_attn = nn.MultiheadAttention(dim, n_heads, batch_first=True)
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.linear1, self.linear2 = nn.Linear(dim, hidden), nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        normed = self.norm1(x)
        x = x + self.self_attn(normed, normed, normed, need_weights=False)[0]
        out: Tensor = x + self.linear2(F.gelu(self.linear1(self.norm2(x))))
        return out


class _CrossLayer(nn.Module):
    """Tokens of a coarse level question those of a finer one.

    Published weights hold a self-attention which has no part in the result; it is kept so that they load.
    """

    def __init__(self, dim: int, n_heads: int, hidden: int) -> None:
        super().__init__()
        self.self_attn, self.multihead_attn = (
            nn.MultiheadAttention(dim, n_heads, batch_first=True) for _ in range(2)
        )
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(dim) for _ in range(3))
        self.linear1, self.linear2 = nn.Linear(dim, hidden), nn.Linear(hidden, dim)

    def forward(self, x: Tensor, finer: Tensor) -> Tensor:
        finer = self.norm2(finer)
        x = x + self.multihead_attn(self.norm1(x), finer, finer, need_weights=False)[0]
        out: Tensor = x + self.linear2(F.gelu(self.linear1(self.norm3(x))))
        return out
