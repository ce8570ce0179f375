"""Strip self-attention: queries and keys have few channels, keys and values few positions.

Reference: arXiv:2505.22195; no program is public. The network is `backbones/s2aformer.py`.
"""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


class StripAttention(nn.Module):
    """Attention that costs positions x (positions / reduction²) x channels of the narrow queries.

    Args:
        dim: Channels.
        n_heads: Heads.
        narrow: Channels per head of queries and keys, from 1.
        reduction: How much smaller the map of keys and values is, per side; 1 keeps it.

    Reference: arXiv:2505.22195
    """

    def __init__(self, dim: int, n_heads: int, narrow: int = 1, reduction: int = 1) -> None:
        super().__init__()
        self.n_heads, self.narrow = n_heads, narrow
        self.q, self.k = nn.Linear(dim, n_heads * narrow), nn.Linear(dim, n_heads * narrow)
        self.v, self.proj = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.reduce = (
            nn.Conv2d(dim, dim, reduction, reduction, groups=dim) if reduction > 1 else nn.Identity()
        )

    def forward(self, x: Float[Tensor, "batch dim height width"]) -> Float[Tensor, "batch dim height width"]:
        """The attended map.

        Args:
            x: Map; its sides are at least the reduction.
        """
        few = self.reduce(x).flatten(2).transpose(1, 2)
        q, k, v = (
            self._split(layer(tokens))
            for layer, tokens in (
                (self.q, x.flatten(2).transpose(1, 2)),
                (self.k, few),
                (self.v, few),
            )
        )
        seen = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        out: Tensor = self.proj(seen).transpose(1, 2).reshape(x.shape)
        return out

    def _split(self, x: Tensor) -> Tensor:
        return x.reshape(*x.shape[:2], self.n_heads, -1).transpose(1, 2)
