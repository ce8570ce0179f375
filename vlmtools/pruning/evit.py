"""EViT: keep what the class token attends to, and melt the rest into one token."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from vlmtools.pruning._salience import salience, whole_layer
from vlmtools.pruning.base import Needs, Seen, Selection, TokenPruner, Tower


def attentive(attention: Float[Tensor, "batch image_token"], n_keep: int) -> Int64[Tensor, "batch kept"]:
    """Tokens by descending class attention; of equal ones the lower index first.

    Reference: arXiv:2202.07800.

    Args:
        attention: What each token receives from the class token, averaged over heads.
        n_keep: How many, from 1 to all.
    """
    return attention.argsort(dim=-1, descending=True, stable=True)[:, :n_keep]


def complement(kept: Int64[Tensor, "batch kept"], n_tokens: int) -> Int64[Tensor, "batch dropped"]:
    """The indices that are not kept, ascending.

    Args:
        kept: Different indices.
        n_tokens: How many there are.
    """
    free = torch.ones(len(kept), n_tokens, dtype=torch.bool, device=kept.device).scatter(1, kept, False)
    return free.nonzero()[:, 1].reshape(len(kept), n_tokens - kept.shape[1])


def reorganise(
    tokens: Float[Tensor, "batch image_token dim"],
    attention: Float[Tensor, "batch image_token"],
    n_keep: int,
    fuse: bool = True,
) -> Float[Tensor, "batch left dim"]:
    """Kept tokens by descending attention and, last, the sum of the others weighted by their attention.

    The weights are not renormalised, so the fused token is small where the class token looks away. In a vision tower
    this stands between the attention residual and the MLP of a block.

    Reference: arXiv:2202.07800.

    Args:
        tokens: Patch tokens, without the class token.
        attention: What each receives from the class token, averaged over heads.
        n_keep: How many, from 1 up; all changes nothing.
        fuse: Add the fused token.
    """
    if n_keep >= tokens.shape[1]:
        return tokens
    kept = attentive(attention, n_keep)
    chosen = tokens.gather(1, kept[..., None].expand(-1, -1, tokens.shape[2]))
    if not fuse:
        return chosen
    rest = complement(kept, tokens.shape[1])
    others = tokens.gather(1, rest[..., None].expand(-1, -1, tokens.shape[2]))
    fused = (others * attention.gather(1, rest)[..., None]).sum(1, keepdim=True)
    return torch.cat([chosen, fused], 1)


def n_left(n_tokens: int, keep_rate: float) -> int:
    """How many patch tokens a block keeps, the fused one not counted: rounded up.

    Reference: arXiv:2202.07800.

    Args:
        n_tokens: Patch tokens that come in, a fused one from an earlier block included.
        keep_rate: Above 0, up to 1; 1 is neutral, the paper uses 0.7.
    """
    return math.ceil(keep_rate * n_tokens)


def schedule(
    n_tokens: int, keep_rate: float, blocks: tuple[int, ...] = (3, 6, 9), depth: int = 12, fuse: bool = True
) -> list[int]:
    """Patch-side tokens behind each block of a tower that drops in some of them.

    Reference: arXiv:2202.07800.

    Args:
        n_tokens: Patches.
        keep_rate: Share kept in each of `blocks`, above 0, up to 1.
        blocks: Which drop, counted from 0.
        depth: Blocks of the tower.
        fuse: Each drop adds a fused token, which takes part in later ones.
    """
    left: list[int] = []
    for block in range(depth):
        if block in blocks:
            kept = n_left(n_tokens, keep_rate)
            n_tokens = kept + fuse if kept < n_tokens else n_tokens
        left.append(n_tokens)
    return left


@dataclass(frozen=True)
class EViT(TokenPruner):
    """The highest class attention, and one token made of all others. Towers without class token: attention received.

    The paper drops inside the vision tower, which would break the grid that most connectors need; here the rule is
    applied once, to the connector's output. The fused token takes the place of the most attended one it holds.

    Reference: arXiv:2202.07800.

    Args:
        fuse: Spend one token of the budget on the others; with a budget of one token nothing is fused.
        renormalise: Make the fused token a weighted mean. The paper leaves the weights as they are, which gives a token
            of small norm.
        layer: Layer of the tower, negative from the end; None is the one whose output goes to the connector.
    """

    fuse: bool = True
    renormalise: bool = False
    layer: int | None = None

    def needs(self, tower: Tower) -> Needs:
        """One row of attention, or one column mean."""
        layers = (whole_layer(tower, self.layer, None, self.name),)
        return Needs(class_attention=layers) if tower.class_token else Needs(received=layers)

    def select(self, seen: Seen, n_keep: int) -> Selection:
        """Top of the ranking, and the rest in one."""
        attention, fuse = salience(seen), self.fuse and n_keep > 1
        order = attentive(attention[None], n_keep)[0]
        kept = order[: n_keep - fuse].sort().values
        if not fuse:
            return Selection(kept, {"attended": kept})
        fused = reorganise(seen.features[None].float(), attention[None], n_keep - 1)[0, -1:]
        if self.renormalise:
            rest = complement(kept[None], seen.n_tokens)[0]
            fused = fused / attention[rest].sum().clamp_min(torch.finfo(torch.float32).tiny)
        kinds = {"attended": kept, "fused": order[-1:]}
        return Selection(kept, kinds, fused.to(seen.features.dtype), order[-1:])
