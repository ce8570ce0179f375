"""FIT's causal form: tokens see their group's past, and latents that sum up the groups before it.

Far-reaching interleaved transformer. The order of layers, the masks and the shift by one group follow the authors'
program (TensorFlow; it was read, not run). The embedding of words and their prediction are left to whoever calls.

Reference: arXiv:2305.12689; google-research/pix2seq, architectures/transformers.py.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from vlmtools.layers.interleaved import Reading


def hidden_chunks(n_chunks: int, size: int, device: torch.device | None = None) -> Bool[Tensor, "query key"]:
    """Who is hidden from whom when each sees its whole chunk and the chunks before it.

    Args:
        n_chunks: Chunks.
        size: Entries per chunk.
        device: Where the mask is made.
    """
    chunk = torch.arange(n_chunks, device=device).repeat_interleave(size)
    return chunk > chunk[:, None]


class _Layers(nn.Module):
    """Pre-norm attention under a mask and MLP, several times."""

    def __init__(self, n: int, dim: int, n_heads: int, ratio: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                dim, n_heads, int(dim * ratio), 0.0, "gelu", 1e-6, batch_first=True, norm_first=True
            )
            for _ in range(n)
        )

    def forward(self, x: Tensor, hidden: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x, hidden)
        return x


class CausalInterleaved(nn.Module):
    """Every position becomes a vector that knows itself, its group's past and a summary of all groups before.

    Args:
        n_max: Longest sequence, in tokens.
        dim: Width of the tokens.
        group: Tokens per group; shorter sequences need fewer groups.
        layers: Local and global layers of each stage, in turn; the authors write (2)3(2)3 for ((2, 3), (2, 3)).
            Global layers of the last stage, which nobody reads, are left out.
        n_latents: Latents per group.
        d_latent: Width of the latents.
        n_heads: Heads for tokens; divide `dim` and the smaller of both widths.
        latent_heads: Heads for latents; divide `d_latent`.
        ratio: Hidden width of the MLPs in widths.
    """

    def __init__(
        self,
        n_max: int,
        dim: int,
        group: int = 16,
        layers: Sequence[tuple[int, int]] = ((2, 2), (2, 0)),
        n_latents: int = 4,
        d_latent: int = 64,
        n_heads: int = 4,
        latent_heads: int = 4,
        ratio: float = 4.0,
    ) -> None:
        super().__init__()
        self.group, n_groups, width = group, -(-n_max // group), min(dim, d_latent)
        heads = min(n_heads, latent_heads)
        self.position = nn.Parameter(torch.randn(group, dim) * 0.02)
        self.latents = nn.Parameter(torch.randn(n_groups, n_latents, d_latent) * 0.02)
        self.local = nn.ModuleList(_Layers(n, dim, n_heads, ratio) for n, _ in layers)
        between = [n for (_, n), _ in pairwise(layers)]
        self.across = nn.ModuleList(_Layers(n, d_latent, latent_heads, ratio) for n in between)
        self.read = nn.ModuleList(Reading(d_latent, dim, width, heads) for _ in between)
        self.write = nn.ModuleList(Reading(dim, d_latent, width, heads) for _ in between)
        self.norm = nn.LayerNorm(dim, eps=1e-6)

    def forward(self, x: Float[Tensor, "batch seq dim"]) -> Float[Tensor, "batch seq dim"]:
        """All positions at once; no position knows what comes after it.

        Args:
            x: Embedded tokens.
        """
        n_batch, n_seq, dim = x.shape
        n_groups = -(-n_seq // self.group)
        # what fills the last group stands after every token, so no token sees it
        filled = F.pad(x, (0, 0, 0, n_groups * self.group - n_seq)).reshape(-1, self.group, dim)
        tokens, latents = filled + self.position, self.latents[:n_groups].repeat(n_batch, 1, 1)
        future = hidden_chunks(self.group, 1, x.device)
        tokens = self.local[0](tokens, future)
        for read, across, write, local in zip(
            self.read, self.across, self.write, self.local[1:], strict=True
        ):
            latents = self._summed_up(read(latents, tokens), across, n_batch)
            tokens = local(write(tokens, self._of_groups_before(latents, n_batch)), future)
        normed: Tensor = self.norm(tokens).reshape(n_batch, -1, dim)[:, :n_seq]
        return normed

    def _summed_up(self, latents: Tensor, across: nn.Module, n_batch: int) -> Tensor:
        n_groups, size = len(latents) // n_batch, latents.shape[1]
        together = latents.reshape(n_batch, n_groups * size, -1)
        known: Tensor = across(together, hidden_chunks(n_groups, size, latents.device))
        return known.reshape(latents.shape)

    def _of_groups_before(self, latents: Tensor, n_batch: int) -> Tensor:
        """Each group gets the latents of the group before; the first gets zeros."""
        rows = torch.unflatten(latents, 0, (n_batch, -1))
        return F.pad(rows[:, :-1], (0, 0, 0, 0, 1, 0)).flatten(0, 1)
