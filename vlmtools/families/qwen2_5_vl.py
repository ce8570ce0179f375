"""Qwen2.5-VL: window attention in the tower, positions in three axes."""

from typing import Any, ClassVar

from vlmtools.families.base import ModelFamily, TinyImage, noise, tiny_text


class Qwen25Vl(ModelFamily):
    """Qwen2.5-VL; `image_grid_thw` says how the patches lie."""

    image_inputs: ClassVar[tuple[str, ...]] = ("pixel_values", "image_grid_thw")
    video_inputs: ClassVar[tuple[str, ...]] = ("pixel_values_videos", "video_grid_thw", "second_per_grid_ts")
    token_inputs: ClassVar[tuple[str, ...]] = ("mm_token_type_ids",)
    frame_keys: ClassVar[tuple[str, ...]] = ("vision_start_token_id", "vision_end_token_id")
    plain_positions: ClassVar[bool] = False

    def tiny_config(self) -> Any:
        """Pictures of 4 × 4 patches, merged two by two; the second tower layer sees the whole picture."""
        from transformers import Qwen2_5_VLConfig

        rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]}
        return Qwen2_5_VLConfig(
            text_config=tiny_text("qwen2_5_vl_text", rope_parameters=rope),
            vision_config={
                "depth": 2, "hidden_size": 32, "intermediate_size": 48, "num_heads": 4, "patch_size": 4,
                "window_size": 16, "out_hidden_size": 32, "fullatt_block_indexes": [1], "spatial_merge_size": 2,
                "temporal_patch_size": 2, "tokens_per_second": 2,
            },
            image_token_id=127, video_token_id=126, vision_start_token_id=125, vision_end_token_id=124,
        )  # fmt: skip

    def tiny_image(self, config: Any, seed: int = 0) -> TinyImage:
        """Four image tokens between the two frame tokens."""
        import torch

        tokens = (config.vision_start_token_id, *[config.image_token_id] * 4, config.vision_end_token_id)
        pixels = noise((16, 3 * 2 * 4 * 4), seed)
        return TinyImage(tokens, {"pixel_values": pixels, "image_grid_thw": torch.tensor([[1, 4, 4]])})
