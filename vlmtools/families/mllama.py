"""Llama 3.2 Vision: the picture is read by cross-attention layers and never enters the token sequence."""

from collections.abc import Mapping
from typing import Any, ClassVar

from vlmtools.families.base import ModelFamily, TinyImage, noise, tiny_text


class Mllama(ModelFamily):
    """Llama 3.2 Vision.

    Methods on head outputs work, and the heads of the cross-attention layers are the visual ones: without picture
    those layers are skipped. Methods that move attention from text to image tokens have nothing to act on, because
    no layer sees both.
    """

    image_inputs: ClassVar[tuple[str, ...]] = (
        "pixel_values", "aspect_ratio_ids", "aspect_ratio_mask", "cross_attention_mask", "cross_attention_states",
    )  # fmt: skip
    image_in_text: ClassVar[bool] = False

    def tiny_config(self) -> Any:
        """One tile of 4 patches; the second of three decoder layers is a cross-attention layer."""
        from transformers import MllamaConfig

        text = tiny_text("mllama_text_model", cross_attention_layers=[1])
        text["vocab_size"] -= 1
        return MllamaConfig(
            vision_config={
                "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_global_layers": 1,
                "attention_heads": 2, "image_size": 16, "patch_size": 8, "max_num_tiles": 1, "vision_output_dim": 32,
                "intermediate_layers_indices": [0], "supported_aspect_ratios": [[1, 1]],
            },
            text_config=text, image_token_index=127,
        )  # fmt: skip

    def tiny_image(self, config: Any, seed: int = 0) -> TinyImage:
        """One image token, and one tile."""
        import torch

        inputs = {
            "pixel_values": noise((1, 1, 1, 3, 16, 16), seed),
            "aspect_ratio_ids": torch.ones(1, 1, dtype=torch.long),
            "aspect_ratio_mask": torch.ones(1, 1, 1, dtype=torch.long),
        }
        return TinyImage((config.image_token_id,), inputs)

    def step_inputs(self, inputs: Mapping[str, Any], n_rows: int) -> dict[str, Any]:
        """A new token sees the tiles that the last prompt token saw."""
        mask = inputs.get("cross_attention_mask")
        if mask is None:
            return {}
        return {"cross_attention_mask": mask[:, -1:].repeat_interleave(n_rows // len(mask), 0)}
