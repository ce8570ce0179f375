"""Where the pieces of a picture lie in it: a grid, for the layouts whose order is known."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MOST_CELLS = 1024


@dataclass(frozen=True)
class Grid:
    """Rows and columns of pieces over the whole picture.

    Args:
        rows: From top to bottom.
        columns: From left to right.
        first: Place of the first piece among all pieces of the picture.
        note: What of the picture is left out, in words; empty when nothing is.
    """

    rows: int = 0
    columns: int = 0
    first: int = 0
    note: str = ""

    @property
    def n_cells(self) -> int:
        """Pieces of the grid."""
        return self.rows * self.columns

    def __bool__(self) -> bool:
        return self.n_cells > 0


def find_grid(kind: str, runs: Sequence[int], inputs: Mapping[str, Any], config: Any) -> Grid:
    """The grid of one picture's pieces, or an empty one whose note says why there is none.

    Args:
        kind: The `model_type`.
        runs: Lengths of the unbroken runs of image tokens in the prompt.
        inputs: What the model was given.
        config: Of the model.
    """
    total = sum(runs)
    if kind in _NOWHERE:
        return Grid(note=_NOWHERE[kind])
    if inputs.get("image_grid_thw") is not None:
        return _merged(inputs["image_grid_thw"][0].tolist(), total)
    if kind in ("llava_next", "llava_onevision"):
        return _overview(total, config)
    if kind in ("idefics3", "smolvlm") and len(runs) > 1:
        return _square(
            runs[-1], total - runs[-1], "Tiles are left out; shown is the view of the whole picture."
        )
    if kind == "internvl":
        each = int(getattr(config, "image_seq_length", total) or total)
        note = "Tiles are left out; shown is the view of the whole picture." if each < total else ""
        return _square(each, total - each, note)
    if len(runs) > 1 and len(set(runs)) == 1 and kind in ("mistral3", "pixtral"):
        return Grid(len(runs), runs[0])
    return (
        _square(total, 0, "")
        if len(runs) == 1
        else Grid(note="The order of this model's image tokens is not known.")
    )


_NOWHERE = {
    "mllama": "Attention to the picture lies in cross-attention layers over tiles, whose places are not drawn.",
    "instructblip": "This model's image tokens are learned queries, which have no place in the picture.",
}


def _merged(grid: Sequence[int], total: int) -> Grid:
    """Qwen: patches are merged two by two, or however many leave the tokens there are."""
    _, height, width = grid
    merge = math.isqrt(height * width // total) if total else 0
    if merge and height // merge * (width // merge) == total:
        return Grid(height // merge, width // merge)
    return Grid(note="Image tokens and patches do not fit each other.")


def _overview(total: int, config: Any) -> Grid:
    """LLaVA-NeXT and its kin: the whole picture first, then its tiles."""
    vision = config.vision_config
    side = int(vision.image_size) // int(vision.patch_size)
    if side**2 > total:
        return Grid(note="Fewer image tokens than patches of one view.")
    return Grid(
        side,
        side,
        0,
        "Tiles are left out; shown is the view of the whole picture." if side**2 < total else "",
    )


def _square(n: int, first: int, note: str) -> Grid:
    side = math.isqrt(n)
    if n == 0 or side**2 != n:
        return Grid(note="The number of image tokens is no square, and this model's order is not known.")
    return Grid(side, side, first, note)


def run_lengths(image: Sequence[bool]) -> list[int]:
    """Lengths of the unbroken runs.

    Args:
        image: Which tokens of a prompt are pieces of the picture.
    """
    runs: list[int] = []
    for before, here in zip([False, *image], image, strict=False):
        if here and before:
            runs[-1] += 1
        elif here:
            runs.append(1)
    return runs
