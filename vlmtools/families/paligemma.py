"""PaliGemma: SigLIP tower, Gemma decoder; the whole prompt attends in both directions."""

from typing import Any, ClassVar

from vlmtools.families.base import ModelFamily, TinyImage, noise, tiny_text, tiny_vision


class PaliGemma(ModelFamily):
    """PaliGemma and PaliGemma 2."""

    token_inputs: ClassVar[tuple[str, ...]] = ("token_type_ids",)
    patch_tokens: ClassVar[bool] = True

    def tiny_config(self) -> Any:
        """SigLIP with nine patches, Gemma with one key/value head."""
        from transformers import PaliGemmaConfig

        return PaliGemmaConfig(
            vision_config=tiny_vision("siglip_vision_model", vision_use_head=False, projection_dim=32),
            text_config=tiny_text("gemma", num_key_value_heads=1),
            image_token_index=127,
            projection_dim=32,
            hidden_size=32,
        )

    def tiny_image(self, config: Any, seed: int = 0) -> TinyImage:
        """Nine image tokens."""
        return TinyImage((config.image_token_id,) * 9, {"pixel_values": noise((1, 3, 12, 12), seed)})
