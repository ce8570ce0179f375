"""Q-Former: learned queries attend to each other and to the patches; BLIP-2's connector without its text branch.

Reference: arXiv:2301.12597, section 3.1.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vlmtools.adapters.base import Connector
from vlmtools.errors import BadInput


@dataclass(eq=False, repr=False)
class Qformer(Connector):
    """A small post-norm transformer over learned queries, with cross-attention to the patches in every layer.

    Args:
        d_in: Width of the vision features; 0 takes it from the host.
        d_out: Width of the language model; 0 takes it from the host.
        n_queries: Tokens that come out, from 1; 32 in the paper. The prompt must hold as many image tokens.
        n_layers: Layers, from 1; BLIP-2 has 12, with cross-attention in every second.
        n_heads: Attention heads; must divide d_hidden.
        d_hidden: Width inside; 768 in the paper.
    """

    n_queries: int = 32
    n_layers: int = 6
    n_heads: int = 12
    d_hidden: int = 768

    @classmethod
    def tiny(cls) -> "Qformer":
        """As many queries as the tiny host has image tokens."""
        return cls(n_queries=9, n_layers=1, n_heads=2, d_hidden=16)

    def check(self) -> None:
        """Heads must be of equal width."""
        if self.d_hidden % self.n_heads:
            raise BadInput(
                f"n_heads={self.n_heads} does not divide d_hidden={self.d_hidden}. Choose a divisor."
            )

    def build(self) -> None:
        """Queries, layers, and the two projections."""
        self.queries = nn.Parameter(torch.randn(self.n_queries, self.d_hidden) * 0.02)
        self.enter = nn.Linear(self.d_in, self.d_hidden)
        self.norm = nn.LayerNorm(self.d_hidden)
        layers = (
            nn.TransformerDecoderLayer(
                self.d_hidden,
                self.n_heads,
                4 * self.d_hidden,
                dropout=0.0,
                activation="gelu",
                batch_first=True,
            )
            for _ in range(self.n_layers)
        )
        self.blocks = nn.ModuleList(layers)
        self.projection = nn.Linear(self.d_hidden, self.d_out)

    def forward(self, features: Float[Tensor, "batch patch d_in"]) -> Float[Tensor, "batch query d_out"]:
        """What the queries read.

        Args:
            features: Of the vision tower.
        """
        source = self.enter(features)
        queries = self.norm(self.queries).expand(len(features), -1, -1)
        for block in self.blocks:
            queries = block(queries, source)
        tokens: Tensor = self.projection(queries)
        return tokens

    def n_tokens(self, n_patches: int) -> int:
        """The queries.

        Args:
            n_patches: Any number.
        """
        return self.n_queries
