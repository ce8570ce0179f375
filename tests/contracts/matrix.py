"""Every patch × every family: tiny random models, built once per process, and the inputs they read."""

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from vlmtools import families, patches, registry
from vlmtools.errors import CannotAttach
from vlmtools.families.base import ModelFamily
from vlmtools.patches.base import Attached, Patch

FAMILIES = registry.names(families)
PATCHES = registry.names(patches)
VARIED = ("llava", "qwen2_5_vl", "gemma3", "mllama")
"""Families that differ most: the expensive contracts run on these by default, on all with `-m slow`."""


@functools.cache
def family(name: str) -> ModelFamily:
    return registry.load(families, name, ModelFamily)()  # type: ignore[type-abstract]


def build(name: str, attention: str = "sdpa", seed: int = 0) -> Any:
    """A tiny random model whose picture matters: initial weights are widened."""
    from transformers import AutoModelForImageTextToText

    torch.manual_seed(seed)
    model = AutoModelForImageTextToText.from_config(
        family(name).tiny_config(), attn_implementation=attention
    ).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for part in model.parameters():
            if part.ndim > 1:
                part.copy_(torch.randn(part.shape, generator=generator) * 1.2 / part.shape[-1] ** 0.5)
            elif part.numel() == 1:  # gates of cross-attention start closed
                part.fill_(1.0)
    model.generation_config.eos_token_id = None
    model.generation_config.pad_token_id = 0
    return model


@functools.cache
def tiny(name: str, attention: str = "sdpa") -> Any:
    return build(name, attention)


def patch(name: str, neutral: bool = False) -> Patch:
    """Acting on a model of three layers, or set to change nothing."""
    kind = registry.load(patches, name, Patch)  # type: ignore[type-abstract]
    return kind.neutral() if neutral else kind.tiny()


def inputs(name: str, texts: tuple[tuple[int, ...], ...] = ((5, 6, 7),), seed: int = 0) -> dict[str, Tensor]:
    """A left-padded batch, one picture per prompt: start, picture, text."""
    config = family(name).tiny_config()
    pictures = [family(name).tiny_image(config, seed + i) for i in range(len(texts))]
    rows = [[1, 9, *picture.tokens, *text] for picture, text in zip(pictures, texts, strict=True)]
    width = max(map(len, rows))
    ids = torch.tensor([[0] * (width - len(row)) + row for row in rows])
    real = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
    batch = {"input_ids": ids, "attention_mask": real}
    for key in family(name).token_inputs:
        batch[key] = (ids == config.image_token_id).long()
    for key in pictures[0].inputs:
        batch[key] = torch.cat([picture.inputs[key] for picture in pictures])
    if name == "mllama":  # tokens see the one tile from the picture on
        batch["cross_attention_mask"] = ((ids == config.image_token_id).cumsum(-1) > 0).long()[
            :, :, None, None
        ]
    if name == "paligemma":
        batch["token_type_ids"] = torch.zeros_like(ids)
    return batch


@torch.no_grad()
def logits(model: Any, batch: dict[str, Tensor]) -> Tensor:
    found: Tensor = model(**batch).logits[:, -1]
    return found


def _words_only(_ids: Tensor, scores: Tensor) -> Tensor:
    """Image and frame tokens are never written: models without a cache would look for their picture."""
    return scores.index_fill(-1, torch.arange(124, scores.shape[-1]), float("-inf"))


@torch.no_grad()
def answer(model: Any, batch: dict[str, Tensor], **options: Any) -> list[list[int]]:
    """New tokens only."""
    options = {"max_new_tokens": 6, "do_sample": False, "logits_processor": [_words_only], **options}
    out = model.generate(**batch, **options)
    rows: list[list[int]] = out[:, batch["input_ids"].shape[1] :].tolist()
    return rows


@torch.no_grad()
def scores(model: Any, batch: dict[str, Tensor]) -> Tensor:
    """What the first six tokens were chosen from, logits processors included."""
    options = {
        "max_new_tokens": 6,
        "do_sample": False,
        "output_scores": True,
        "return_dict_in_generate": True,
    }
    found: Tensor = torch.stack(model.generate(**batch, **options).scores)
    return found


def hooks(model: Any) -> dict[str, int]:
    """Everything that can be hung on a module, counted."""
    kinds = [key for key in vars(torch.nn.Module()) if key.endswith("_hooks")]
    counted = {kind: sum(len(getattr(part, kind)) for part in model.modules()) for kind in kinds}
    counted["own attributes"] = sum(
        len([key for key in vars(part) if key.startswith("_vlmtools")]) for part in model.modules()
    )
    counted["generate"] = int("generate" in vars(model))
    return counted


def kernels(model: Any) -> list[str]:
    """The attention implementation of every part that has one."""
    configs = {id(part.config): part.config for part in model.modules() if hasattr(part, "config")}
    return [str(getattr(config, "_attn_implementation", None)) for config in configs.values()]


@contextlib.contextmanager
def attached(one: Patch, model: Any) -> Iterator[Attached]:
    """Attach, or skip where the method says why it has nothing to do on this family."""
    try:
        on = one.attach(model)
    except CannotAttach as reason:
        pytest.skip(f"refused: {reason}")
    with on:
        yield on


def cases() -> list[Any]:
    """Every patch × every family; pairs with less varied families are left to the slow run."""
    return [
        pytest.param(one, kind, id=f"{one}-{kind}", marks=() if kind in VARIED else pytest.mark.slow)
        for one in PATCHES
        for kind in FAMILIES
    ]


varied = pytest.mark.parametrize(("name", "kind"), cases())
PAIR = ((5, 6, 7), (8, 9))
"""The texts of two prompts of different length."""


def single(kind: str, i: int, pair: tuple[tuple[int, ...], ...] = PAIR) -> dict[str, Tensor]:
    """Row `i` of `inputs(kind, pair)` alone, without padding."""
    return inputs(kind, (pair[i],), seed=i)
