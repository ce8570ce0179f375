"""LLaVA's decoder written out by hand: full attention matrices, no cache, no hooks; what methods are compared with."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

Scores = Callable[[int, Tensor], Tensor]
"""Layer and (head, row, key) scores before the softmax → the same, changed."""
Heads = Callable[[int, Tensor], Tensor]
"""Layer and (row, head, width) outputs → the same, changed."""


def llava(n_layers: int = 8, n_heads: int = 8, n_kv_heads: int = 4, seed: int = 0) -> Any:
    """A random LLaVA whose picture matters."""
    from transformers import LlavaForConditionalGeneration

    from vlmtools.families.base import tiny_text
    from vlmtools.families.llava import Llava

    config = Llava().tiny_config()
    settings = {
        "num_hidden_layers": n_layers,
        "num_attention_heads": n_heads,
        "num_key_value_heads": n_kv_heads,
    }
    text = tiny_text("llama", **settings, hidden_size=64)
    config.text_config = type(config.text_config)(**{k: v for k, v in text.items() if k != "model_type"})
    torch.manual_seed(seed)
    model = LlavaForConditionalGeneration(config).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for part in model.parameters():
            if part.ndim > 1:
                part.copy_(torch.randn(part.shape, generator=generator) * part.shape[-1] ** -0.5)
    model.generation_config.eos_token_id = None
    model.generation_config.pad_token_id = 0
    return model


def prompt(model: Any, text: tuple[int, ...] = (5, 6, 7, 8, 9), seed: int = 0) -> dict[str, Tensor]:
    ids = torch.tensor([[1, 9, *[model.config.image_token_id] * 9, *text]])
    pixels = torch.randn(1, 3, 12, 12, generator=torch.Generator().manual_seed(seed))
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "pixel_values": pixels}


def embedded(model: Any, ids: Tensor, pixels: Tensor | None) -> Tensor:
    """(row, dim): tokens, with the projected patches in the places of the image tokens."""
    rows = model.get_input_embeddings()(ids[0]).clone()
    if pixels is not None:
        tower = model.model.vision_tower(pixels, output_hidden_states=True)
        patches = model.model.multi_modal_projector(
            tower.hidden_states[model.config.vision_feature_layer][:, 1:]
        )
        rows[ids[0] == model.config.image_token_id] = patches[0]
    return rows


@dataclass
class Pass:
    """One stream on its way through the layers."""

    hidden: Tensor
    heads: dict[int, Tensor] = field(default_factory=dict)
    """Layer → (row, head, width) before the output projection, unchanged."""


def attend(
    model: Any, stream: Pass, layer: int, scores: Scores | None = None, places: Tensor | None = None
) -> Tensor:
    """Head outputs (row, head, width) of one layer."""
    config, block = model.config.text_config, model.model.language_model.layers[layer]
    n, d, n_heads, n_kv = (
        len(stream.hidden),
        config.head_dim,
        config.num_attention_heads,
        config.num_key_value_heads,
    )
    x = _norm(stream.hidden, block.input_layernorm)
    places = torch.arange(n) if places is None else places
    q = _turn((x @ block.self_attn.q_proj.weight.T).view(n, n_heads, d), places)
    k = _turn((x @ block.self_attn.k_proj.weight.T).view(n, n_kv, d), places)
    v = (x @ block.self_attn.v_proj.weight.T).view(n, n_kv, d)
    k, v = k.repeat_interleave(n_heads // n_kv, 1), v.repeat_interleave(n_heads // n_kv, 1)
    w = torch.einsum("qhd,khd->hqk", q, k) / d**0.5
    w = w.masked_fill(torch.ones(n, n, dtype=torch.bool).triu(1), -1e30)
    if scores is not None:
        w = scores(layer, w)
    return torch.einsum("hqk,khd->qhd", w.softmax(-1), v)


def finish(model: Any, stream: Pass, layer: int, heads: Tensor) -> None:
    """The rest of the layer, from its head outputs."""
    block = model.model.language_model.layers[layer]
    hidden = stream.hidden + heads.flatten(1) @ block.self_attn.o_proj.weight.T
    x = _norm(hidden, block.post_attention_layernorm)
    gated = torch.nn.functional.silu(x @ block.mlp.gate_proj.weight.T) * (x @ block.mlp.up_proj.weight.T)
    stream.hidden = hidden + gated @ block.mlp.down_proj.weight.T


def predict(model: Any, stream: Pass) -> Tensor:
    """Logits of every row."""
    return _norm(stream.hidden, model.model.language_model.norm) @ model.lm_head.weight.T


@torch.no_grad()
def run(
    model: Any, ids: Tensor, pixels: Tensor | None, scores: Scores | None = None, heads: Heads | None = None
) -> Tensor:
    """Logits of every row of a whole pass."""
    stream = Pass(embedded(model, ids, pixels))
    for layer in range(model.config.text_config.num_hidden_layers):
        out = attend(model, stream, layer, scores)
        finish(model, stream, layer, out if heads is None else heads(layer, out))
    return predict(model, stream)


def _norm(x: Tensor, norm: Any) -> Tensor:
    return norm.weight * x * torch.rsqrt(x.square().mean(-1, keepdim=True) + norm.variance_epsilon)


def _turn(x: Tensor, places: Tensor) -> Tensor:
    d = x.shape[-1]
    angle = places[:, None, None] * 10000.0 ** (-torch.arange(0, d, 2) / d)
    cos, sin = torch.cat([angle.cos()] * 2, -1), torch.cat([angle.sin()] * 2, -1)
    first, second = x[..., : d // 2], x[..., d // 2 :]
    return x * cos + torch.cat([-second, first], -1) * sin
