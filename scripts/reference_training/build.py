"""The parts before training: tokenizer, processor, configurations."""

from random import Random
from typing import Any

from vlmtools.reference.language import Annotator, lesson
from vlmtools.reference.world import World

TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}USER: {% else %}ASSISTANT: {% endif %}"
    "{% for c in m['content'] %}{% if c['type'] == 'image' %}<image>\n{% else %}{{ c['text'] }}{% endif %}{% endfor %}"
    "{% if m['role'] == 'user' %} {% else %}{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)
IMAGE_TOKEN = "<image>"
VOCABULARY = 768
N_PATCHES = 64


def tokenizer(extra: tuple[str, ...] = ()) -> Any:
    """Byte-level BPE over what the world says: any text goes in, every word of the world is one token."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<pad>", "<s>", "</s>", IMAGE_TOKEN, *extra],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator(_sayings(), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="<pad>", bos_token="<s>", eos_token="</s>", model_max_length=1024
    )


def _sayings() -> Any:
    draw = Random("sayings")
    for scene in World().scenes(6000):
        for turn in lesson(scene, Annotator(), draw):
            yield f"USER: \n{turn.question} ASSISTANT: {turn.answer}"


def processor(words: Any) -> Any:
    """LLaVA's, for pictures of 96 pixels cut into 64 patches."""
    from transformers import CLIPImageProcessorPil, LlavaProcessor

    pictures = CLIPImageProcessorPil(
        size={"shortest_edge": 96}, crop_size={"height": 96, "width": 96},
        image_mean=[0.5, 0.5, 0.5], image_std=[0.25, 0.25, 0.25],
    )  # fmt: skip
    return LlavaProcessor(
        pictures, words, patch_size=12, vision_feature_select_strategy="default", num_additional_image_tokens=1,
        image_token=IMAGE_TOKEN, chat_template=TEMPLATE,
    )  # fmt: skip


def config(words: Any) -> Any:
    """CLIP tower of 6 layers × 192 over 64 patches, Llama of 6 layers × 192; features of the last layer but one."""
    from transformers import LlavaConfig

    return LlavaConfig(
        vision_config={
            "model_type": "clip_vision_model", "hidden_size": 192, "intermediate_size": 768, "num_hidden_layers": 6,
            "num_attention_heads": 6, "image_size": 96, "patch_size": 12, "projection_dim": 192,
        },
        text_config={
            "model_type": "llama", "vocab_size": len(words), "hidden_size": 192, "intermediate_size": 512,
            "num_hidden_layers": 6, "num_attention_heads": 6, "num_key_value_heads": 6,
            "max_position_embeddings": 1024, "tie_word_embeddings": True,
            "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
        },
        image_token_index=words.convert_tokens_to_ids(IMAGE_TOKEN),
        image_seq_length=N_PATCHES,
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
        tie_word_embeddings=True,
    )  # fmt: skip
