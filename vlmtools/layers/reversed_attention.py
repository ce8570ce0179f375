"""Reversed attention: each token sends what it holds to its parents, instead of gathering from others.

Reference: arXiv:2304.03282; the authors' repository holds no program. The network is `backbones/dependencyvit.py`.
"""

import torch
from jaxtyping import Float, Int
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
        temperature: Of the softmax over heads, above 0; small ones make a token choose one head.
        hidden: Channels between the two layers of the controller; 0 makes it a single layer.

    Reference: arXiv:2304.03282
    """

    def __init__(
        self, dim: int, n_heads: int, qkv_bias: bool = True, temperature: float = 1.0, hidden: int = 0
    ) -> None:
        super().__init__()
        self.n_heads, self.temperature = n_heads, temperature
        self.qkv, self.proj = nn.Linear(dim, 3 * dim, bias=qkv_bias), nn.Linear(dim, dim)
        self.selector = nn.Linear(dim, n_heads)
        self.controller: nn.Module = nn.Linear(dim, 1)
        if hidden:
            self.controller = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, 1))

    def forward(
        self, x: Float[Tensor, "batch seq dim"]
    ) -> tuple[Float[Tensor, "batch seq dim"], Float[Tensor, "batch seq seq"]]:
        """The tokens after the exchange, and the soft dependencies, child → parent.

        Args:
            x: Tokens.
        """
        received, dependencies, _ = self.exchange(x)
        return received, dependencies

    def exchange(
        self, x: Float[Tensor, "batch seq dim"], open_so_far: Float[Tensor, "batch seq"] | None = None
    ) -> tuple[Float[Tensor, "batch seq dim"], Float[Tensor, "batch seq seq"], Float[Tensor, "batch seq"]]:
        """The tokens after the exchange, the soft dependencies, and how much each token sends.

        Args:
            x: Tokens.
            open_so_far: What earlier layers let through, in [0, 1]: a token that has fallen silent stays so. None when
                this layer decides alone.
        """
        q, k, v = self.qkv(x).reshape(*x.shape[:2], 3, self.n_heads, -1).permute(2, 0, 3, 1, 4)
        selector = (self.selector(x) / self.temperature).softmax(-1).transpose(1, 2)
        controller: Tensor = self.controller(x).sigmoid()[..., 0]
        if open_so_far is not None:
            controller = controller * open_so_far
        received, dependencies = reversed_attention(q, k, v, selector, controller)
        return self.proj(received.transpose(1, 2).flatten(2)), dependencies, controller


def senders(sent: Float[Tensor, "batch seq"], n_kept: int) -> Int[Tensor, "batch kept"]:
    """Which tokens send most, in their order; of equal ones the first.

    Args:
        sent: How much each token sends: the row sums of the dependencies, which are what the controller says.
        n_kept: How many stay, from 1.
    """
    return sent.argsort(dim=-1, descending=True, stable=True)[:, :n_kept].sort(-1).values


def keep_senders(
    x: Float[Tensor, "batch seq dim"], dependencies: Float[Tensor, "batch seq seq"], n_kept: int
) -> Float[Tensor, "batch kept dim"]:
    """The tokens that send most, in their order; the rest are leaves that may be dropped.

    Args:
        x: Tokens.
        dependencies: What `ReversedAttention` gave.
        n_kept: How many stay, from 1.
    """
    return torch.take_along_dim(x, senders(dependencies.sum(-1), n_kept)[..., None], dim=1)
