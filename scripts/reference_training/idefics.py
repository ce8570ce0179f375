"""The same model in the layout of Idefics3 and SmolVLM: no class token, four patches to a visual token."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from reference_training.batches import Batch
from reference_training.build import TEMPLATE
from reference_training.models import Answering

FAKE, GLOBAL, END = "<fake_token_around_image>", "<global-img>", "<end_of_utterance>"
SCALE, PATCHES_PER_TOKEN = 2, 4


class IdeficsLearner(Answering):
    """The last layer's features, four neighbours side by side in one visual token."""

    before, after, n_image_tokens = f"<s>USER: {FAKE}{GLOBAL}", f"{FAKE}\n", 16

    def decoder(self) -> Any:
        """The language model."""
        return self.model.model.text_model

    def looking(self, batch: Batch) -> tuple[Any, Any, dict[str, Any]]:
        """A visual token shows whatever its largest labelled patch shows."""
        inner = self.model.model
        features = inner.vision_model(batch.pixel_values).last_hidden_state
        side = batch.patches.view(-1, 4, SCALE, 4, SCALE).transpose(2, 3).flatten(3).flatten(1, 2)
        return inner.connector(features), side.max(-1).values, {}

    def save_processor(self, folder: Path) -> None:
        """Pictures are shown whole, never cut into tiles: they are small."""
        from transformers import Idefics3ImageProcessorPil

        self.words.save_pretrained(folder)
        Idefics3ImageProcessorPil(
            do_image_splitting=False, size={"longest_edge": 96}, max_image_size={"longest_edge": 96},
            image_mean=[0.5, 0.5, 0.5], image_std=[0.25, 0.25, 0.25],
        ).save_pretrained(folder)  # fmt: skip
        named = {"processor_class": "Idefics3Processor", "image_seq_len": self.n_image_tokens}
        (folder / "processor_config.json").write_text(json.dumps(named))
        (folder / "chat_template.jinja").write_text(TEMPLATE)


def rebuilt(llava: Any, words: Any) -> tuple[Any, Any]:
    """Language model and vision layers of a LLaVA in the other layout; only the connector begins anew.

    Returns:
        The model and its tokenizer, which knows three more tokens.
    """
    from transformers import Idefics3Config, Idefics3ForConditionalGeneration

    words.add_special_tokens({"additional_special_tokens": [FAKE, GLOBAL, END]})
    llava.resize_token_embeddings(len(words))
    vision, text = llava.config.vision_config, llava.config.text_config
    n_layers = vision.num_hidden_layers - 1  # LLaVA reads the last layer but one
    config = Idefics3Config(
        vision_config={
            "hidden_size": vision.hidden_size, "intermediate_size": vision.intermediate_size,
            "num_hidden_layers": n_layers, "num_attention_heads": vision.num_attention_heads,
            "image_size": vision.image_size, "patch_size": vision.patch_size, "hidden_act": vision.hidden_act,
        },
        text_config=text.to_dict() | {"vocab_size": len(words)},
        scale_factor=SCALE, pad_token_id=0, image_token_id=llava.config.image_token_id, tie_word_embeddings=True,
    )  # fmt: skip
    model = Idefics3ForConditionalGeneration(config)
    model.model.text_model.load_state_dict(llava.model.language_model.state_dict())
    _carry_tower(llava.model.vision_tower, model.model.vision_model, n_layers)
    model.tie_weights()
    return model, words


def _carry_tower(source: Any, target: Any, n_layers: int) -> None:
    clip = getattr(source, "vision_model", source)
    target.embeddings.patch_embedding.weight.data.copy_(clip.embeddings.patch_embedding.weight)
    target.embeddings.patch_embedding.bias.data.zero_()
    # CLIP normalises after adding positions and has a class token first; what that changes is learnt again
    target.embeddings.position_embedding.weight.data.copy_(clip.embeddings.position_embedding.weight[1:])
    for layer in range(n_layers):
        known = clip.encoder.layers[layer].state_dict()
        target.encoder.layers[layer].load_state_dict(known)
    nn.init.ones_(target.post_layernorm.weight)
    torch.nn.init.zeros_(target.post_layernorm.bias)
