"""Parts of a plain vision transformer."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vlmtools.backbones.base import Backbone
from vlmtools.layers.drop_path import DropPath


class Mlp(nn.Module):
    """Two linear layers.

    Args:
        dim: Channels.
        hidden: Channels inside.
    """

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1, self.act, self.fc2 = nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """The fed tokens.

        Args:
            x: Tokens.
        """
        out: Tensor = self.fc2(self.act(self.fc1(x)))
        return out


class Attention(nn.Module):
    """Multi-head self-attention.

    Args:
        dim: Channels.
        n_heads: Heads.
        qkv_bias: Biases in the projections of queries, keys and values.
    """

    def __init__(self, dim: int, n_heads: int, qkv_bias: bool = True) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.qkv, self.proj = nn.Linear(dim, 3 * dim, bias=qkv_bias), nn.Linear(dim, dim)

    def split(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values: (batch, head, token, channel of a head).

        Args:
            x: Tokens.
        """
        q, k, v = self.qkv(x).reshape(*x.shape[:2], 3, self.n_heads, -1).permute(2, 0, 3, 1, 4)
        return q, k, v

    def forward(self, x: Tensor) -> Tensor:
        """The attended tokens.

        Args:
            x: Tokens.
        """
        seen = F.scaled_dot_product_attention(*self.split(x))
        out: Tensor = self.proj(seen.transpose(1, 2).flatten(2))
        return out


class Block(nn.Module):
    """Attention and feed-forward part, both residual, normalised before.

    Args:
        dim: Channels.
        n_heads: Heads.
        mlp_ratio: Widening of the feed-forward part.
        qkv_bias: Biases in the projections of queries, keys and values.
        rate: Chance of skipping a branch in training.
        eps: Of the norms.
    """

    def __init__(
        self,
        dim: int,
        n_heads: int,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        rate: float = 0.0,
        eps: float = 1e-6,
    ) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim, eps=eps), nn.LayerNorm(dim, eps=eps)
        self.attn, self.mlp = Attention(dim, n_heads, qkv_bias), Mlp(dim, int(dim * mlp_ratio))
        self.drop_path = DropPath(rate)

    def forward(self, x: Tensor) -> Tensor:
        """The tokens after both branches.

        Args:
            x: Tokens.
        """
        x = x + self.drop_path(self.attn(self.norm1(x)))
        out: Tensor = x + self.drop_path(self.mlp(self.norm2(x)))
        return out


class PatchEmbed(nn.Module):
    """Cut the image into patches and project each.

    Args:
        in_chans: Channels of the images.
        dim: Channels of a token.
        patch: Side of a patch.
    """

    def __init__(self, in_chans: int, dim: int, patch: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_chans, dim, patch, patch)

    def forward(self, x: Tensor) -> Tensor:
        """Map of patches, channels first.

        Args:
            x: Images.
        """
        out: Tensor = self.proj(x)
        return out


def with_class_token(patches: Tensor, cls_token: Tensor, positions: Tensor) -> Tensor:
    """(batch, 1 + height * width, dim): the class token and the patches of a map, with their positions.

    Args:
        patches: Map of patches, channels first.
        cls_token: (1, 1, dim).
        positions: (1, 1 + places, dim), of the class token first; resized to the map.
    """
    size = (int(patches.shape[-2]), int(patches.shape[-1]))
    tokens = torch.cat([cls_token.expand(len(patches), -1, -1), patches.flatten(2).transpose(1, 2)], dim=1)
    return tokens + resized_positions(positions, size)


class TokenBackbone(Backbone):
    """A backbone whose features are tokens, class token first.

    Args:
        dim: Channels.
        depth: Blocks.
        patch: Side of a patch.
        num_classes: Outputs; 0 for none.
    """

    def __init__(self, dim: int, depth: int, patch: int, num_classes: int) -> None:
        super().__init__([dim] * depth, [patch] * depth, num_classes)
        for index, info in enumerate(self.feature_info):
            info["module"] = f"blocks.{index}"

    def norm_map(self, x: Tensor) -> Tensor:
        """The last map, normalised.

        Args:
            x: Map.
        """
        out: Tensor = self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return out

    def features_of(self, x: Tensor, maps: list[Tensor]) -> Tensor:
        """What `forward_features` gives; tokens are not maps, so they are computed again.

        Args:
            x: Images.
            maps: What `forward_stages` gave.
        """
        return self.forward_features(x)

    def pool(self, x: Tensor) -> Tensor:
        """The class token.

        Args:
            x: What `forward_features` gave.
        """
        return x[:, 0]


def resized_positions(table: Tensor, size: tuple[int, int], n_prefix: int = 1) -> Tensor:
    """Position embeddings for another number of patches, bicubic; the prefix stays.

    Args:
        table: (1, prefix + side x side, channel) for a square map.
        size: Height and width of the map of patches.
        n_prefix: Tokens in front that are no patches.
    """
    prefix, patches = table[:, :n_prefix], table[:, n_prefix:]
    side = round(patches.shape[1] ** 0.5)
    if size == (side, side):
        return table
    square = patches.transpose(1, 2).reshape(1, -1, side, side)
    fitted = F.interpolate(square, size=size, mode="bicubic", align_corners=False)
    return torch.cat([prefix, fitted.flatten(2).transpose(1, 2)], dim=1)


def to_map(tokens: Tensor, size: tuple[int, int]) -> Tensor:
    """Patch tokens as a map, channels first.

    Args:
        tokens: Without prefix.
        size: Height and width.
    """
    return tokens.transpose(1, 2).reshape(tokens.shape[0], -1, *size)
