"""The reference models in small: their own configuration, a quarter as wide and half as deep, untrained."""

import itertools
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from reference_training import build


def small(words: Any) -> Any:
    """Their configuration, shrunk, with livelier weights."""
    config = build.config(words)
    for part, n_layers in ((config.vision_config, 3), (config.text_config, 2)):
        part.hidden_size, part.intermediate_size, part.num_hidden_layers = 48, 96, n_layers
        part.num_attention_heads = 4
    config.vision_config.projection_dim = 48
    config.text_config.num_key_value_heads, config.text_config.head_dim = 4, 12
    config.text_config.initializer_range = config.vision_config.initializer_range = 0.1
    return config


@cache
def words() -> Any:
    """A tokenizer trained by the same rule on fewer sayings; copy it before adding tokens."""
    with pytest.MonkeyPatch.context() as patch:
        sayings = list(itertools.islice(build._sayings(), 1500))
        patch.setattr(build, "_sayings", lambda: sayings)
        return build.tokenizer()


def llava(seed: int = 0) -> Any:
    """An untrained model."""
    from transformers import LlavaForConditionalGeneration

    torch.manual_seed(seed)
    return LlavaForConditionalGeneration(small(words())).eval()


def saved(folder: Path, seed: int = 0) -> Path:
    """An untrained model as the trained ones lie there."""
    llava(seed).save_pretrained(folder)
    build.processor(words()).save_pretrained(folder)
    return folder
