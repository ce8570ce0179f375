"""Parts of CrossViT: patches by convolutions, and stages whose class tokens visit the other branch."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vlmtools.backbones._vit import Block
from vlmtools.errors import BadInput
from vlmtools.layers.drop_path import DropPath


class ConvPatches(nn.Module):
    """Patches by three convolutions, of the variants marked with a dagger.

    Args:
        in_chans: Channels of the images.
        dim: Channels of a token.
        patch: Side of a patch, 12 or 16.

    Raises:
        BadInput: Another side.
    """

    def __init__(self, in_chans: int, dim: int, patch: int) -> None:
        super().__init__()
        middle = {12: (3, 3, 0), 16: (3, 2, 1)}.get(patch)
        if middle is None:
            raise BadInput(f"patch_size has {patch}; multi_conv=True knows 12 and 16. Choose one of them.")
        last = (3, 1, 1) if patch == 12 else (3, 2, 1)
        self.proj = nn.Sequential(
            nn.Conv2d(in_chans, dim // 4, 7, 4, 3), nn.ReLU(),
            nn.Conv2d(dim // 4, dim // 2, *middle), nn.ReLU(),
            nn.Conv2d(dim // 2, dim, *last),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """A map of tokens.

        Args:
            x: Images.
        """
        out: Tensor = self.proj(x)
        return out


class Stage(nn.Module):
    """Blocks of every branch, then each branch's class token visits the patches of the next branch.

    Args:
        dims: Channels of every branch.
        depth: Blocks of every branch, then cross attentions of a fusion.
        n_heads: Heads of every branch.
        ratios: Widening of the feed-forward part of every branch.
        qkv_bias: Biases in the projections of queries, keys and values.
        rates: Chance of skipping every block, in training.
        eps: Of the norms.
    """

    def __init__(
        self,
        dims: Sequence[int],
        depth: Sequence[int],
        n_heads: Sequence[int],
        ratios: Sequence[float],
        qkv_bias: bool,
        rates: Sequence[float],
        eps: float,
    ) -> None:
        super().__init__()
        branches = range(len(dims))
        after = [(index + 1) % len(dims) for index in branches]
        self.blocks = nn.ModuleList(
            nn.Sequential(
                *(Block(dims[i], n_heads[i], ratios[i], qkv_bias, rates[b], eps) for b in range(depth[i]))
            )
            for i in branches
        )
        self.projs = nn.ModuleList(_to(dims[i], dims[after[i]], eps) for i in branches)
        self.fusion = nn.ModuleList(
            nn.Sequential(
                *(_Visit(dims[i], n_heads[i], qkv_bias, rates[-1], eps) for _ in range(max(depth[-1], 1)))
            )
            for i in after
        )
        self.revert_projs = nn.ModuleList(_to(dims[after[i]], dims[i], eps) for i in branches)

    def forward(self, branches: list[Tensor]) -> list[Tensor]:
        """The tokens of every branch.

        Args:
            branches: Tokens of every branch, the class token first.
        """
        branches = [blocks(x) for blocks, x in zip(self.blocks, branches, strict=True)]
        out = []
        for index, x in enumerate(branches):
            hosts = branches[(index + 1) % len(branches)]
            guest = torch.cat([self.projs[index](x[:, :1]), hosts[:, 1:]], dim=1)
            back = self.revert_projs[index](self.fusion[index](guest)[:, :1])
            out.append(torch.cat([back, x[:, 1:]], dim=1))
        return out


def _to(dim_in: int, dim: int, eps: float) -> nn.Sequential:
    return nn.Sequential(nn.LayerNorm(dim_in, eps=eps), nn.GELU(), nn.Linear(dim_in, dim))


class _Visit(nn.Module):
    """The class token sees itself and the patches of the other branch; only the class token goes on."""

    def __init__(self, dim: int, n_heads: int, qkv_bias: bool, rate: float, eps: float) -> None:
        super().__init__()
        self.norm1, self.drop_path = nn.LayerNorm(dim, eps=eps), DropPath(rate)
        self.attn = _ClassAttention(dim, n_heads, qkv_bias)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x[:, :1] + self.drop_path(self.attn(self.norm1(x)))
        return out


class _ClassAttention(nn.Module):
    def __init__(self, dim: int, n_heads: int, qkv_bias: bool) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.wq, self.wk, self.wv = (nn.Linear(dim, dim, bias=qkv_bias) for _ in range(3))
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        rows = (self.wq(x[:, :1]), self.wk(x), self.wv(x))
        q, k, v = (one.unflatten(-1, (self.n_heads, -1)).transpose(1, 2) for one in rows)
        seen = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        out: Tensor = self.proj(seen)
        return out
