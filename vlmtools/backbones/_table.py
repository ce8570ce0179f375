"""What is known of every variant of every backbone, read from a file that `scripts/count_backbones.py` writes."""

import json
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

Row = Mapping[str, Any]

CHECKED = {
    "outputs": "outputs equal the authors' on small models with random weights",
    "timm": "timm's own model; its number of parameters is checked",
    "equations": "equations checked by hand-worked numbers only",
}
"""What the word in the column "checked" says."""


def rows() -> dict[str, Row]:
    """Variant → what is known of it; loads neither torch nor the backbones."""
    found: dict[str, Row] = json.loads(
        files("vlmtools.backbones").joinpath("_table.json").read_text(encoding="utf-8")
    )
    return found


def cells(name: str, row: Row) -> tuple[str, ...]:
    """One line of the table: variant, parameters, FLOPs as counted and as stated, top-1, size, paper, checked.

    Args:
        name: Of the variant.
        row: What is known of it.
    """
    return (
        name,
        _large(row["params"], 1e6, "M"),
        _large(row["flops"], 1e9, "G"),
        _large(None if row["stated_gmac"] is None else 2e9 * row["stated_gmac"], 1e9, "G"),
        "-" if row["top1"] is None else f"{row['top1']:.1f}",
        str(row["size"]),
        row["paper"] or "-",
        row["checked"],
    )


HEADINGS = ("variant", "parameters", "FLOPs", "stated", "top-1", "size", "paper", "checked")
"""Titles of what `cells` gives."""


def _large(number: int | None, unit: float, sign: str) -> str:
    return "-" if number is None else f"{number / unit:.1f} {sign}"
