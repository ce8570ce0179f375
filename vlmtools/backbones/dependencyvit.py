"""DependencyViT: tokens send what they hold to their parents, so that a tree of parts and wholes emerges.

The authors gave out no program, and the paper's text and tables were not at hand: only its abstract, a caption, and an
open re-implementation that cites it (pull request 2062 of timm, unfinished). From these come the two sizes of DeiT,
twelve heads, a selector with temperature 0.1, a controller with half as many channels inside, messages multiplied over
the layers (`cumulative`), no class token, and in the -Lite form 16 % of all patches dropped after blocks 2, 5, 8 and
11. That the patches that send least are the ones to go is said in the abstract; that what is left is averaged with the
weight of its messages is our own choice. Parameters, FLOPs and accuracy were not compared with published ones.
"""

from collections.abc import Sequence
from types import MappingProxyType
from typing import Any, Self

import torch
from torch import Tensor, nn

from vlmtools.backbones import _vit
from vlmtools.backbones._init import small_normal
from vlmtools.backbones.base import Variant, drop_rates, linear_head, sized
from vlmtools.layers.drop_path import DropPath
from vlmtools.layers.reversed_attention import ReversedAttention, senders

_T = Variant(
    MappingProxyType({"embed_dim": 192}),
    licence="no program was given out; written from the paper",
    source="dingmyu/DependencyViT",
    note="our reading of descriptions of the paper; sizes not compared with published ones",
)
_LITE = {"prune_after": (2, 5, 8, 11)}


class DependencyViT(_vit.TokenBackbone):
    """Vision transformer with reversed attention; the -Lite form drops the leaves that rarely send.

    Args:
        img_size: Side in pixels that position embeddings are made for; others are interpolated.
        patch_size: Side of a patch.
        in_chans: Channels of the images.
        num_classes: Outputs; 0 for none.
        embed_dim: Channels.
        depth: Blocks.
        num_heads: Heads.
        mlp_ratio: Widening of the feed-forward part.
        qkv_bias: Biases in the projections of queries, keys and values.
        drop_path_rate: Highest chance of skipping a block in training, in [0, 1); 0 skips none.
        temperature: Of the softmax over heads, above 0.
        cumulative: Whether what a token may send is multiplied over the blocks, so that silence lasts; otherwise every
            block decides anew.
        prune_after: Blocks, counted from 1, after whose attention patches are dropped; empty keeps all.
        prune_ratio: Share of all patches dropped each time, in [0, 1 / number of times); 0 drops none.
        start_open: How much a token sends in each block at the start of training, in (0, 1).

    Reference: arXiv:2304.03282
    """

    variants = MappingProxyType(
        {
            "dependencyvit_tiny": _T,
            "dependencyvit_small": sized(_T, args={"embed_dim": 384}),
            "dependencyvit_lite_tiny": sized(_T, args=_LITE),
            "dependencyvit_lite_small": sized(_T, args={"embed_dim": 384, **_LITE}),
        }
    )

    blocks: Any

    def __init__(
        self,
        img_size: int = 224,
        patch_size: int = 16,
        in_chans: int = 3,
        num_classes: int = 1000,
        embed_dim: int = 192,
        depth: int = 12,
        num_heads: int = 12,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        drop_path_rate: float = 0.0,
        temperature: float = 0.1,
        cumulative: bool = True,
        prune_after: Sequence[int] = (),
        prune_ratio: float = 0.16,
        start_open: float = 0.98,
    ) -> None:
        super().__init__(embed_dim, depth, patch_size, num_classes)
        self.patch_size, self.prune_ratio = patch_size, prune_ratio
        self.prune_after = tuple(sorted(prune_after))
        self.patch_embed = _vit.PatchEmbed(in_chans, embed_dim, patch_size)
        self.pos_embed = nn.Parameter(torch.zeros(1, (img_size // patch_size) ** 2, embed_dim))
        rates = drop_rates(drop_path_rate, [depth])[0]
        hidden = int(embed_dim * mlp_ratio)
        self.blocks = nn.ModuleList(
            _Block(
                embed_dim,
                ReversedAttention(embed_dim, num_heads, qkv_bias, temperature, embed_dim // 2),
                hidden,
                rate,
                cumulative,
            )
            for rate in rates
        )
        self.norm = nn.LayerNorm(embed_dim, eps=1e-6)
        self.head = linear_head(embed_dim, num_classes)
        self.apply(small_normal)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        for block in self.blocks:
            nn.init.constant_(block.attn.controller[-1].bias, _logit(start_open))

    def embed(self, x: Tensor) -> Tensor:
        """Patches with their positions.

        Args:
            x: Images.
        """
        patches = self.patch_embed(x)
        size = (int(patches.shape[-2]), int(patches.shape[-1]))
        tokens: Tensor = patches.flatten(2).transpose(1, 2)
        return tokens + _vit.resized_positions(self.pos_embed, size, 0)

    def forward_tokens(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Normalised tokens that are left, how much each still sends, and which patches they are.

        Args:
            x: Images.
        """
        x = self.embed(x)
        n_all = x.shape[1]
        left = torch.arange(n_all, device=x.device).expand(x.shape[0], -1)
        messages = x.new_ones(x.shape[:2])
        for number, block in enumerate(self.blocks, start=1):
            x, messages, _ = block.attend(x, messages)
            if number in self.prune_after:
                best = senders(messages, self.n_left(number, n_all))
                x, messages, left = (
                    x.take_along_dim(best[..., None], 1),
                    messages.gather(1, best),
                    left.gather(1, best),
                )
            x = block.feed(x)
        return self.norm(x), messages, left

    def n_left(self, number: int, n_all: int) -> int:
        """How many patches are left after a block, at least 1.

        Args:
            number: The block, from 1.
            n_all: Patches of the image.
        """
        times = sum(one <= number for one in self.prune_after)
        return max(1, int(n_all * (1 - times * self.prune_ratio)))

    def dependencies(self, x: Tensor) -> list[Tensor]:
        """How much every patch sends to every other, child → parent, block by block, with nothing dropped.

        Args:
            x: Images.
        """
        x, found = self.embed(x), []
        messages = x.new_ones(x.shape[:2])
        for block in self.blocks:
            x, messages, sent = block.attend(x, messages)
            x = block.feed(x)
            found.append(sent)
        return found

    def forward_stages(self, x: Tensor, n_stages: int | None = None) -> list[Tensor]:
        """The map after each block, with nothing dropped: dropped patches would leave holes in a map.

        Args:
            x: Images.
            n_stages: Stop after this many blocks; None runs all.
        """
        size = (x.shape[-2] // self.patch_size, x.shape[-1] // self.patch_size)
        maps, x = [], self.embed(x)
        messages = x.new_ones(x.shape[:2])
        for block in self.blocks[:n_stages]:
            x, messages, _ = block.attend(x, messages)
            x = block.feed(x)
            maps.append(_vit.to_map(x, size))
        return maps

    def forward_features(self, x: Tensor) -> Tensor:
        """Normalised tokens that are left, each times its share of all messages, so that their mean is a weighted one.

        Args:
            x: Images.
        """
        tokens, messages, _ = self.forward_tokens(x)
        return tokens * (messages / messages.mean(1, keepdim=True))[..., None]

    def pool(self, x: Tensor) -> Tensor:
        """The mean of the tokens.

        Args:
            x: What `forward_features` gave.
        """
        return x.mean(1)

    @classmethod
    def tiny(cls, **changes: Any) -> Self:
        """Three blocks, two of which drop patches.

        Args:
            changes: Constructor arguments that differ from the tiny ones.
        """
        small: dict[str, Any] = {
            "img_size": 64, "patch_size": 8, "embed_dim": 32, "depth": 3, "num_heads": 4, "mlp_ratio": 2,
            "prune_after": (1, 2), "prune_ratio": 0.25, "num_classes": 10,
        }  # fmt: skip
        return cls(**{**small, **changes})


class _Block(nn.Module):
    def __init__(self, dim: int, attn: ReversedAttention, hidden: int, rate: float, cumulative: bool) -> None:
        super().__init__()
        self.cumulative = cumulative
        self.norm1, self.norm2 = nn.LayerNorm(dim, eps=1e-6), nn.LayerNorm(dim, eps=1e-6)
        self.attn, self.mlp, self.drop_path = attn, _vit.Mlp(dim, hidden), DropPath(rate)

    def attend(self, x: Tensor, messages: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        received, sent, messages = self.attn.exchange(self.norm1(x), messages if self.cumulative else None)
        return x + self.drop_path(received), messages, sent

    def feed(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.drop_path(self.mlp(self.norm2(x)))
        return out


def _logit(share: float) -> float:
    return float(torch.logit(torch.tensor(share, device="cpu")))
