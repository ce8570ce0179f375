"""Every part in the size it is studied in, and the LoRA it is measured against."""

from dataclasses import dataclass
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
    "hst": ({"channels": (8, 16, 24, 28), "heads": (2, 2, 4, 4)}, ""),
    "ithp": ({"d_first": 32, "d_second": 16, "hidden": 96}, ""),
    "crosslmm": ({"n_pooled": 64, "every": 6}, "in one layer; no smaller size"),
    "dcal": ({"share": 0.3}, "no size to choose"),
    "hica_vqa": ({"n_levels": 1}, "no smaller size"),
    "cumo": ({"n_experts": 2, "n_chosen": 1}, "no smaller size"),
}
"""Part → its settings, and what to know about it; others are taken as they come."""
YARDSTICK = "lora"


@dataclass(frozen=True)
class Entry:
    """One line of the study.

    Args:
        label: Name of a part, in the size of the study; or `name:key=value,…`.
    """

    label: str = YARDSTICK

    @property
    def name(self) -> str:
        """Of the part."""
        return self.label.partition(":")[0]

    @property
    def note(self) -> str:
        """What to know about it."""
        return "" if ":" in self.label else CHOSEN.get(self.name, ({}, ""))[1]

    @property
    def settings(self) -> dict[str, Any]:
        """What differs from the part's defaults."""
        given = self.label.partition(":")[2]
        kind = registry.load("vlmtools.adapters", self.name, Part)  # type: ignore[type-abstract]
        return registry.settings(kind, given) if given else CHOSEN.get(self.name, ({}, ""))[0]

    @property
    def called(self) -> str:
        """Name and settings."""
        text = ",".join(f"{key}={value}" for key, value in self.settings.items())
        return f"{self.name}:{text}" if text else self.name

    @property
    def folder(self) -> str:
        """Of its files."""
        return self.label.replace(":", "-").replace("=", "")

    def made(self) -> Part:
        """A fresh part."""
        kind = registry.load("vlmtools.adapters", self.name, Part)  # type: ignore[type-abstract]
        return kind(**self.settings)


def equal_lora(n_trained: int, per_rank: int) -> str:
    """Label of the LoRA that trains as many parameters as can be.

    Args:
        n_trained: Of the part it is measured against.
        per_rank: Parameters of a LoRA of rank 1 in the same model.
    """
    return f"{YARDSTICK}:rank={max(1, round(n_trained / per_rank))}"
