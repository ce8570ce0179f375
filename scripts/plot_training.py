"""Draw how the losses of the reference models fell: docs/reference-training.svg.

python scripts/plot_training.py --runs runs/reference
"""

import argparse
import json
from pathlib import Path

from markupsafe import Markup
from study_plots import COLOURS, Box, frame, legend, write

from vlmtools.report._svg import axis, tag

PANELS = {
    "vision tower": ("tower",),
    "clean": ("clean",),
    "from clean": ("habits-few", "habits-many", "weak-vision", "prior", "smol"),
}


def smooth(values: list[float], span: int = 5) -> list[float]:
    """Means over the last `span` values."""
    return [
        sum(part) / len(part)
        for end in range(len(values))
        if (part := values[max(0, end - span + 1) : end + 1])
    ]


def curve(path: Path) -> tuple[list[int], list[float]]:
    """Steps and the loss of what the stage is about: answers, or patches for the tower.

    Args:
        path: A stage's curve.jsonl; a resumed stage repeats some steps, and the later line counts.
    """
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    losses = {row["step"]: row.get("answer", row.get("patch")) for row in rows}
    steps = sorted(losses)
    return steps, smooth([losses[step] for step in steps])


def panel(box: Box, title: str, found: dict[str, tuple[list[int], list[float]]]) -> list[Markup]:
    """One panel with a line per stage."""
    x = axis([0.0, *(float(steps[-1]) for steps, _ in found.values())], most=5)
    y = axis([0.0, *(min(value, 2.0) for _, values in found.values() for value in values)], most=5)
    marks = frame(box, title, "optimiser steps", "loss", x, y)
    for colour, (steps, values) in zip(COLOURS, found.values(), strict=False):
        places = (
            f"{box.across(x, step):.1f},{box.up(y, min(value, 2.0)):.1f}"
            for step, value in zip(steps, values, strict=True)
        )
        marks.append(tag("polyline", points=" ".join(places), fill="none", stroke=colour, stroke_width=1.8))
    return [*marks, *legend(box.left + 67, box.top + 42, list(found))]


def main() -> None:
    """Read the curves, write the plot."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=Path, default=Path("runs/reference"))
    parser.add_argument("--out", type=Path, default=Path("docs/reference-training.svg"))
    given = parser.parse_args()
    widths, left = (330.0, 330.0, 480.0), 0.0
    marks: list[Markup] = []
    for width, (title, names) in zip(widths, PANELS.items(), strict=True):
        found = {name: curve(path) for name in names if (path := given.runs / name / "curve.jsonl").exists()}
        if found:
            marks += panel(Box(left, 0, width, 280), title, found)
        left += width
    write(given.out, sum(widths), 280, "Training losses of the reference models", marks)


if __name__ == "__main__":
    main()
