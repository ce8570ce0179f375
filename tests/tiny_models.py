"""Tiny random models, saved the way hub models lie there: config, safetensors, tokenizer, processor."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

LLAVA_TEMPLATE = (
    "{% for m in messages %}{{ m['role'] | upper }}: {% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}<image>\n{% else %}{{ c['text'] }}{% endif %}{% endfor %} {% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)
QWEN_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ c['text'] }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TEXT_TEMPLATE = (
    "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)
IDEFICS_TOKENS = ("<fake_token_around_image>", "<image>", "<end_of_utterance>", "<global-img>")
QWEN_TOKENS = (
    "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>",
)  # fmt: skip


def tokenizer(extra: tuple[str, ...] = (), **special: Any) -> Any:
    """Byte-level BPE trained on a few sentences: any text goes in, and words come out."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<pad>", "<s>", "</s>", *extra],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator(["yes no a dog and a cat sit on the red table near the window"] * 8, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="<pad>", bos_token="<s>", eos_token="</s>", **special
    )


def _text_config(vocab: int) -> dict[str, Any]:
    return {
        "model_type": "llama", "vocab_size": vocab, "hidden_size": 32, "intermediate_size": 64,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 1024,
        "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
    }  # fmt: skip


def _save(model: Any, processor: Any, folder: Path, spread: float = 3.0) -> Path:
    """Save, after widening the last layer: random logits are nearly flat, and answers would hardly differ."""
    import torch

    with torch.no_grad():
        model.get_output_embeddings().weight.mul_(spread)
        model.get_output_embeddings().weight[0].zero_()
    model.eval().save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def llava(folder: Path, seed: int = 0) -> Path:
    """LLaVA: CLIP tower, linear connector, Llama."""
    import torch
    from transformers import CLIPImageProcessorPil, LlavaConfig, LlavaForConditionalGeneration, LlavaProcessor

    torch.manual_seed(seed)
    words = tokenizer(("<image>",))
    config = LlavaConfig(
        vision_config={
            "model_type": "clip_vision_model", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3,
            "num_attention_heads": 4, "image_size": 28, "patch_size": 7, "projection_dim": 32,
        },
        text_config=_text_config(len(words)),
        image_token_index=words.convert_tokens_to_ids("<image>"),
        image_seq_length=16,
    )  # fmt: skip
    pictures = CLIPImageProcessorPil(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28})
    processor = LlavaProcessor(
        pictures, words, patch_size=7, vision_feature_select_strategy="default", num_additional_image_tokens=1,
        chat_template=LLAVA_TEMPLATE,
    )  # fmt: skip
    return _save(LlavaForConditionalGeneration(config), processor, folder)


def qwen2_5_vl(folder: Path, seed: int = 0) -> Path:
    """Qwen2.5-VL: a processor whose video half cannot be built without torchvision."""
    import torch
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, Qwen2VLImageProcessorPil

    torch.manual_seed(seed)
    words = tokenizer(QWEN_TOKENS)
    ids = dict(zip(QWEN_TOKENS, words.convert_tokens_to_ids(list(QWEN_TOKENS)), strict=True))
    text = _text_config(len(words)) | {
        "model_type": "qwen2_5_vl_text",
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]},
    }
    config = Qwen2_5_VLConfig(
        text_config=text,
        vision_config={
            "depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 4, "patch_size": 4,
            "window_size": 16, "out_hidden_size": 32, "fullatt_block_indexes": [1], "spatial_merge_size": 2,
            "temporal_patch_size": 2, "tokens_per_second": 2,
        },
        image_token_id=ids["<|image_pad|>"], video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"], vision_end_token_id=ids["<|vision_end|>"],
    )  # fmt: skip
    pictures = Qwen2VLImageProcessorPil(
        patch_size=4, merge_size=2, temporal_patch_size=2, size={"shortest_edge": 64, "longest_edge": 32 * 32}
    )
    return _save_parts(
        Qwen2_5_VLForConditionalGeneration(config),
        words,
        pictures,
        folder,
        "Qwen2_5_VLProcessor",
        QWEN_TEMPLATE,
    )


def idefics3(folder: Path, seed: int = 0, processor_class: str = "Idefics3Processor") -> Path:
    """Idefics3, or SmolVLM when its processor class is named: pictures cut into tiles."""
    import torch
    from transformers import (
        Idefics3Config,
        Idefics3ForConditionalGeneration,
        Idefics3ImageProcessorPil,
        SmolVLMConfig,
        SmolVLMForConditionalGeneration,
        SmolVLMImageProcessorPil,
    )

    torch.manual_seed(seed)
    smol = processor_class == "SmolVLMProcessor"
    config_type, model_type, pictures_type = (
        (SmolVLMConfig, SmolVLMForConditionalGeneration, SmolVLMImageProcessorPil)
        if smol
        else (Idefics3Config, Idefics3ForConditionalGeneration, Idefics3ImageProcessorPil)
    )
    tiles = tuple(f"<row_{row}_col_{col}>" for row in range(1, 7) for col in range(1, 7))
    words = tokenizer((*IDEFICS_TOKENS, *tiles))
    vision = {
        "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
        "image_size": 32, "patch_size": 8,
    }  # fmt: skip
    config = config_type(
        vision_config=vision, text_config=_text_config(len(words)), scale_factor=2, pad_token_id=0,
        image_token_id=words.convert_tokens_to_ids("<image>"),
    )  # fmt: skip
    pictures = pictures_type(size={"longest_edge": 64}, max_image_size={"longest_edge": 32})
    return _save_parts(
        model_type(config),
        words,
        pictures,
        folder,
        processor_class,
        LLAVA_TEMPLATE.replace("\\n", ""),
        image_seq_len=4,
    )


def _save_parts(
    model: Any, words: Any, pictures: Any, folder: Path, processor_class: str, template: str, **settings: Any
) -> Path:
    _save(model, words, folder)
    pictures.save_pretrained(folder)
    (folder / "processor_config.json").write_text(
        json.dumps({"processor_class": processor_class, **settings})
    )
    (folder / "chat_template.jinja").write_text(template)
    return folder


def causal_lm(folder: Path, seed: int = 0) -> Path:
    """A text-only Llama with a chat template, as judges use."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    words = tokenizer()
    words.chat_template = TEXT_TEMPLATE
    config = LlamaConfig(**{k: v for k, v in _text_config(len(words)).items() if k != "model_type"})
    return _save(LlamaForCausalLM(config), words, folder)


def picture(folder: Path, seed: int = 0, size: tuple[int, int] = (40, 30), name: str | None = None) -> Path:
    """A PNG of coarse random colours."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (3, 4, 3), dtype=np.uint8))
    path = folder / (name or f"picture{seed}.png")
    coarse.resize(size, Image.Resampling.NEAREST).save(path)
    return path
