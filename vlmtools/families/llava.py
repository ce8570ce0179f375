"""LLaVA 1.5: CLIP tower, two-layer connector, Llama-like decoder."""

from typing import Any, ClassVar

from vlmtools.families.base import ModelFamily, TinyImage, noise, tiny_text, tiny_vision


class Llava(ModelFamily):
    """LLaVA 1.5 and models in its layout."""

    class_token: ClassVar[bool] = True
    patch_tokens: ClassVar[bool] = True

    def tiny_config(self) -> Any:
        """CLIP with nine patches, Llama with four heads over two key/value heads."""
        from transformers import LlavaConfig

        return LlavaConfig(
            vision_config=tiny_vision("clip_vision_model", projection_dim=32),
            text_config=tiny_text("llama"),
            image_token_index=127,
            image_seq_length=9,
        )

    def tiny_image(self, config: Any, seed: int = 0) -> TinyImage:
        """Nine image tokens."""
        return TinyImage((config.image_token_id,) * 9, {"pixel_values": noise((1, 3, 12, 12), seed)})
