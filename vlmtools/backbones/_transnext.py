"""The body that TransNeXt and MoH-ViT share: stages of aggregated attention and gated convolution."""

from collections.abc import Sequence

from torch import Tensor, nn

from vlmtools.layers.aggregated_attention import AggregatedAttention, Geometry, geometry
from vlmtools.layers.drop_path import DropPath
from vlmtools.layers.length_scaled_attention import LengthScaledAttention


class Stage(nn.Module):
    """Embed, attend, normalise.

    Args:
        embed: Brings the map to this stage's size; gives channels last.
        blocks: The blocks.
        dim: Channels.
        side: Side of the map that positions are prepared for; other sizes are computed when met.
        trained: Side of the map in pre-training.
        sr_ratio: How much smaller the pooled map is; 1 for full attention.
        pool: Side of the pooled map; None follows `sr_ratio`.
        window: Side of the neighbourhood.
    """

    def __init__(
        self,
        embed: nn.Module,
        blocks: Sequence[nn.Module],
        dim: int,
        side: int,
        trained: int,
        sr_ratio: int,
        pool: int | None,
        window: int,
    ) -> None:
        super().__init__()
        self.patch_embed, self.block = embed, nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.trained, self.sr_ratio, self.fixed_pool, self.window = trained, sr_ratio, pool, window
        self.side = (side, side)
        where = self._geometry(side, side)
        self.pooled = where.pooled
        self.index: Tensor
        self.table: Tensor
        self.outside: Tensor
        self.register_buffer("index", where.pairs, persistent=False)
        self.register_buffer("table", where.table, persistent=False)
        self.register_buffer("outside", where.outside, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """The normalised map of the stage, channels first.

        Args:
            x: Map or images, channels first.
        """
        x = self.patch_embed(x)
        where = self._where(x)
        for block in self.block:
            x = block(x, where)
        out: Tensor = self.norm(x).permute(0, 3, 1, 2)
        return out.contiguous()

    def _where(self, x: Tensor) -> Geometry:
        height, width = x.shape[1:3]
        if (height, width) == self.side:
            return Geometry(self.index, self.table, self.outside, self.pooled)
        index, table, outside, pooled = self._geometry(height, width)
        return Geometry(index.to(x.device), table.to(x.device), outside.to(x.device), pooled)

    def _geometry(self, height: int, width: int) -> Geometry:
        if self.sr_ratio == 1:
            pooled = (height, width)
        elif self.fixed_pool is not None:
            pooled = (self.fixed_pool, self.fixed_pool)
        else:
            pooled = (max(height // self.sr_ratio, 1), max(width // self.sr_ratio, 1))
        return geometry((height, width), pooled, (self.trained, self.trained), self.window)


class Embed(nn.Module):
    """Overlapping convolution and LayerNorm; gives channels last.

    Args:
        dim_in: Channels that come in.
        dim: Channels that go out.
        kernel: Side of the kernel, odd.
        stride: Stride.
    """

    def __init__(self, dim_in: int, dim: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(dim_in, dim, kernel, stride, padding=kernel // 2)
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        """The embedded map, channels last.

        Args:
            x: Map or images, channels first.
        """
        out: Tensor = self.norm(self.proj(x).permute(0, 2, 3, 1))
        return out


class Block(nn.Module):
    """Attention and gated feed-forward part, both residual.

    Args:
        dim: Channels.
        n_heads: Heads.
        window: Side of the neighbourhood.
        hidden: Width of a plain feed-forward part; the gated one has two thirds of it.
        qkv_bias: Biases in the projections.
        full: Attend to every token instead of neighbours and pooled map.
        rate: Chance of skipping a branch in training.
        gates: Head weights; None weighs all heads alike.
    """

    def __init__(
        self,
        dim: int,
        n_heads: int,
        window: int,
        hidden: int,
        qkv_bias: bool,
        full: bool,
        rate: float,
        gates: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim, eps=1e-6), nn.LayerNorm(dim, eps=1e-6)
        self.full = full
        self.attn = (
            LengthScaledAttention(dim, n_heads, qkv_bias, gates)
            if full
            else AggregatedAttention(dim, n_heads, window, qkv_bias, gates)
        )
        self.mlp, self.drop_path = GatedConv(dim, hidden), DropPath(rate)

    def forward(self, x: Tensor, where: Geometry) -> Tensor:
        """The map after both branches, channels last.

        Args:
            x: Map, channels last.
            where: Its geometry.
        """
        normed = self.norm1(x)
        seen = self.attn(normed, where.pairs, where.table) if self.full else self.attn(normed, where)
        x = x + self.drop_path(seen)
        out: Tensor = x + self.drop_path(self.mlp(self.norm2(x)))
        return out


class GatedConv(nn.Module):
    """Feed-forward part in which a depthwise convolution gates the other half.

    Args:
        dim: Channels.
        hidden: Width of a plain feed-forward part of the same cost.

    Reference: arXiv:2311.17132
    """

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        width = int(2 * hidden / 3)
        self.fc1, self.fc2 = nn.Linear(dim, 2 * width), nn.Linear(width, dim)
        self.dwconv = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.act = nn.GELU()

    def forward(self, x: Tensor) -> Tensor:
        """The fed map, channels last.

        Args:
            x: Map, channels last.
        """
        gate, value = self.fc1(x).chunk(2, dim=-1)
        gate = self.dwconv(gate.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        out: Tensor = self.fc2(self.act(gate) * value)
        return out
