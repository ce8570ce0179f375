"""Reading of one set of tokens by another of a different width, as between the patches and latents of FIT.

Reference: arXiv:2305.12689; the authors' program is google-research/pix2seq.
"""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


class Reading(nn.Module):
    """Cross-attention with norms on both sides, added to what reads; no feed-forward part.

    Args:
        dim: Channels of the tokens that read.
        dim_read: Channels of the tokens that are read.
        width: Channels of queries, keys and values together.
        n_heads: Heads; divides `width`.

    Reference: arXiv:2305.12689
    """

    def __init__(self, dim: int, dim_read: int, width: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.norm, self.norm_read = nn.LayerNorm(dim, eps=1e-6), nn.LayerNorm(dim_read, eps=1e-6)
        self.q, self.kv, self.proj = (
            nn.Linear(dim, width),
            nn.Linear(dim_read, 2 * width),
            nn.Linear(width, dim),
        )

    def forward(
        self, x: Float[Tensor, "batch seq dim"], read: Float[Tensor, "batch seq_read dim_read"]
    ) -> Float[Tensor, "batch seq dim"]:
        """The tokens together with what they read.

        Args:
            x: Tokens that read.
            read: Tokens that are read.
        """
        q = self.q(self.norm(x)).unflatten(-1, (self.n_heads, -1)).transpose(1, 2)
        k, v = self.kv(self.norm_read(read)).unflatten(-1, (2, self.n_heads, -1)).permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        out: Tensor = x + self.proj(seen)
        return out
