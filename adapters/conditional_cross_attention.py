"""Conditional cross-attention: one learned query per attribute reads the patches, so one tower serves many attributes.

No code of the paper has been found; this is our reading of it. As a connector each attribute becomes one image token.

Reference: arXiv:2307.13254.
"""

from dataclasses import dataclass
from typing import Self

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from vlmtools.adapters.base import Connector
from vlmtools.errors import BadInput


@dataclass(eq=False, repr=False)
class ConditionalCrossAttention(Connector):
    """Attributes read the patches by cross-attention; see `embed` for the normalised embedding of one attribute.

    Args:
        d_in: Width of the vision features; 0 takes it from the host.
        d_out: Width of the language model; 0 takes it from the host.
        n_conditions: Attributes, from 1; also the number of image tokens.
        n_heads: Attention heads; divide d_in.
    """

    n_conditions: int = 64
    n_heads: int = 4

    def check(self) -> None:
        """Counts from 1; heads that fit."""
        if self.n_conditions < 1 or self.n_heads < 1 or self.d_in % self.n_heads:
            raise BadInput(
                f"n_conditions={self.n_conditions} and n_heads={self.n_heads} do not fit d_in={self.d_in}: both count "
                "from 1, and heads divide d_in."
            )

    def build(self) -> None:
        """Queries, attention, MLP and projection."""
        self.check()  # the width may have come from the host only now
        d = self.d_in
        self.conditions = nn.Parameter(torch.randn(self.n_conditions, d) * d**-0.5)
        self.norm = nn.LayerNorm(d)
        self.attention = nn.MultiheadAttention(d, self.n_heads, batch_first=True)
        self.mlp = nn.Sequential(nn.LayerNorm(d), nn.Linear(d, 2 * d), nn.GELU(), nn.Linear(2 * d, d))
        self.projection = nn.Linear(d, self.d_out)

    def n_tokens(self, n_patches: int) -> int:
        """One per attribute.

        Args:
            n_patches: Not used.
        """
        return self.n_conditions

    def forward(self, features: Float[Tensor, "batch patch d_in"]) -> Float[Tensor, "batch condition d_out"]:
        """Every attribute reads the patches.

        Args:
            features: Of the vision tower.
        """
        return self._read(features, self.conditions)

    def embed(
        self, features: Float[Tensor, "batch patch d_in"], condition: int
    ) -> Float[Tensor, "batch d_out"]:
        """The embedding of one attribute, of length 1: pictures alike in the attribute lie close together.

        Args:
            features: Of the vision tower.
            condition: The attribute, from 0.
        """
        return F.normalize(self._read(features, self.conditions[condition, None])[:, 0], dim=-1)

    def _read(self, features: Tensor, conditions: Tensor) -> Tensor:
        patches = self.norm(features)
        query = conditions.expand(len(features), -1, -1)
        read, _ = self.attention(query, patches, patches, need_weights=False)
        tokens: Tensor = self.projection(read + self.mlp(read))
        return tokens

    @classmethod
    def tiny(cls) -> Self:
        """As many attributes as the tiny host has image tokens."""
        return cls(n_conditions=9)


def attribute_triplet_loss(
    anchor: Float[Tensor, "batch dim"],
    alike: Float[Tensor, "batch dim"],
    other: Float[Tensor, "batch dim"],
    margin: float = 0.2,
) -> Float[Tensor, ""]:
    """How far pictures with the same value of an attribute are from lying closer than others, by a margin.

    Args:
        anchor: Embeddings of one attribute.
        alike: Embeddings of pictures with the same value.
        other: Embeddings of pictures with another value.
        margin: By how much the others must be farther; 0 asks for the order only.
    """
    return F.triplet_margin_loss(anchor, alike, other, margin=margin)
