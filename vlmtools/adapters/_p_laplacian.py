"""p-Laplacian message passing between the nodes of an attention map, and the layer built on it.

Reference: arXiv:2312.10613, eq. 6 to 9; the released code differs, see `adapters/p_adapter.py`.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

TINY = 1e-8

Map = Float[Tensor, "batch head row column"]
Rows = Float[Tensor, "batch head row dim"]
Columns = Float[Tensor, "batch head column dim"]


def edge_weights(
    a: Map, rows: Rows, columns: Columns, p: Tensor | float, same: bool, loops: bool = True
) -> Map:
    """Attention, reweighed by how much the two nodes differ; at p = 2 attention itself. The released code's form.

    Args:
        a: Attention probabilities.
        rows: Nodes that receive; the last ones of `columns` where `same`.
        columns: Nodes that send.
        p: Exponent, from 1; below 2 lets differences through.
        same: Rows are columns too, so that there is a diagonal.
        loops: Keep the edge of a node to itself; only where `same`.
    """
    step = (a + TINY).sqrt()[..., None] * (columns[..., None, :, :] - rows[..., None, :]) + TINY
    norm = step.norm(dim=-1)
    if not same:
        plain: Tensor = a * norm ** (p - 2)
        return plain
    diagonal = own(a)
    # the norm is a constant there; autograd would send large opposite terms through it
    norm = torch.where(diagonal, TINY * math.sqrt(rows.shape[-1]), norm)
    weights = a * norm ** (p - 2)
    return weights if loops else weights.masked_fill(diagonal, 0.0)


def own(a: Map) -> Tensor:
    """Where a row meets itself; with fewer rows than columns the rows are the last ones.

    Args:
        a: Attention probabilities.
    """
    n_rows, n_columns = a.shape[-2:]
    position = torch.arange(n_rows, device=a.device)[:, None] + n_columns - n_rows
    return position == torch.arange(n_columns, device=a.device)


def smooth(
    weights: Map, rows: Rows, columns: Columns, p: Tensor | float, mu: Tensor | float, keep: bool = True
) -> Rows:
    """One step of message passing.

    Args:
        weights: Of the edges.
        rows: Nodes that receive.
        columns: Nodes that send.
        p: Exponent.
        mu: How much of itself a node keeps, above 0.
        keep: Add what it keeps; the released code leaves it out in cross-attention.
    """
    ratio = 2 * mu / p
    alpha = 1 / (weights.sum(-1, keepdim=True) + ratio)
    message = (alpha * weights) @ columns
    kept: Tensor = alpha * ratio * rows
    return message + kept if keep else message


def smooth_paper(a: Map, rows: Rows, columns: Columns, p: Tensor | float, mu: Tensor | float) -> Rows:
    """One step as the paper writes it: a bipartite graph, normalised by the degrees of both ends; eq. 6 to 8.

    Args:
        a: Attention probabilities.
        rows: Query nodes.
        columns: Value nodes.
        p: Exponent.
        mu: How much of itself a node keeps.
    """
    d_row, d_column = a.sum(-1, keepdim=True) + TINY, a.sum(-2, keepdim=True) + TINY
    near, far = ((a / d + TINY).sqrt()[..., None] for d in (d_row, d_column))
    weights = a * (near * rows[..., None, :] - far * columns[..., None, :, :] + TINY).norm(dim=-1) ** (p - 2)
    ratio = 2 * mu / p
    alpha = 1 / ((weights / d_row).sum(-1, keepdim=True) + ratio)
    message: Tensor = alpha * (weights / (d_row * d_column).sqrt()) @ columns
    kept: Tensor = alpha * ratio * rows
    return message + kept


class PLayer(nn.Module):
    """Gated bottleneck on smoothed nodes, added to the output of an attention block.

    Args:
        dim: Width of the tokens.
        n_heads: Query heads.
        reduction: How much narrower the bottleneck is.
        p: Exponent at the start.
        mu: Scale of what a node keeps.
        learn_p: Train the exponent.
        from_zero: Begin without effect.
    """

    def __init__(
        self, dim: int, n_heads: int, reduction: int, p: float, mu: float, learn_p: bool, from_zero: bool
    ) -> None:
        super().__init__()
        self.n_heads, self.mu, self.fixed_p = n_heads, mu, p
        self.down, self.gate = nn.Linear(dim, dim // reduction), nn.Linear(dim, dim // reduction)
        self.up = nn.Linear(dim // reduction, dim)
        self.p = nn.Parameter(torch.full((1,), p)) if learn_p else None
        self.m = nn.Parameter(torch.zeros(1))
        if from_zero:
            nn.init.zeros_(self.up.weight)
            nn.init.zeros_(self.up.bias)

    def nodes(self, x: Tensor) -> Tensor:
        """(batch, node, dim) after the attention's output projection → (batch, head, node, narrow), in float32.

        Args:
            x: The nodes.
        """
        narrow: Tensor = self.down(x)
        return torch.unflatten(narrow.float(), -1, (self.n_heads, -1)).transpose(1, 2)

    def forward(
        self,
        h: Tensor,
        a: Tensor,
        rows: Tensor,
        columns: Tensor,
        graph: str,
        loops: bool = True,
        keep: bool = True,
    ) -> Tensor:
        """What is added to the output of the attention block.

        Args:
            h: That output, (batch, row, dim).
            a: Attention probabilities.
            rows: Nodes that receive, after the output projection.
            columns: Nodes that send, after the output projection.
            graph: official (rows are columns), bipartite, or paper.
            loops: See `edge_weights`.
            keep: See `smooth`.
        """
        p: Tensor | float = self.fixed_p if self.p is None else self.p.float()
        mu = 2 * self.mu + self.mu * self.m.float().tanh()
        a, x, y = a.float(), self.nodes(rows), self.nodes(columns)
        if graph == "paper":
            u = smooth_paper(a, x, y, p, mu)
        else:
            u = smooth(edge_weights(a, x, y, p, graph == "official", loops), x, y, p, mu, keep)
        merged = u.transpose(1, 2).flatten(2).to(h.dtype)
        added: Tensor = self.up(F.gelu(self.gate(h)) * merged)
        return added


class Bottleneck(nn.Module):
    """Down, ReLU, up: the adapter beside a feed-forward block.

    Args:
        dim: Width of the tokens.
        reduction: How much narrower the bottleneck is.
        from_zero: Begin without effect.
    """

    def __init__(self, dim: int, reduction: int, from_zero: bool) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(dim, dim // reduction), nn.Linear(dim // reduction, dim)
        if from_zero:
            nn.init.zeros_(self.up.weight)
            nn.init.zeros_(self.up.bias)

    def forward(self, x: Tensor) -> Tensor:
        """What is added to the output of the feed-forward block.

        Args:
            x: Its input.
        """
        added: Tensor = self.up(F.relu(self.down(x)))
        return added
