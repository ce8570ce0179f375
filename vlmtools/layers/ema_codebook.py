"""A codebook that follows the mean of what is assigned to each entry; no gradient reaches it.

Reference: LargeGT, arXiv:2312.11109, its global module; vijaydwivedi75/LargeGT, codebook.py.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

OFFICIAL_NAMES: tuple[tuple[str, str | None], ...] = (
    (r"_embedding", "entries"),
    (r"_embedding_output", "keys"),
    (r"_ema_w", "sums"),
    (r"_ema_cluster_size", "counts"),
    (r"bn\.(.*)", r"norm.\1"),
)


def smoothed(counts: Float[Tensor, " entry"], epsilon: float = 1e-5) -> Float[Tensor, " entry"]:
    """Counts with none at zero and the same total.

    Args:
        counts: How often each entry was chosen.
        epsilon: Added to each; 0 changes nothing.
    """
    total = counts.sum()
    return (counts + epsilon) / (total + len(counts) * epsilon) * total


class EmaCodebook(nn.Module):
    """Vector quantisation with moving averages; keys and values of `width` / 2 each in one vector.

    Args:
        n_entries: Entries of the codebook.
        width: Width of the vectors.
        decay: Share of the old average that stays in one step, in [0, 1]; 1 never moves.
    """

    def __init__(self, n_entries: int, width: int, decay: float = 0.99) -> None:
        super().__init__()
        self.decay = decay
        self.norm = nn.BatchNorm1d(width, affine=False)
        first = torch.randn(n_entries, width)
        self.register_buffer("entries", first)
        self.register_buffer("keys", first.clone())
        self.register_buffer("sums", first.clone())
        self.register_buffer("counts", torch.zeros(n_entries))

    @torch.no_grad()
    def forward(self, x: Float[Tensor, "item width"]) -> Int[Tensor, "item 1"]:
        """The nearest entry of each vector; in training the entries move.

        Args:
            x: Vectors.
        """
        normal = self.norm(x)
        distance = torch.cdist(
            normal, self.get_buffer("entries"), compute_mode="donot_use_mm_for_euclid_dist"
        )
        nearest = distance.argmin(dim=1, keepdim=True)
        if self.training:
            self._move(normal, F.one_hot(nearest[:, 0], len(distance[0])).to(x))
        return nearest

    def _move(self, normal: Tensor, chosen: Tensor) -> None:
        counts, sums = self.get_buffer("counts"), self.get_buffer("sums")
        counts.copy_(smoothed(counts.lerp(chosen.sum(dim=0), 1 - self.decay)))
        sums.lerp_(chosen.T @ normal, 1 - self.decay)
        entries = self.get_buffer("entries").copy_(sums / counts[:, None])
        mean, variance = self.norm.running_mean, self.norm.running_var
        assert mean is not None and variance is not None  # noqa: S101 - always tracked here
        self.get_buffer("keys").copy_(entries * (variance + 1e-5).sqrt() + mean)
