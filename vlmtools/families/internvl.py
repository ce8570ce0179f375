"""InternVL 2.5 and 3 in the Hugging Face layout: InternViT tower, Qwen2 or InternLM decoder."""

from typing import Any, ClassVar

from vlmtools.families.base import ModelFamily, TinyImage, noise, tiny_text, tiny_vision


class InternVl(ModelFamily):
    """InternVL; tiles of one picture follow each other along the first axis."""

    frame_tokens: ClassVar[tuple[str, ...]] = ("<img>", "</img>")
    class_token: ClassVar[bool] = True

    def tiny_config(self) -> Any:
        """Sixteen patches, shuffled two by two into four tokens."""
        from transformers import InternVLConfig

        vision = tiny_vision("internvl_vision", image_size=[16, 16], patch_size=[4, 4])
        return InternVLConfig(
            vision_config=vision, text_config=tiny_text("qwen2"), image_token_id=127, image_seq_length=4
        )

    def tiny_image(self, config: Any, seed: int = 0) -> TinyImage:
        """Four image tokens."""
        return TinyImage((config.image_token_id,) * 4, {"pixel_values": noise((1, 3, 16, 16), seed)})
