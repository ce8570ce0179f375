"""SmolVLM: the layout of Idefics3 with a smaller decoder."""

from typing import Any, ClassVar

from vlmtools.families.base import ModelFamily, TinyImage, noise, tiny_text, tiny_vision


class SmolVlm(ModelFamily):
    """SmolVLM and SmolVLM2; `pixel_values` has an axis for the tiles."""

    image_inputs: ClassVar[tuple[str, ...]] = ("pixel_values", "pixel_attention_mask", "image_hidden_states")
    frame_tokens: ClassVar[tuple[str, ...]] = ("<fake_token_around_image>", "<global-img>")

    def tiny_config(self) -> Any:
        """Sixteen patches, shuffled two by two into four tokens; three heads share one key/value head."""
        from transformers import SmolVLMConfig

        return SmolVLMConfig(
            vision_config=tiny_vision("smolvlm_vision", image_size=16),
            text_config=tiny_text("llama", hidden_size=24, num_attention_heads=3, num_key_value_heads=1),
            scale_factor=2,
            image_token_id=127,
            pad_token_id=0,
        )

    def tiny_image(self, config: Any, seed: int = 0) -> TinyImage:
        """One tile of four image tokens."""
        return TinyImage((config.image_token_id,) * 4, {"pixel_values": noise((1, 1, 3, 16, 16), seed)})
