"""The attention modules of the authors' hosts, written plainly: where golden gates are put to the test."""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

State = dict[str, Tensor]
Gate = Callable[[Tensor], Tensor]


def linear(state: State, name: str, x: Tensor) -> Tensor:
    return F.linear(x, state[f"{name}.weight"], state.get(f"{name}.bias"))


def heads(x: Tensor, n: int) -> Tensor:
    return x.unflatten(-1, (n, -1)).transpose(1, 2)


def joined(x: Tensor, gates: Tensor) -> Tensor:
    return (x.transpose(1, 2) * gates[..., None]).flatten(2)


def _bias(state: State, coords: Tensor, index: Tensor, n: int) -> Tensor:
    table = linear(state, "cpb_fc2", F.relu(linear(state, "cpb_fc1", coords)))
    return table.T[:, index.flatten()].reshape(len(table.T), n, -1)


def cosine(state: State, x: Tensor, coords: Tensor, index: Tensor, n_heads: int, gates: Tensor) -> Tensor:
    """Length-scaled cosine attention with a query embedding, over all positions."""
    n = x.shape[1]
    q, k, v = linear(state, "qkv", x).unflatten(-1, (3 * n_heads, -1)).transpose(1, 2).chunk(3, 1)
    q = (F.normalize(q, dim=-1) + state["query_embedding"]) * F.softplus(state["temperature"]) * math.log(n)
    scores = q @ F.normalize(k, dim=-1).mT + _bias(state, coords, index, n)
    return linear(state, "proj", joined(scores.softmax(-1) @ v, gates))


def aggregated(
    state: State, x: Tensor, coords: Tensor, index: Tensor, grid: tuple[int, int], n_heads: int, window: int,
    ratio: int, gates: Tensor,
) -> Tensor:  # fmt: skip
    """Each position attends to its window and to a pooled map, in one softmax."""
    b, n, d = x.shape
    local = window * window
    pool = (grid[0] // ratio, grid[1] // ratio)
    inside = F.unfold(torch.ones(1, 1, *grid), window, padding=window // 2)[0].T
    scale = (inside.sum(-1, keepdim=True) + pool[0] * pool[1]).log()
    q = F.normalize(heads(linear(state, "q", x), n_heads), dim=-1)
    scaled = (q + state["query_embedding"]) * F.softplus(state["temperature"]) * scale
    k, v = linear(state, "kv", x).chunk(2, -1)
    k = F.normalize(k.unflatten(-1, (n_heads, -1)), dim=-1).flatten(2)
    maps = torch.cat([k, v], -1).mT.reshape(b, -1, *grid)
    windows = F.unfold(maps, window, padding=window // 2).reshape(b, 2 * n_heads, d // n_heads, local, n)
    k_local, v_local = windows.permute(0, 1, 4, 2, 3).chunk(2, 1)
    near = (scaled[..., None, :] @ k_local)[..., 0, :] + state["relative_pos_bias_local"][:, None]
    near = near.masked_fill(inside == 0, -math.inf)
    reduced = F.gelu(F.conv2d(x.mT.reshape(b, d, *grid), state["sr.weight"], state["sr.bias"]))
    pooled = F.adaptive_avg_pool2d(reduced, pool).flatten(2).mT
    pooled = F.layer_norm(pooled, (d,), state["norm.weight"], state["norm.bias"])
    k_pool, v_pool = linear(state, "kv", pooled).unflatten(-1, (2 * n_heads, -1)).transpose(1, 2).chunk(2, 1)
    far = scaled @ F.normalize(k_pool, dim=-1).mT + _bias(state, coords, index, n)
    near, far = torch.cat([near, far], -1).softmax(-1).split([local, far.shape[-1]], -1)
    near = near + q @ state["learnable_tokens"] + state["learnable_bias"]
    y = (near[..., None, :] @ v_local.mT)[..., 0, :] + far @ v_pool
    return linear(state, "proj", joined(y, gates))


def dit(state: State, x: Tensor, n_heads: int, gates: Tensor, qk_norm: bool) -> Tensor:
    """Plain attention, optionally with normalised queries and keys."""
    q, k, v = (heads(one, n_heads) for one in linear(state, "qkv", x).chunk(3, -1))
    if qk_norm:
        q, k = (
            F.layer_norm(one, one.shape[-1:], state.get(f"{name}.weight"), state.get(f"{name}.bias"))
            for one, name in ((q, "q_norm"), (k, "k_norm"))
        )
    weights = (q @ k.mT * q.shape[-1] ** -0.5).softmax(-1)
    return linear(state, "proj", joined(weights @ v, gates))


def rotated(x: Tensor, positions: Tensor, theta: float) -> Tensor:
    half = x.shape[-1] // 2
    angles = positions[:, None, :, None] / theta ** (torch.arange(half) / half)
    cos, sin = angles.cos().repeat(1, 1, 1, 2), angles.sin().repeat(1, 1, 1, 2)
    return x * cos + torch.cat([-x[..., half:], x[..., :half]], -1) * sin
