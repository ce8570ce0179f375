"""Perceiver resampler: a fixed number of learned latents read the patches, whatever their number.

Reference: arXiv:2204.14198, appendix A.1.1.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vlmtools.adapters.base import Connector
from vlmtools.errors import BadInput


class _Block(nn.Module):
    """Latents attend to patches and latents, then a feed-forward layer."""

    def __init__(self, dim: int, n_heads: int) -> None:
        super().__init__()
        self.norm_x, self.norm_latents = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention = nn.MultiheadAttention(dim, n_heads, bias=False, batch_first=True)
        self.ffn = nn.Sequential(
            nn.LayerNorm(dim),
            nn.Linear(dim, 4 * dim, bias=False),
            nn.GELU(),
            nn.Linear(4 * dim, dim, bias=False),
        )

    def forward(self, x: Tensor, latents: Tensor) -> Tensor:
        query = self.norm_latents(latents)
        source = torch.cat([self.norm_x(x), query], 1)
        latents = latents + self.attention(query, source, source, need_weights=False)[0]
        read: Tensor = latents + self.ffn(latents)
        return read


@dataclass(eq=False, repr=False)
class Resampler(Connector):
    """Learned latents that attend to patches and to each other, layer by layer.

    Args:
        d_in: Width of the vision features; 0 takes it from the host.
        d_out: Width of the language model; 0 takes it from the host.
        n_latents: Tokens that come out, from 1; 64 in the paper. The prompt must hold as many image tokens.
        n_layers: Blocks, from 1; 6 in the paper.
        n_heads: Attention heads; must divide d_in.
    """

    n_latents: int = 64
    n_layers: int = 6
    n_heads: int = 8

    @classmethod
    def tiny(cls) -> "Resampler":
        """As many latents as the tiny host has image tokens."""
        return cls(n_latents=9, n_layers=1, n_heads=2)

    def build(self) -> None:
        """Latents, blocks, and the projection to the language model."""
        if self.d_in % self.n_heads:
            raise BadInput(f"n_heads={self.n_heads} does not divide d_in={self.d_in}. Choose a divisor.")
        self.latents = nn.Parameter(torch.randn(self.n_latents, self.d_in) * self.d_in**-0.5)
        self.blocks = nn.ModuleList(_Block(self.d_in, self.n_heads) for _ in range(self.n_layers))
        self.norm, self.projection = nn.LayerNorm(self.d_in), nn.Linear(self.d_in, self.d_out)

    def forward(self, features: Float[Tensor, "batch patch d_in"]) -> Float[Tensor, "batch latent d_out"]:
        """What the latents read.

        Args:
            features: Of the vision tower.
        """
        latents = self.latents.expand(len(features), -1, -1)
        for block in self.blocks:
            latents = block(features, latents)
        tokens: Tensor = self.projection(self.norm(latents))
        return tokens

    def n_tokens(self, n_patches: int) -> int:
        """The latents.

        Args:
            n_patches: Any number.
        """
        return self.n_latents
