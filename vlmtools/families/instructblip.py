"""InstructBLIP: EVA tower, Q-Former that reads the question, Vicuna decoder."""

from typing import Any, ClassVar

from vlmtools.families.base import TINY_VOCAB, ModelFamily, TinyImage, noise, tiny_text, tiny_vision


class InstructBlip(ModelFamily):
    """InstructBLIP; `generate` and `forward` need a picture, so a bare prompt goes to the language model."""

    image_inputs: ClassVar[tuple[str, ...]] = (
        "pixel_values", "qformer_input_ids", "qformer_attention_mask", "interpolate_pos_encoding",
    )  # fmt: skip
    class_token: ClassVar[bool] = True

    def tiny_config(self) -> Any:
        """Nine patches, three queries, Llama."""
        from transformers import InstructBlipConfig

        return InstructBlipConfig(
            vision_config=tiny_vision("instructblip_vision_model", initializer_range=0.02),
            qformer_config={
                "vocab_size": TINY_VOCAB, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
                "intermediate_size": 48, "encoder_hidden_size": 32, "cross_attention_frequency": 1,
            },
            text_config=tiny_text("llama"), num_query_tokens=3, image_token_index=127,
        )  # fmt: skip

    def tiny_image(self, config: Any, seed: int = 0) -> TinyImage:
        """Three image tokens, and the question as the Q-Former reads it."""
        import torch

        question = torch.tensor([[5, 6, 7, 8]])
        inputs = {"pixel_values": noise((1, 3, 12, 12), seed), "qformer_input_ids": question}
        return TinyImage((config.image_token_id,) * config.num_query_tokens, inputs)

    def text_model(self, model: Any) -> Any:
        """The language model: the whole model refuses a prompt without picture."""
        return model.language_model
