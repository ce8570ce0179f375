"""LLaVA-NeXT (1.6): LLaVA that also sees the picture cut into tiles."""

from typing import Any, ClassVar

from vlmtools.families.base import ModelFamily, TinyImage, noise, tiny_text, tiny_vision


class LlavaNext(ModelFamily):
    """LLaVA-NeXT; `image_sizes` says how the tiles lie."""

    image_inputs: ClassVar[tuple[str, ...]] = ("pixel_values", "image_sizes")
    class_token: ClassVar[bool] = True

    def tiny_config(self) -> Any:
        """CLIP with nine patches per tile, one overview and one tile."""
        from transformers import LlavaNextConfig

        return LlavaNextConfig(
            vision_config=tiny_vision("clip_vision_model", projection_dim=32),
            text_config=tiny_text("llama"),
            image_token_index=127,
            image_grid_pinpoints=[[12, 12]],
            image_seq_length=9,
        )

    def tiny_image(self, config: Any, seed: int = 0) -> TinyImage:
        """An overview of nine tokens, a tile of nine, and three line ends."""
        import torch

        pixels = noise((1, 2, 3, 12, 12), seed)
        sizes = torch.tensor([[12, 12]])
        return TinyImage((config.image_token_id,) * 21, {"pixel_values": pixels, "image_sizes": sizes})
