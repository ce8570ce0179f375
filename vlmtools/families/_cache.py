"""The key-value cache of a call or an output: `past_key_values` until transformers 5.23, `cache` from then on."""

from collections.abc import Mapping
from functools import cache as remembered
from inspect import signature
from typing import Any

OLD, NEW = "past_key_values", "cache"


def given_cache(kwargs: Mapping[str, Any]) -> Any:
    """The cache a call was given, under either name; None without one.

    Args:
        kwargs: Of the call.
    """
    found = kwargs.get(NEW)
    return kwargs.get(OLD) if found is None else found


def cache_argument(model: Any, cache: Any) -> dict[str, Any]:
    """The keyword with which a model, and its `generate`, takes a cache without a warning.

    Args:
        model: A Hugging Face model; its own signature decides, and the installed transformers where it is silent.
        cache: What it is to read and fill.
    """
    own = signature(model.forward).parameters
    named = NEW in own or (OLD not in own and _renamed())
    return {NEW if named else OLD: cache}


def held_cache(output: Any) -> Any:
    """The cache that came with a model's output, under either name.

    Args:
        output: Of a pass or of `generate(return_dict_in_generate=True)`.
    """
    found = getattr(output, NEW, None)
    return getattr(output, OLD, None) if found is None else found


@remembered
def _renamed() -> bool:
    from transformers import GenerationMixin

    return NEW in signature(GenerationMixin.prepare_inputs_for_generation).parameters
