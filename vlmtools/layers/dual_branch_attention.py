"""Two branches that see one picture exchange what they saw: cross- and self-attention in three orders."""

from jaxtyping import Float
from torch import Tensor, nn

ORDERS = ("serial", "parallel", "invert_serial")


class DualBranchAttention(nn.Module):
    """Attention between the tokens of two encoders, and within each.

    Args:
        embed_dim: Channels of both.
        num_heads: Heads.
        order: "serial" looks across and then within, "invert_serial" the other way round, "parallel" does both at once.

    Raises:
        ValueError: There is no such order.

    Reference: arXiv:2502.03772
    """

    def __init__(self, embed_dim: int, num_heads: int = 8, order: str = "serial") -> None:
        super().__init__()
        if order not in ORDERS:
            raise ValueError(f"order is {order!r}. There is {', '.join(ORDERS)}. Choose one of them.")
        self.order = order
        self.conv_self_norm, self.swin_self_norm = nn.LayerNorm(embed_dim), nn.LayerNorm(embed_dim)
        self.conv_pre_norm, self.swin_pre_norm = nn.LayerNorm(embed_dim), nn.LayerNorm(embed_dim)
        self.self_attention_swin = nn.MultiheadAttention(embed_dim, num_heads, batch_first=True)
        self.cross_attention_swin = nn.MultiheadAttention(embed_dim, num_heads, batch_first=True)
        self.self_attention_conv = nn.MultiheadAttention(embed_dim, num_heads, batch_first=True)
        self.cross_attention_conv = nn.MultiheadAttention(embed_dim, num_heads, batch_first=True)

    def forward(
        self, swin: Float[Tensor, "batch token dim"], conv: Float[Tensor, "batch token dim"]
    ) -> Float[Tensor, "batch token dim"]:
        """Sum of both branches after the exchange.

        Args:
            swin: Tokens of the first encoder.
            conv: Tokens of the second encoder.
        """
        if self.order == "parallel":
            (a, b), (c, d) = self._across(swin, conv), self._within(swin, conv)
            return a + b + c + d + swin + conv
        steps = (self._across, self._within) if self.order == "serial" else (self._within, self._across)
        for step in steps:
            to_swin, to_conv = step(swin, conv)
            swin, conv = swin + to_swin, conv + to_conv
        return swin + conv

    def _across(self, swin: Tensor, conv: Tensor) -> tuple[Tensor, Tensor]:
        a, b = self.swin_pre_norm(swin), self.conv_pre_norm(conv)
        return _attend(self.cross_attention_swin, a, b), _attend(self.cross_attention_conv, b, a)

    def _within(self, swin: Tensor, conv: Tensor) -> tuple[Tensor, Tensor]:
        a, b = self.swin_self_norm(swin), self.conv_self_norm(conv)
        return _attend(self.self_attention_swin, a, a), _attend(self.self_attention_conv, b, b)


class QueryBlock(nn.Module):
    """Learned queries look at tokens, then at each other, then pass a feed-forward part.

    Args:
        embed_dim: Channels.
        num_heads: Heads.
        mlp_ratio: Widening of the feed-forward part.

    Reference: arXiv:2502.03772
    """

    def __init__(self, embed_dim: int, num_heads: int = 8, mlp_ratio: int = 4) -> None:
        super().__init__()
        self.cross_pre_norm_kv, self.cross_pre_norm_query = nn.LayerNorm(embed_dim), nn.LayerNorm(embed_dim)
        self.self_pre_norm, self.moe_norm = nn.LayerNorm(embed_dim), nn.LayerNorm(embed_dim)
        self.cross_att = nn.MultiheadAttention(embed_dim, num_heads, batch_first=True)
        self.self_att = nn.MultiheadAttention(embed_dim, num_heads, batch_first=True)
        self.fc1, self.act = nn.Linear(embed_dim, mlp_ratio * embed_dim), nn.GELU()
        self.fc2 = nn.Linear(mlp_ratio * embed_dim, embed_dim)

    def forward(
        self, queries: Float[Tensor, "batch query dim"], tokens: Float[Tensor, "batch token dim"]
    ) -> Float[Tensor, "batch query dim"]:
        """The queries after the block.

        Args:
            queries: Queries.
            tokens: What they look at.
        """
        normed = self.cross_pre_norm_query(queries)
        queries = queries + _attend(self.cross_att, normed, self.cross_pre_norm_kv(tokens))
        normed = self.self_pre_norm(queries)
        queries = queries + _attend(self.self_att, normed, normed)
        out: Tensor = queries + self.fc2(self.act(self.fc1(self.moe_norm(queries))))
        return out


def _attend(attention: nn.Module, queries: Tensor, tokens: Tensor) -> Tensor:
    out: Tensor = attention(queries, tokens, tokens, need_weights=False)[0]
    return out
