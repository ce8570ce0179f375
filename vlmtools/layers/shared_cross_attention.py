"""Attention that two kinds of picture share: computed once, read along its rows and along its columns."""

import torch
from jaxtyping import Float
from torch import Tensor, nn


class SharedCrossAttention(nn.Module):
    """Depth asks colour; one matrix of logits serves both outputs.

    The authors gave out no licence, so this was written from the paper's description and from published numbers. Two
    oddities of their weights are kept: both sets of values are made from the colour tokens, and the depth output is
    read channel by channel, which mixes its tokens (`scrambled`).

    Args:
        dim: Channels.
        n_heads: Heads.
        scrambled: Lay the depth output out as the authors do; False puts every token back in its place.

    Reference: PATNet, Knowledge-Based Systems 2024, doi:10.1016/j.knosys.2024.111597
    """

    def __init__(self, dim: int, n_heads: int, scrambled: bool = True) -> None:
        super().__init__()
        self.n_heads, self.scrambled = n_heads, scrambled
        self.norm_r, self.norm_d = nn.LayerNorm(dim), nn.LayerNorm(dim)
        # lists of one, for the names in the authors' files
        self.q_r, self.k_d, self.v_r, self.v_d = (nn.Sequential(nn.Linear(dim, dim)) for _ in range(4))
        self.proj_r, self.proj_d = nn.Linear(dim, dim), nn.Linear(dim, dim)

    def forward(
        self, colour: Float[Tensor, "batch token dim"], depth: Float[Tensor, "batch token dim"]
    ) -> tuple[Float[Tensor, "batch token dim"], Float[Tensor, "batch token dim"]]:
        """What colour and depth become.

        Args:
            colour: Tokens of the colour picture.
            depth: As many tokens of the depth picture.
        """
        colour, depth = self.norm_r(colour), self.norm_d(depth)
        to_colour, to_depth = both_ways(
            self._split(self.q_r(depth)),
            self._split(self.k_d(colour)),
            self._split(self.v_r(colour)),
            self._split(self.v_d(colour)),
        )
        for_depth = to_depth.transpose(2, 3) if self.scrambled else to_depth.transpose(1, 2)
        return self.proj_r(to_colour.transpose(1, 2).flatten(2)), self.proj_d(for_depth.reshape(depth.shape))

    def _split(self, x: Tensor) -> Tensor:
        return x.reshape(*x.shape[:2], self.n_heads, -1).transpose(1, 2)


def both_ways(
    q: Float[Tensor, "batch head query d"],
    k: Float[Tensor, "batch head key d"],
    by_key: Float[Tensor, "batch head key d"],
    by_query: Float[Tensor, "batch head query d"],
) -> tuple[Float[Tensor, "batch head query d"], Float[Tensor, "batch head key d"]]:
    """One matrix of logits, normalised over keys for one output and over queries for the other.

    Args:
        q: Queries.
        k: Keys.
        by_key: Values that belong to the keys.
        by_query: Values that belong to the queries.
    """
    logits = q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5
    return torch.softmax(logits, -1) @ by_key, torch.softmax(logits.transpose(-2, -1), -1) @ by_query
