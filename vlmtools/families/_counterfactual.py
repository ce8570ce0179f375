"""The same prompt without its picture or video: tokens cut out, masked, or the pixels blank."""

from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from vlmtools.errors import CannotAttach
from vlmtools.families._probe import Anatomy
from vlmtools.families._prompt import Prompt, is_visual
from vlmtools.families._refuse import refuse_encoded

FORWARD = ("input_ids", "attention_mask", "position_ids")
"""What every family's `forward` takes for text."""
PIXELS = ("pixel_values", "pixel_values_videos")
"""Pictures and videos, as almost every model calls them."""
Removal = Literal["drop", "mask", "blank"]
"""Cut the picture's tokens out, mask them where they are, or show a picture of one mean colour."""
Inputs = Mapping[str, Any]
"""Inputs of a model by name."""


def positions(real: Bool[Tensor, "batch seq"]) -> Int[Tensor, "batch seq"]:
    """Positions that count tokens and skip padding, as `generate` numbers them.

    Args:
        real: Which places are no padding.
    """
    return (real.long().cumsum(-1) - 1).clamp(min=0)


def without_image(prompt: Prompt, parts: Anatomy, tokenizer: Any = None) -> dict[str, Tensor]:
    """The prompt with image, video and frame tokens cut out, and no pixels; padded on the left.

    Times that a processor writes between the frames of a video, as Qwen3-VL's does, are text and stay.

    Args:
        prompt: With picture.
        parts: Of the model.
        tokenizer: Knows frame tokens that the configuration does not name.
    """
    ids = prompt.inputs["input_ids"]
    image = is_visual(ids, parts) | prompt.image.to(ids.device)
    frames = torch.isin(ids, torch.tensor(parts.frame_ids(tokenizer), device=ids.device, dtype=ids.dtype))
    keep = prompt.real.to(ids.device) & ~image & ~frames
    per_token = ("input_ids", *(parts.family.token_inputs if parts.family else ()))
    given = {name: prompt.inputs[name] for name in per_token if isinstance(prompt.inputs.get(name), Tensor)}
    cut = {
        name: _packed(values, keep, _padding(parts) if name == "input_ids" else 0)
        for name, values in given.items()
    }
    real = _packed(torch.ones_like(ids), keep, 0)
    return {**cut, "attention_mask": real, "position_ids": positions(real.bool())}


def masked_image(prompt: Prompt, parts: Anatomy) -> dict[str, Any]:
    """The whole prompt with the image keys masked and every position where it was.

    Args:
        prompt: With picture.
        parts: Of the model.

    Raises:
        CannotAttach: The family computes positions from the picture, or keeps it out of the tokens.
    """
    family = parts.family
    if family is not None and not (family.plain_positions and family.image_in_text):
        raise CannotAttach(
            f"{family.model_type} has no plain positions to keep while the picture is masked. "
            "Use counterfactual='drop'."
        )
    real = prompt.real & ~prompt.image
    return {
        **for_forward(prompt.inputs, parts),
        "attention_mask": real.long(),
        "position_ids": positions(prompt.real),
    }


def blank_image(prompt: Prompt, parts: Anatomy) -> dict[str, Any]:
    """The whole prompt with every pixel near 0, which is the mean colour after normalisation.

    Not at 0: Idefics3 and SmolVLM take a picture of zeros for padding and drop it.

    Args:
        prompt: With picture.
        parts: Of the model.
    """
    inputs = for_forward(prompt.inputs, parts)
    pixels = {
        name: torch.full_like(value, 1e-3)
        for name, value in inputs.items()
        if name.startswith("pixel_values")
    }
    return {**inputs, **pixels}


def for_forward(inputs: Mapping[str, Any], parts: Anatomy) -> dict[str, Any]:
    """Of what `generate` was given, what a single pass takes.

    Args:
        inputs: By name.
        parts: Of the model.
    """
    family = parts.family
    media = family.image_inputs + family.video_inputs if family else PIXELS
    names = (*FORWARD, *media, *(family.token_inputs if family else ()))
    return {name: inputs[name] for name in names if inputs.get(name) is not None}


def _packed(values: Tensor, keep: Tensor, fill: int) -> Tensor:
    rows = [row[kept] for row, kept in zip(values, keep, strict=True)]
    width = max(1, *(len(row) for row in rows)) if len(rows) > 1 else max(1, len(rows[0]))
    return torch.stack([torch.nn.functional.pad(row, (width - len(row), 0), value=fill) for row in rows])


def _padding(parts: Anatomy) -> int:
    found = getattr(parts.model.config.get_text_config(decoder=True), "pad_token_id", None)
    return int(found) if found is not None and found >= 0 else 0


def removed(
    how: Removal | Callable[[Inputs], Inputs], prompt: Prompt, parts: Anatomy, tokenizer: Any
) -> Inputs:
    """The inputs of a prompt without its picture, in the way asked for.

    Args:
        how: `drop` the tokens, `mask` them in place, `blank` the pixels, or a function of the inputs.
        prompt: With picture.
        parts: Of the model.
        tokenizer: Knows frame tokens that the configuration does not name; may be None.
    """
    if how == "drop":
        return without_image(prompt, parts, tokenizer)
    if how == "mask":
        return masked_image(prompt, parts)
    refuse_encoded(prompt.inputs, f"counterfactual={how!r}")
    if how == "blank":
        return blank_image(prompt, parts)
    return for_forward(how(for_forward(prompt.inputs, parts)), parts)
