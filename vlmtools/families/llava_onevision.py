"""LLaVA-OneVision: SigLIP tower, tiles, Qwen2 decoder."""

from typing import Any, ClassVar

from vlmtools.families.base import ModelFamily, TinyImage, noise, tiny_text, tiny_vision


class LlavaOnevision(ModelFamily):
    """LLaVA-OneVision; `image_sizes` says how the tiles lie."""

    image_inputs: ClassVar[tuple[str, ...]] = ("pixel_values", "image_sizes", "batch_num_images")
    video_inputs: ClassVar[tuple[str, ...]] = ("pixel_values_videos", "image_sizes_videos")

    def tiny_config(self) -> Any:
        """SigLIP with nine patches per tile, one overview and one tile."""
        from transformers import LlavaOnevisionConfig

        return LlavaOnevisionConfig(
            vision_config=tiny_vision("siglip_vision_model", vision_use_head=False),
            text_config=tiny_text("qwen2"),
            image_token_index=127,
            video_token_index=126,
            image_grid_pinpoints=[[12, 12]],
        )

    def tiny_image(self, config: Any, seed: int = 0) -> TinyImage:
        """An overview of nine tokens, a tile of nine, and three line ends."""
        import torch

        pixels = noise((1, 2, 3, 12, 12), seed)
        sizes = torch.tensor([[12, 12]])
        return TinyImage((config.image_token_id,) * 21, {"pixel_values": pixels, "image_sizes": sizes})
