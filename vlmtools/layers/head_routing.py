"""Mixture of heads: each token decides how much every attention head counts for it."""

import torch
from jaxtyping import Float
from torch import Tensor, nn


class HeadRouting(nn.Module):
    """A weight per token and head: some heads are always on, of the others the best few.

    Args:
        dim: Channels of the tokens.
        n_heads: Heads in all.
        n_shared: Heads that are always on; they come first.
        n_routed: How many of the other heads each token takes; 0 uses the shared heads alone, which must then be all.

    Reference: arXiv:2410.11842
    """

    load_balance: Tensor | None

    def __init__(self, dim: int, n_heads: int, n_shared: int, n_routed: int) -> None:
        super().__init__()
        self.n_shared, self.n_routed = n_shared, n_routed
        self.load_balance = None
        routed, several = n_routed > 0, n_shared > 1
        self.wg = nn.Linear(dim, n_heads - n_shared, bias=False) if routed else None
        self.wg_0 = nn.Linear(dim, 2, bias=False) if routed and n_shared > 0 else None
        self.wg_1 = nn.Linear(dim, n_shared, bias=False) if several else None

    def forward(self, tokens: Float[Tensor, "batch token dim"]) -> Float[Tensor, "batch token head"]:
        """The weights; in training `load_balance` holds the term to add to the loss.

        Args:
            tokens: What the attention sees.
        """
        shared = self._shared(tokens)
        if self.wg is None:
            return shared
        routed = self._routed(self.wg(tokens).softmax(-1))
        if self.wg_0 is None:
            return routed
        kinds = 2 * self.wg_0(tokens).softmax(-1)
        return torch.cat([kinds[..., :1] * shared, kinds[..., 1:] * routed], dim=-1)

    def _shared(self, tokens: Tensor) -> Tensor:
        if self.wg_1 is None:
            return tokens.new_full((*tokens.shape[:2], self.n_shared), float(self.n_shared))
        weights: Tensor = self.n_shared * self.wg_1(tokens).softmax(-1)
        return weights

    def _routed(self, gates: Tensor) -> Tensor:
        best = gates.topk(self.n_routed, dim=-1).indices
        chosen = torch.zeros_like(gates).scatter(-1, best, 1.0)
        if self.training:
            n_heads = gates.shape[-1]
            self.load_balance = (gates.mean((0, 1)) * chosen.mean((0, 1))).mean() * n_heads**2
        kept = gates * chosen
        return self.n_routed * kept / kept.sum(-1, keepdim=True).clamp_min(torch.finfo(kept.dtype).eps)
