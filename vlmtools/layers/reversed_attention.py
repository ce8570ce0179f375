"""Reversed attention: each token sends what it holds to its parents, instead of gathering from others.

Reference: arXiv:2304.03282; the authors' repository holds no program. Only the operator is here: sizes of the networks
and the threshold of the -Lite form are not stated precisely enough to rebuild them.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn


def reversed_attention(
    q: Float[Tensor, "batch head seq channel"],
    k: Float[Tensor, "batch head seq channel"],
    v: Float[Tensor, "batch head seq channel"],
    selector: Float[Tensor, "batch head seq"],
    controller: Float[Tensor, "batch seq"],
) -> tuple[Float[Tensor, "batch head seq channel"], Float[Tensor, "batch seq seq"]]:
    """What every token receives, and how much each child (row) sends to each parent (column), summed over heads.

    Args:
        q: Queries of the children.
        k: Keys of the parents.
        v: What the children send.
        selector: How much each child uses each head; sums to 1 over heads.
        controller: How much each child sends at all, in [0, 1]; 1 sends everything, 0 makes a leaf that is silent.
    """
    sent = (q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5).softmax(-1)
    sent = sent * (selector * controller[:, None])[..., None]
    return sent.transpose(-2, -1) @ v, sent.sum(1)


class ReversedAttention(nn.Module):
    """Multi-head reversed attention with a selector of heads and a controller of messages.

    Args:
        dim: Channels.
        n_heads: Heads.
        qkv_bias: Biases in the projections of queries, keys and values.

    Reference: arXiv:2304.03282
    """

    def __init__(self, dim: int, n_heads: int, qkv_bias: bool = True) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.qkv, self.proj = nn.Linear(dim, 3 * dim, bias=qkv_bias), nn.Linear(dim, dim)
        self.selector, self.controller = nn.Linear(dim, n_heads), nn.Linear(dim, 1)

    def forward(
        self, x: Float[Tensor, "batch seq dim"]
    ) -> tuple[Float[Tensor, "batch seq dim"], Float[Tensor, "batch seq seq"]]:
        """The tokens after the exchange, and the soft dependencies, child → parent.

        Args:
            x: Tokens.
        """
        q, k, v = self.qkv(x).reshape(*x.shape[:2], 3, self.n_heads, -1).permute(2, 0, 3, 1, 4)
        selector = self.selector(x).softmax(-1).transpose(1, 2)
        controller = self.controller(x).sigmoid()[..., 0]
        received, dependencies = reversed_attention(q, k, v, selector, controller)
        return self.proj(received.transpose(1, 2).flatten(2)), dependencies


def keep_senders(
    x: Float[Tensor, "batch seq dim"], dependencies: Float[Tensor, "batch seq seq"], n_kept: int
) -> Float[Tensor, "batch kept dim"]:
    """The tokens that send most, in their order; the rest are leaves that may be dropped.

    Args:
        x: Tokens.
        dependencies: What `ReversedAttention` gave.
        n_kept: How many stay, from 1.
    """
    order = dependencies.sum(-1).argsort(dim=-1, descending=True, stable=True)
    best = order[:, :n_kept].sort(-1).values
    return torch.take_along_dim(x, best[..., None], dim=1)
