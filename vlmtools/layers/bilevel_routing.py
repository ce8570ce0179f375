"""Bi-level routing attention: choose a few regions of the map, then attend to the tokens in these only."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


class BiLevelRoutingAttention(nn.Module):
    """Regions that look alike by their means exchange tokens.

    Args:
        dim: Channels; must divide by `n_heads`.
        n_heads: Heads.
        n_regions: Regions along each side; the map is padded to a multiple.
        topk: Regions that each region attends to, at most `n_regions` squared.
        qk_dim: Channels of queries and keys; None for `dim`.
        side_kernel: Kernel of the depthwise convolution of the value; 0 leaves it out.
        soft_routing: Multiply keys and values by how well their region matched.
        param_routing: Compare regions after a linear layer; needs `diff_routing`.
        diff_routing: Let gradients reach the comparison of regions.
        kv_mode: How keys and values of a region are thinned: "identity", "ada_avgpool", "ada_maxpool", "avgpool",
            "maxpool".
        kv_per_win: Side of a thinned region for the "ada_" modes.
        kv_ratio: Thinning for the other modes.
        scale: Of the scores; None for one over the root of all channels of the queries, as published.

    Reference: arXiv:2303.08810
    """

    def __init__(
        self,
        dim: int,
        n_heads: int = 8,
        n_regions: int = 7,
        topk: int = 4,
        qk_dim: int | None = None,
        side_kernel: int = 3,
        soft_routing: bool = False,
        param_routing: bool = False,
        diff_routing: bool = False,
        kv_mode: str = "identity",
        kv_per_win: int = 4,
        kv_ratio: int = 4,
        scale: float | None = None,
    ) -> None:
        super().__init__()
        self.n_heads, self.n_regions, self.topk = n_heads, n_regions, topk
        self.qk_dim = qk_dim or dim
        self.scale = scale or self.qk_dim**-0.5
        self.soft_routing, self.diff_routing = soft_routing, diff_routing
        self.qkv, self.wo = nn.Linear(dim, 2 * self.qk_dim + dim), nn.Linear(dim, dim)
        self.lepe = (
            nn.Conv2d(dim, dim, side_kernel, padding=side_kernel // 2, groups=dim) if side_kernel else None
        )
        self.router = nn.Linear(self.qk_dim, self.qk_dim) if param_routing else None
        self.thin = _thinner(kv_mode, kv_per_win, kv_ratio)

    def forward(self, x: Float[Tensor, "batch height width dim"]) -> Float[Tensor, "batch height width dim"]:
        """The attended map.

        Args:
            x: Map, channels last.
        """
        height, width = x.shape[1:3]
        padded = F.pad(x, (0, 0, 0, -width % self.n_regions, 0, -height % self.n_regions))
        q, kv = self.qkv(padded).split([self.qk_dim, self.qk_dim + x.shape[-1]], dim=-1)
        regions_q, regions_kv = self._cut(q), self._cut(kv)
        match, chosen = self.route(regions_q.mean((2, 3)), regions_kv[..., : self.qk_dim].mean((2, 3)))
        seen = self._attend(regions_q, self._gathered(regions_kv, match, chosen))
        out = self._join(seen, padded.shape[1], padded.shape[2])
        if self.lepe is not None:
            local = self.lepe(kv[..., self.qk_dim :].permute(0, 3, 1, 2))
            out = out + local.permute(0, 2, 3, 1)
        final: Tensor = self.wo(out)
        return final[:, :height, :width]

    def route(
        self, queries: Float[Tensor, "batch region qk"], keys: Float[Tensor, "batch region qk"]
    ) -> tuple[Float[Tensor, "batch region topk"], Tensor]:
        """How well the best regions match each region, and which they are.

        Args:
            queries: Means of the queries per region.
            keys: Means of the keys per region.
        """
        if not self.diff_routing:
            queries, keys = queries.detach(), keys.detach()
        if self.router is not None:
            queries, keys = self.router(queries), self.router(keys)
        scores, chosen = torch.topk((queries * self.scale) @ keys.transpose(-2, -1), self.topk, dim=-1)
        return scores.softmax(-1), chosen

    def _cut(self, x: Tensor) -> Tensor:
        batch, height, width, dim = x.shape
        s = self.n_regions
        cut = x.reshape(batch, s, height // s, s, width // s, dim).transpose(2, 3)
        return cut.reshape(batch, s * s, height // s, width // s, dim)

    def _join(self, regions: Tensor, height: int, width: int) -> Tensor:
        s = self.n_regions
        cut = regions.reshape(regions.shape[0], s, s, height // s, width // s, -1).transpose(2, 3)
        return cut.reshape(regions.shape[0], height, width, -1)

    def _gathered(self, kv: Tensor, match: Tensor, chosen: Tensor) -> Tensor:
        """(batch, region, topk × token of a region, channel)."""
        batch, n_regions = kv.shape[:2]
        thin = self.thin(kv.flatten(0, 1).permute(0, 3, 1, 2)).flatten(2).transpose(1, 2)
        thin = thin.reshape(batch, n_regions, -1, kv.shape[-1])
        rows = torch.arange(batch, device=kv.device)[:, None, None]
        taken: Tensor = thin[rows, chosen]
        if self.soft_routing:
            taken = taken * match[..., None, None]
        return taken.flatten(2, 3)

    def _attend(self, queries: Tensor, taken: Tensor) -> Tensor:
        q = _heads(queries.flatten(2, 3), self.n_heads)
        k, v = (_heads(one, self.n_heads) for one in (taken[..., : self.qk_dim], taken[..., self.qk_dim :]))
        # fused kernels take four axes: every region is a batch entry of its own
        seen = F.scaled_dot_product_attention(
            q.flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1), scale=self.scale
        )
        return seen.reshape(*q.shape[:2], *seen.shape[1:]).transpose(2, 3).flatten(3)


def _heads(tokens: Tensor, n_heads: int) -> Tensor:
    """(batch, region, token, channel) → (batch, region, head, token, channel of a head)."""
    return tokens.reshape(*tokens.shape[:3], n_heads, -1).transpose(2, 3)


def _thinner(mode: str, per_region: int, ratio: int) -> nn.Module:
    kinds: dict[str, nn.Module] = {
        "identity": nn.Identity(),
        "ada_avgpool": nn.AdaptiveAvgPool2d(max(per_region, 1)),
        "ada_maxpool": nn.AdaptiveMaxPool2d(max(per_region, 1)),
        "avgpool": nn.AvgPool2d(ratio) if ratio > 1 else nn.Identity(),
        "maxpool": nn.MaxPool2d(ratio) if ratio > 1 else nn.Identity(),
    }
    if mode not in kinds:
        raise ValueError(f"kv_mode is {mode!r}. There is {', '.join(kinds)}. Choose one of them.")
    return kinds[mode]
