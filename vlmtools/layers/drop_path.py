"""Stochastic depth: skip a residual branch for some images while training."""

from jaxtyping import Float
from torch import Tensor, nn


class DropPath(nn.Module):
    """Set a residual branch to zero for a random part of the batch.

    Args:
        rate: Chance of being skipped, in [0, 1); 0 changes nothing.

    Reference: arXiv:1603.09382
    """

    def __init__(self, rate: float = 0.0) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch ..."]:
        """Kept images are scaled so that the mean stays.

        Args:
            x: Output of the branch.
        """
        if not self.training or self.rate == 0.0:
            return x
        kept = x.new_empty((x.shape[0],) + (1,) * (x.ndim - 1)).bernoulli_(1.0 - self.rate)
        return x * kept / (1.0 - self.rate)
