"""Mistral 3: Pixtral tower without fixed size, patch merger, Mistral decoder."""

from typing import Any, ClassVar

from vlmtools.families.base import ModelFamily, TinyImage, noise, tiny_text, tiny_vision


class Mistral3(ModelFamily):
    """Mistral Small 3.1 and models in its layout; `image_sizes` says how far the padding reaches."""

    image_inputs: ClassVar[tuple[str, ...]] = ("pixel_values", "image_sizes")
    frame_tokens: ClassVar[tuple[str, ...]] = ("[IMG_BREAK]", "[IMG_END]")

    def tiny_config(self) -> Any:
        """Sixteen patches, merged two by two into four tokens."""
        from transformers import Mistral3Config

        return Mistral3Config(
            vision_config=tiny_vision("pixtral", image_size=16, head_dim=8),
            text_config=tiny_text("mistral", sliding_window=None),
            image_token_index=127,
            spatial_merge_size=2,
        )

    def tiny_image(self, config: Any, seed: int = 0) -> TinyImage:
        """Four image tokens."""
        import torch

        pixels = noise((1, 3, 16, 16), seed)
        sizes = torch.tensor([[16, 16]])
        return TinyImage((config.image_token_id,) * 4, {"pixel_values": pixels, "image_sizes": sizes})
