"""Every part in the size it is studied in."""

from typing import Any

from vlmtools import registry
from vlmtools.adapters.base import Part

CHOSEN: dict[str, tuple[dict[str, Any], str]] = {
    "mlp": ({}, "begins at random"),
    "linear": ({}, "begins at random; no size to choose"),
    "mocha": ({"n_experts": 2, "n_chosen": 1, "upcycle": True}, "begins as the model's own, twice"),
    "qformer": ({"n_queries": 64, "n_layers": 1, "n_heads": 4, "d_hidden": 56}, "begins at random"),
    "resampler": ({"n_latents": 64, "n_layers": 1}, "begins at random; no smaller size"),
    "conditional_cross_attention": ({"n_conditions": 64}, "begins at random; no smaller size"),
    "moh": ({}, "no size to choose"),
    "p_adapter": ({"reduction": 16}, ""),
    "polyhistor": ({"tower": "text", "reduction": 8, "rank": 5, "n_embed": 34}, ""),
    "hst": ({"channels": (8, 16, 24, 32), "heads": (2, 2, 4, 4)}, ""),
    "ithp": ({"d_first": 32, "d_second": 16, "hidden": 96}, ""),
    "crosslmm": ({"n_pooled": 64, "every": 6}, "in one layer; no smaller size"),
    "dcal": ({"share": 0.3}, "no size to choose"),
    "hica_vqa": ({"n_levels": 1}, "no smaller size"),
    "cumo": ({"n_experts": 2, "n_chosen": 1}, "no smaller size"),
}
"""Part → its settings, and what to know about it; others are taken as they come."""


def made(name: str) -> Part:
    """A fresh part with the settings of the study.

    Args:
        name: Of the part.
    """
    kind = registry.load("vlmtools.adapters", name, Part)  # type: ignore[type-abstract]
    return kind(**CHOSEN.get(name, ({}, ""))[0])


def called(name: str) -> dict[str, str]:
    """How the table names it, and what to know about it.

    Args:
        name: Of the part.
    """
    settings, note = CHOSEN.get(name, ({}, ""))
    text = ",".join(f"{key}={value}" for key, value in settings.items())
    return {"part": f"{name}:{text}" if text else name, "note": note}
