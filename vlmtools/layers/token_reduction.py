"""Keep the patches that the class token looks at, and drop or fuse the others."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor


def keep_attended(
    tokens: Float[Tensor, "batch token dim"],
    attention: Float[Tensor, "batch head patch"],
    keep_rate: float,
    fuse: bool = True,
) -> tuple[Float[Tensor, "batch kept dim"], Int[Tensor, "batch patch_kept"] | None]:
    """The class token, the best patches in order of attention, and the fused rest.

    Args:
        tokens: Class token first, then patches.
        attention: Attention of the class token to the patches, per head.
        keep_rate: Share of patches to keep, rounded up, in (0, 1]; 1 changes nothing.
        fuse: Add one token that sums the others, weighed by their attention.

    Returns:
        The tokens, and which patches were kept; None when all were.

    Reference: arXiv:2202.07800
    """
    n_patches = tokens.shape[1] - 1
    n_kept = math.ceil(keep_rate * n_patches)
    if n_kept == n_patches:
        return tokens, None
    scores, patches = attention.mean(1), tokens[:, 1:]
    best = scores.topk(n_kept, dim=1).indices
    kept = patches.gather(1, best.unsqueeze(-1).expand(-1, -1, tokens.shape[-1]))
    if not fuse:
        return torch.cat([tokens[:, :1], kept], dim=1), best
    rest = scores.scatter(1, best, 0.0).unsqueeze(1) @ patches
    return torch.cat([tokens[:, :1], kept, rest], dim=1), best
