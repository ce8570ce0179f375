"""A transformer over a node and its sampled neighbours, read out by attention from the node.

Reference: LargeGT, arXiv:2312.11109, its local module; vijaydwivedi75/LargeGT, local_module.py.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

OFFICIAL_NAMES: tuple[tuple[str, str | None], ...] = (
    (r"att_embeddings_nope\.(.*)", r"embed.\1"),
    (r"attn_layer\.(.*)", r"score.\1"),
    (r"final_ln\.(.*)", r"norm.\1"),
    (r"out_proj\.(.*)", None),  # made by the authors' class, not used for its output
    (r"layers\.(\d+)\.self_attention_norm\.(.*)", r"layers.\1.norm.\2"),
    (r"layers\.(\d+)\.res_proj\.(.*)", r"layers.\1.skip.\2"),
    (r"layers\.(\d+)\.ffn_norm\.(.*)", r"layers.\1.ffn.0.\2"),
    (r"layers\.(\d+)\.self_attention\.linear_([qkv])\.(.*)", r"layers.\1.\2.\3"),
    (r"layers\.(\d+)\.self_attention\.output_layer\.(.*)", r"layers.\1.out.\2"),
)


class _Layer(nn.Module):
    """Pre-norm attention; its heads stand side by side in the output, which is as wide as all of them."""

    def __init__(self, dim: int, wide: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.norm, self.skip = nn.LayerNorm(dim), nn.Linear(dim, wide)
        self.q, self.k, self.v = (nn.Linear(dim, wide) for _ in range(3))
        self.out = nn.Linear(wide, wide)

    def forward(self, x: Tensor) -> Tensor:
        normal = self.norm(x)
        q, k, v = (
            part(normal).unflatten(-1, (self.n_heads, -1)).transpose(1, 2)
            for part in (self.q, self.k, self.v)
        )
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        y: Tensor = self.skip(x) + self.out(mixed)
        return y


class NeighbourReader(nn.Module):
    """One vector per node from the node (first token) and its neighbours.

    Args:
        d_in: Width of the tokens.
        dim: Hidden width, and that of each head; the result is `n_heads` times as wide.
        n_heads: Attention heads.
        n_layers: Layers; those after the first take the heads' joint width. The authors' module runs with more than
            one only where `n_heads` is 1.
        own_only: Read every third token after the node's first three neighbours, as the authors' `node_only_readout`
            does: a sampled node brings its own features and two kinds of context. False reads all.
    """

    def __init__(self, d_in: int, dim: int, n_heads: int, n_layers: int = 1, own_only: bool = False) -> None:
        super().__init__()
        wide, self.own_only = n_heads * dim, own_only
        self.embed = nn.Linear(d_in, dim)
        self.layers = nn.ModuleList(
            _Layer(dim if index == 0 else wide, wide, n_heads) for index in range(n_layers)
        )
        self.norm, self.score = nn.LayerNorm(wide), nn.Linear(2 * wide, 1)

    def forward(self, x: Float[Tensor, "batch token d_in"]) -> Float[Tensor, "batch wide"]:
        """Read every node.

        Args:
            x: The node first, its neighbours after it.
        """
        x = self.embed(x)
        for layer in self.layers:
            x = layer(x)
        x = self.norm(x)
        node, rest = x[:, :1], x[:, 4::3] if self.own_only else x[:, 1:]
        share = self.score(torch.cat([node.expand_as(rest), rest], dim=-1)).softmax(dim=1)
        read: Tensor = node[:, 0] + (share * rest).sum(dim=1)
        return read
