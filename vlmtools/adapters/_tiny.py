"""Tiny random models that parts are tried on."""

from typing import Any

import torch
from torch import Tensor, nn

from vlmtools import registry
from vlmtools.families.base import ModelFamily


def llava(name: str = "llava", seed: int = 0) -> tuple[nn.Module, dict[str, Tensor]]:
    """A random vision-language model of three layers and a prompt with one picture.

    Args:
        name: The family.
        seed: Decides the weights.
    """
    from transformers import AutoModelForImageTextToText

    family = registry.load("vlmtools.families", name, ModelFamily)()  # type: ignore[type-abstract]
    torch.manual_seed(seed)
    config: Any = family.tiny_config()
    model: nn.Module = AutoModelForImageTextToText.from_config(config).eval()
    picture = family.tiny_image(config, seed)
    ids = torch.tensor([[1, 9, *picture.tokens, 5, 6, 7]])
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), **picture.inputs}
    return model, inputs
