"""Gemma 3: SigLIP tower, sliding-window layers, image tokens that see each other both ways."""

from typing import Any, ClassVar

from vlmtools.families.base import ModelFamily, TinyImage, noise, tiny_text, tiny_vision


class Gemma3(ModelFamily):
    """Gemma 3 with a vision tower."""

    token_inputs: ClassVar[tuple[str, ...]] = ("token_type_ids",)
    frame_keys: ClassVar[tuple[str, ...]] = ("boi_token_index", "eoi_token_index")

    def tiny_config(self) -> Any:
        """Sixteen patches pooled to four tokens; two sliding layers and a full one."""
        from transformers import Gemma3Config

        layers = ["sliding_attention", "full_attention", "sliding_attention"]
        text = tiny_text("gemma3_text", layer_types=layers, sliding_window=8, query_pre_attn_scalar=8)
        return Gemma3Config(
            vision_config=tiny_vision("siglip_vision_model", vision_use_head=False, image_size=16),
            text_config=text, mm_tokens_per_image=4, image_token_index=127, boi_token_index=125, eoi_token_index=124,
        )  # fmt: skip

    def tiny_image(self, config: Any, seed: int = 0) -> TinyImage:
        """Four image tokens between the two frame tokens."""
        tokens = (config.boi_token_index, *[config.image_token_id] * 4, config.eoi_token_index)
        return TinyImage(tokens, {"pixel_values": noise((1, 3, 16, 16), seed)})
