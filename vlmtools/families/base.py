"""What a model family is: the few facts about one Hugging Face `model_type` that looking at a model cannot tell.

Everything else (decoder, layers, attention, output projections, heads) is found by looking: see `_probe.py`.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

TINY_VOCAB = 128
"""Vocabulary of the tiny models; the last few entries are their image and frame tokens."""


@dataclass(frozen=True, slots=True)
class TinyImage:
    """One random picture, as a tiny model of the family reads it.

    Args:
        tokens: The placeholder tokens in the prompt, frame tokens included.
        inputs: Name → tensor of one picture; a batch is their concatenation along the first axis.
    """

    tokens: tuple[int, ...]
    inputs: Mapping[str, Any]


class ModelFamily(ABC):
    """Facts about one `model_type`, and a tiny random model of it for tests.

    The file's name is the `model_type`. Everything has a default except the tiny model.
    """

    image_inputs: ClassVar[tuple[str, ...]] = ("pixel_values",)
    """Inputs of `forward` that carry the picture; a prompt without picture leaves them out."""
    video_inputs: ClassVar[tuple[str, ...]] = ()
    """Inputs of `forward` that carry the video, in families that have tokens of their own for videos."""
    token_inputs: ClassVar[tuple[str, ...]] = ()
    """Inputs of `forward` with one entry per prompt token, apart from `input_ids` and `attention_mask`."""
    frame_keys: ClassVar[tuple[str, ...]] = ()
    """Configuration keys that name tokens framing a picture, such as begin and end of image."""
    frame_tokens: ClassVar[tuple[str, ...]] = ()
    """The same as text, for frames that only the tokenizer knows."""
    image_in_text: ClassVar[bool] = True
    """False where the picture never enters the token sequence and is reached by cross-attention alone."""
    plain_positions: ClassVar[bool] = True
    """False where a picture's tokens have positions of their own kind (M-RoPE), computed from the picture."""
    patch_tokens: ClassVar[bool] = False
    """True where every patch of the vision tower becomes one image token, in order."""
    class_token: ClassVar[bool] = False
    """True where the vision tower starts with a class token."""

    @property
    def model_type(self) -> str:
        """The `model_type` of the configuration: the file's name."""
        return type(self).__module__.rpartition(".")[2]

    @abstractmethod
    def tiny_config(self) -> Any:
        """A configuration for a random model small enough for a test: three layers, several heads."""

    @abstractmethod
    def tiny_image(self, config: Any, seed: int = 0) -> TinyImage:
        """A random picture for the tiny model.

        Args:
            config: What `tiny_config` gave.
            seed: Decides the pixels.
        """

    def text_model(self, model: Any) -> Any:
        """The module that is called with a prompt without picture: the model itself where it takes one."""
        return model

    def step_inputs(self, inputs: Mapping[str, Any], n_rows: int) -> dict[str, Any]:
        """What a pass over one new token takes besides the token, its mask and the cache.

        Args:
            inputs: Of the prompt.
            n_rows: Rows of the batch, beams included.
        """
        return {}


def tiny_text(model_type: str, **settings: Any) -> dict[str, Any]:
    """A language model of three layers, four heads and two key/value heads.

    Args:
        model_type: Of the language model.
        settings: What differs or comes on top.
    """
    return {
        "model_type": model_type, "vocab_size": TINY_VOCAB, "hidden_size": 32, "intermediate_size": 48,
        "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
        "max_position_embeddings": 512, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, **settings,
    }  # fmt: skip


def tiny_vision(model_type: str, **settings: Any) -> dict[str, Any]:
    """A vision tower of two layers and four heads for pictures of 12 × 12 pixels in patches of 4.

    Args:
        model_type: Of the tower.
        settings: What differs or comes on top.
    """
    return {
        "model_type": model_type, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 4, "image_size": 12, "patch_size": 4, "num_channels": 3, **settings,
    }  # fmt: skip


def noise(shape: Sequence[int], seed: int) -> Any:
    """A tensor of normal noise, the same for the same seed.

    Args:
        shape: Of the tensor.
        seed: Decides the values.
    """
    import torch

    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
