"""Tiny random models that watch videos, saved the way hub models lie there."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tiny_models

QWEN_TEMPLATE = tiny_models.QWEN_TEMPLATE.replace(
    "{% else %}", "{% elif c['type'] == 'video' %}<|vision_start|><|video_pad|><|vision_end|>{% else %}"
)
ONEVISION_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% for c in m['content'] %}"
    "{% if c['type'] == 'video' %}<video>\n{% elif c['type'] == 'image' %}<image>\n{% else %}{{ c['text'] }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SMALL = {"shortest_edge": 64, "longest_edge": 32 * 32}


def _qwen(folder: Path, family: str, size: dict[str, int]) -> Path:
    import torch
    import transformers

    torch.manual_seed(0)
    words = tiny_models.tokenizer(tiny_models.QWEN_TOKENS)
    ids = dict(
        zip(tiny_models.QWEN_TOKENS, words.convert_tokens_to_ids(list(tiny_models.QWEN_TOKENS)), strict=True)
    )
    name = {"qwen2_vl": "Qwen2VL", "qwen2_5_vl": "Qwen2_5_VL", "qwen3_vl": "Qwen3VL"}[family]
    vision = {
        "depth": 2, "hidden_size": 32, "num_heads": 4, "patch_size": 4, "spatial_merge_size": 2,
        "temporal_patch_size": 2,
    }  # fmt: skip
    vision |= {
        "qwen2_vl": {"embed_dim": 32, "mlp_ratio": 2},
        "qwen2_5_vl": {
            "intermediate_size": 64, "window_size": 16, "out_hidden_size": 32, "fullatt_block_indexes": [1],
            "tokens_per_second": 2,
        },
        "qwen3_vl": {
            "intermediate_size": 48, "out_hidden_size": 32, "num_position_embeddings": 16,
            "deepstack_visual_indexes": [0],
        },
    }[family]  # fmt: skip
    section = [2, 1, 1] if family == "qwen3_vl" else [1, 1, 2]
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": section}
    text = tiny_models._text_config(len(words)) | {"model_type": f"{family}_text", "rope_parameters": rope}
    config = getattr(transformers, f"{name}Config")(
        text_config=text | ({"head_dim": 8} if family == "qwen3_vl" else {}), vision_config=vision,
        image_token_id=ids["<|image_pad|>"], video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"], vision_end_token_id=ids["<|vision_end|>"],
    )  # fmt: skip
    pictures = transformers.Qwen2VLImageProcessorPil(
        patch_size=4, merge_size=2, temporal_patch_size=2, size=SMALL
    )
    model = getattr(transformers, f"{name}ForConditionalGeneration")(config)
    tiny_models._save_parts(model, words, pictures, folder, f"{name}Processor", QWEN_TEMPLATE)
    settings = {"patch_size": 4, "merge_size": 2, "temporal_patch_size": 2, "size": size}
    (folder / "video_preprocessor_config.json").write_text(json.dumps(settings))
    return folder


def onevision(folder: Path) -> Path:
    """LLaVA-OneVision: SigLIP tower, frames pooled two by two."""
    import torch
    import transformers

    torch.manual_seed(0)
    tokens = ("<|im_start|>", "<|im_end|>", "<image>", "<video>")
    words = tiny_models.tokenizer(tokens)
    text = tiny_models._text_config(len(words)) | {"model_type": "qwen2"}
    config = transformers.LlavaOnevisionConfig(
        vision_config={
            "model_type": "siglip_vision_model", "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
            "num_attention_heads": 4, "image_size": 16, "patch_size": 4, "vision_use_head": False,
        },
        text_config=text,
        image_token_index=words.convert_tokens_to_ids("<image>"),
        video_token_index=words.convert_tokens_to_ids("<video>"),
        image_grid_pinpoints=[[16, 16]],
    )  # fmt: skip
    pictures = transformers.LlavaOnevisionImageProcessorPil(
        size={"height": 16, "width": 16}, image_grid_pinpoints=[[16, 16]]
    )
    model = transformers.LlavaOnevisionForConditionalGeneration(config)
    more = {"num_image_tokens": 16, "vision_feature_select_strategy": "full"}
    tiny_models._save_parts(
        model, words, pictures, folder, "LlavaOnevisionProcessor", ONEVISION_TEMPLATE, **more
    )
    (folder / "video_preprocessor_config.json").write_text(json.dumps({"size": {"height": 16, "width": 16}}))
    return folder


BUILD: dict[str, Callable[[Path], Path]] = {
    "qwen2_vl": lambda folder: _qwen(folder, "qwen2_vl", SMALL),
    "qwen2_5_vl": lambda folder: _qwen(folder, "qwen2_5_vl", SMALL),
    "qwen3_vl": lambda folder: _qwen(folder, "qwen3_vl", {"shortest_edge": 64, "longest_edge": 8 * 32 * 32}),
    "llava_onevision": onevision,
}


def built(root: Path, name: str) -> Any:
    """The folder of one of them, written once."""
    return root / name if (root / name).exists() else BUILD[name](root / name)
