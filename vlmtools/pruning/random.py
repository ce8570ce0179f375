"""random: keep tokens at random, the baseline that any method must beat."""

from dataclasses import dataclass

import torch

from vlmtools.pruning.base import Seen, Selection, TokenPruner


@dataclass(frozen=True)
class RandomTokens(TokenPruner):
    """Tokens drawn without looking; the same for the same seed, number of tokens and number of the view.

    Args:
        seed: Decides the draw, from 0.
    """

    seed: int = 0

    def select(self, seen: Seen, n_keep: int) -> Selection:
        """Draw without putting back."""
        generator = torch.Generator().manual_seed(self.seed * 100_003 + seen.index)
        drawn = torch.randperm(seen.n_tokens, generator=generator)[:n_keep]
        return Selection(drawn.sort().values.to(seen.features.device))
