"""A LLaVA decoder written out in full: one sample, no cache, every row's attention in the open. No vlmtools inside."""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Change = Callable[[int, Tensor, Tensor], Tensor]
"""(layer, values, scaled scores before the mask) → values; the first axis is the head, the second the row."""


def _same(_layer: int, values: Tensor, _scores: Tensor) -> Tensor:
    return values


@functools.cache
def tiny_llava(n_kv_heads: int, seed: int = 0, n_layers: int = 8) -> Any:
    """Random, eight layers of eight heads, nine image tokens; weights wide enough that the picture matters."""
    from transformers import AutoModelForImageTextToText, LlavaConfig

    vision = {
        "model_type": "clip_vision_model", "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 4, "image_size": 12, "patch_size": 4, "num_channels": 3, "projection_dim": 32,
    }  # fmt: skip
    text = {
        "model_type": "llama", "vocab_size": 128, "hidden_size": 64, "intermediate_size": 64,
        "num_hidden_layers": n_layers, "num_attention_heads": 8, "num_key_value_heads": n_kv_heads, "head_dim": 8,
        "max_position_embeddings": 512, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
    }  # fmt: skip
    config = LlavaConfig(vision_config=vision, text_config=text, image_token_index=127, image_seq_length=9)
    torch.manual_seed(seed)  # the tower's class token, which has one axis, stays as it was drawn
    model = AutoModelForImageTextToText.from_config(config, attn_implementation="sdpa").eval()
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for part in model.parameters():
            if part.ndim > 1:
                part.copy_(torch.randn(part.shape, generator=draw) / part.shape[-1] ** 0.5)
    model.generation_config.eos_token_id = None
    model.generation_config.pad_token_id = 0
    return model


def question(seed: int = 0) -> dict[str, Tensor]:
    """Two tokens, the picture at positions 2 to 10, four more tokens."""
    ids = torch.tensor([[1, 9, *[127] * 9, 5, 6, 7, 8]])
    pixels = torch.randn(1, 3, 12, 12, generator=torch.Generator().manual_seed(seed))
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "pixel_values": pixels}


IMAGE = slice(2, 11)
LENGTH = 15


@torch.no_grad()
def embedded(model: Any, batch: dict[str, Tensor]) -> Tensor:
    """What the decoder is fed, picture included."""
    seen: list[Tensor] = []
    decoder = model.model.language_model
    handle = decoder.register_forward_pre_hook(
        lambda _m, _a, kwargs: seen.append(kwargs["inputs_embeds"]), with_kwargs=True
    )
    model(**batch)
    handle.remove()
    return seen[0]


@torch.no_grad()
def hidden_states(
    model: Any, x: Tensor, scores: Change = _same, weights: Change = _same, heads: Change = _same
) -> list[Tensor]:
    """The residual stream before the first layer and after every layer: (row, width) each."""
    from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

    decoder, n = model.model.language_model, x.shape[1]
    causal = torch.full((n, n), float("-inf")).triu(1)
    turn = decoder.rotary_emb(x, torch.arange(n)[None])
    stream = [x[0]]
    for i, layer in enumerate(decoder.layers):
        part, inner = layer.self_attn, layer.input_layernorm(x)
        query, key, value = (
            proj(inner).view(1, n, -1, 8).transpose(1, 2) for proj in (part.q_proj, part.k_proj, part.v_proj)
        )
        query, key = apply_rotary_pos_emb(query, key, *turn)
        groups = query.shape[1] // key.shape[1]
        key, value = (one.repeat_interleave(groups, 1)[0] for one in (key, value))
        raw = query[0] @ key.transpose(-1, -2) / 8**0.5
        used = weights(i, (scores(i, raw, raw) + causal).softmax(-1), raw)
        out = heads(i, used @ value, raw)
        x = x + part.o_proj(out.transpose(0, 1).reshape(1, n, -1))
        x = x + layer.mlp(layer.post_attention_layernorm(x))
        stream.append(x[0])
    return stream


@torch.no_grad()
def read_out(model: Any, stream: Tensor) -> Tensor:
    """Scores of the next token from one state of the residual stream."""
    found: Tensor = model.lm_head(model.model.language_model.norm(stream))
    return found


@torch.no_grad()
def continue_greedily(
    model: Any, batch: dict[str, Tensor], n_tokens: int, **changes: Change
) -> tuple[list[int], Tensor]:
    """New tokens and the scores they were chosen by, everything computed anew for each."""
    x, tokens, found = embedded(model, batch), [], []
    for _ in range(n_tokens):
        found.append(read_out(model, hidden_states(model, x, **changes)[-1][-1]))
        tokens.append(int(found[-1].argmax()))
        x = torch.cat([x, model.get_input_embeddings()(torch.tensor([[tokens[-1]]]))], 1)
    return tokens, torch.stack(found)


def patched(model: Any, batch: dict[str, Tensor], n_tokens: int) -> tuple[list[int], Tensor]:
    """The same from `generate` and its cache, with whatever is attached."""
    out = model.generate(
        **batch, max_new_tokens=n_tokens, do_sample=False, output_logits=True, return_dict_in_generate=True
    )
    return out.sequences[0, batch["input_ids"].shape[1] :].tolist(), torch.stack(out.logits)[:, 0]
