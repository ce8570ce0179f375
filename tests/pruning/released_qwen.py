"""HiPrune on Qwen2.5-VL as its released program does it, step by step and without anything of vlmtools.

Written from the description of the algorithm: whole attention maps of two tower layers, plain loops, embeddings put
together by hand, three-axis positions counted by hand, and every new token from a pass without cache.

Reference: arXiv:2508.00553; github.com/Danielement321/HiPrune at 6e83a12.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Outcome:
    """What the program makes of one prompt with one picture.

    Args:
        kept: Ascending indices of the picture's tokens that stay.
        budget: How many were meant to stay.
        positions: (3, tokens) of the short prompt.
        logits: (token, vocabulary) of the short prompt.
        tokens: Written greedily.
    """

    kept: list[int]
    budget: int
    positions: Tensor
    logits: Tensor
    tokens: list[int]


@torch.no_grad()
def released(
    model: Any, batch: dict[str, Tensor], retention: float, layers: tuple[int, int], n_new: int
) -> Outcome:
    """Prune, read and answer.

    Args:
        model: A Qwen2.5-VL.
        batch: One prompt with one picture.
        retention: Share of the picture's tokens.
        layers: Object and deep layer, counted from 0.
        n_new: Tokens to write.
    """
    ids, grid = batch["input_ids"][0].tolist(), batch["image_grid_thw"][0].tolist()
    merge = model.config.vision_config.spatial_merge_size
    height, width = grid[1] // merge, grid[2] // merge
    features, scores = _encode(model, batch, layers, (height, width))
    budget = round(height * width * retention)
    kept = _select(scores[0], scores[1], budget, width)
    image = [place for place, token in enumerate(ids) if token == model.config.image_token_id]
    dropped = set(image) - {image[index] for index in kept}
    stays = [place for place in range(len(ids)) if place not in dropped]
    positions = _positions(ids, model.config.image_token_id, height, width)
    states = model.get_input_embeddings()(batch["input_ids"])[0].clone()
    states[image] = features
    states, short = states[stays], positions[:, stays]
    logits, tokens, after = _read(model, states, short), list[int](), int(positions.max()) + 1
    first = logits
    for step in range(n_new):
        tokens.append(int(logits[-1].argmax()))
        states = torch.cat([states, model.get_input_embeddings()(torch.tensor(tokens[-1:]))])
        positions = torch.full((3, 1), after + step)
        short = torch.cat([short, positions], 1)
        logits = _read(model, states, short)
    return Outcome(kept, budget, short[:, : len(stays)], first, tokens)


def _read(model: Any, states: Tensor, positions: Tensor) -> Tensor:
    """One pass over everything so far, without cache and with every token visible to those behind it."""
    out = model.model.language_model(
        inputs_embeds=states[None],
        position_ids=positions[:, None],
        attention_mask=torch.ones(1, len(states), dtype=torch.long),
        use_cache=False,
    )
    found: Tensor = model.lm_head(out.last_hidden_state)[0]
    return found


def _encode(
    model: Any, batch: dict[str, Tensor], layers: tuple[int, int], shape: tuple[int, int]
) -> tuple[Tensor, list[list[float]]]:
    """Features in raster order, and for both layers one score per merged token in raster order."""
    tower, entered = model.model.visual, {}
    handles = [
        tower.blocks[layer].attn.register_forward_pre_hook(
            lambda _m, args, kwargs, layer=layer: entered.update(
                {layer: (args[0] if args else kwargs["hidden_states"], kwargs["position_embeddings"])}
            ),
            with_kwargs=True,
        )
        for layer in set(layers)
    ]
    try:
        features = tower(batch["pixel_values"], grid_thw=batch["image_grid_thw"]).pooler_output
    finally:
        for handle in handles:
            handle.remove()
    order = _window_order(shape, tower.config)
    scores = []
    for layer in layers:
        by_cell = _received(tower.blocks[layer].attn, *entered[layer]).reshape(len(order), -1).mean(1)
        raster = [0.0] * len(order)
        for place, cell in enumerate(order):
            raster[cell] = float(by_cell[place])
        scores.append(raster)
    return features, scores


def _received(attention: Any, states: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
    """Attention every patch receives from the whole picture: a sum over queries, a mean over heads."""
    n, heads = len(states), attention.num_heads
    query, key, _ = attention.qkv(states).reshape(n, 3, heads, -1).unbind(1)
    query, key = (_turned(one, *rotary).transpose(0, 1) for one in (query, key))
    whole = (query @ key.transpose(1, 2) / query.shape[-1] ** 0.5).softmax(-1)
    return whole.sum(1).mean(0)


def _turned(states: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    left, right = states.chunk(2, -1)
    return states * cos[:, None] + torch.cat([-right, left], -1) * sin[:, None]


def _window_order(shape: tuple[int, int], config: Any) -> list[int]:
    """Raster indices of merged tokens, window by window, as the tower reads them."""
    side = config.window_size // config.spatial_merge_size // config.patch_size
    height, width = shape
    return [
        row * width + column
        for top in range(0, height, side)
        for left in range(0, width, side)
        for row in range(top, min(top + side, height))
        for column in range(left, min(left + side, width))
    ]


def _select(middle: list[float], deep: list[float], budget: int, width: int, alpha: float = 0.1) -> list[int]:
    """Anchors, clamped neighbours, and the highest deep scores after 1 was taken from the chosen ones."""
    n = len(middle)
    anchors = sorted(range(n), key=lambda one: -middle[one])[: round(budget * alpha / 5)]
    chosen = {min(max(one + shift, 0), n - 1) for one in anchors for shift in (0, -1, 1, -width, width)}
    lowered = [score - 1 if index in chosen else score for index, score in enumerate(deep)]
    drawn = sorted(range(n), key=lambda one: -lowered[one])[: budget - len(chosen)]
    return sorted(chosen | set(drawn))


def _positions(ids: list[int], image_token: int, height: int, width: int) -> Tensor:
    """Text counts on in all three axes; the picture stands still in time and counts rows and columns."""
    rows, next_one, place = [], 0, 0
    while place < len(ids):
        if ids[place] != image_token:
            rows.append((next_one,) * 3)
            next_one, place = next_one + 1, place + 1
            continue
        rows += [
            (next_one, next_one + row, next_one + column) for row in range(height) for column in range(width)
        ]
        next_one, place = next_one + max(height, width), place + height * width
    return torch.tensor(rows).T
