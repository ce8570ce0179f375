"""LookupViT's block: a few compressed tokens are worked on thoroughly, many lookup tokens cheaply.

Reference: arXiv:2407.12753; the authors gave out no program. The network is `backbones/lookupvit.py`. The way back can
be read in two ways (the attention transposed as it is, or normalised anew over the compressed tokens); both are here.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


def gather(
    q: Float[Tensor, "batch head compressed channel"],
    k: Float[Tensor, "batch head seq channel"],
    v: Float[Tensor, "batch head seq channel"],
) -> tuple[Float[Tensor, "batch head compressed channel"], Float[Tensor, "batch head compressed seq"]]:
    """What compressed tokens read, and the attention they read it with.

    Args:
        q: Of the compressed tokens.
        k: Of the lookup tokens.
        v: Of the lookup tokens.
    """
    attention = (q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5).softmax(-1)
    return attention @ v, attention


def spread(
    attention: Float[Tensor, "batch head compressed seq"],
    v: Float[Tensor, "batch head compressed channel"],
    anew: bool = False,
) -> Float[Tensor, "batch head seq channel"]:
    """What lookup tokens get back: the attention of the way there, transposed.

    Args:
        attention: What `gather` gave.
        v: Of the compressed tokens.
        anew: Let the weights of each lookup token sum to 1; otherwise a token that nobody read gets nothing back.
    """
    back = attention.transpose(-2, -1)
    return (back / back.sum(-1, keepdim=True) if anew else back) @ v


class LookupBlock(nn.Module):
    """There, work on the compressed tokens, and back.

    Args:
        dim: Channels.
        n_heads: Heads.
        mlp_ratio: Widening of the feed-forward part of the compressed tokens.
        lookup_ratio: The same for the lookup tokens, below 1: theirs is a narrow one.
        writes: Whether there is a way back; without it lookup tokens stay what they were.
        anew: Normalise the attention of the way back over the compressed tokens.

    Reference: arXiv:2407.12753
    """

    def __init__(
        self,
        dim: int,
        n_heads: int,
        mlp_ratio: float = 4.0,
        lookup_ratio: float = 0.5,
        writes: bool = True,
        anew: bool = False,
    ) -> None:
        super().__init__()
        self.n_heads, self.writes, self.anew = n_heads, writes, anew
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(6 if writes else 4))
        self.q, self.kv, self.read = nn.Linear(dim, dim), nn.Linear(dim, 2 * dim), nn.Linear(dim, dim)
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.mlp = _mlp(dim, int(dim * mlp_ratio))
        if writes:
            self.v, self.write = nn.Linear(dim, dim), nn.Linear(dim, dim)
            self.lookup_mlp = _mlp(dim, int(dim * lookup_ratio))

    def forward(
        self, compressed: Float[Tensor, "batch compressed dim"], lookup: Float[Tensor, "batch seq dim"]
    ) -> tuple[Float[Tensor, "batch compressed dim"], Float[Tensor, "batch seq dim"]]:
        """Both sets of tokens after the block.

        Args:
            compressed: Few tokens; their number may differ from call to call.
            lookup: Many tokens.
        """
        k, v = self._heads(self.kv(self.norms[1](lookup)), 2)
        (q,) = self._heads(self.q(self.norms[0](compressed)), 1)
        found, attention = gather(q, k, v)
        compressed = compressed + self.read(_join(found))
        own_q, own_k, own_v = self._heads(self.qkv(self.norms[2](compressed)), 3)
        compressed = compressed + self.proj(_join(F.scaled_dot_product_attention(own_q, own_k, own_v)))
        compressed = compressed + self.mlp(self.norms[3](compressed))
        if not self.writes:
            return compressed, lookup
        (sent,) = self._heads(self.v(self.norms[4](compressed)), 1)
        lookup = lookup + self.write(_join(spread(attention, sent, self.anew)))
        return compressed, lookup + self.lookup_mlp(self.norms[5](lookup))

    def _heads(self, x: Tensor, n: int) -> tuple[Tensor, ...]:
        return torch.unbind(x.reshape(*x.shape[:2], n, self.n_heads, -1).permute(2, 0, 3, 1, 4))


def _join(x: Tensor) -> Tensor:
    return x.transpose(1, 2).flatten(2)


def _mlp(dim: int, hidden: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim))
