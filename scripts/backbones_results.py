"""Measured parts of `docs/backbones.md`, from what the scripts recorded in `scripts/backbones_study`."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

STUDY = Path(__file__).resolve().parent / "backbones_study"
N_DIGITS = 300
"""Test digits behind every accuracy in `learn.json`."""
PLAIN = ("SwinModel", "ViTModel")
"""Models that stand for "about the same size" in `speed.json`; any other is the authors' own."""

LEARN = """
## Do they learn?

`python scripts/backbones_learn.py --out runs/learn --steps 300 --record scripts/backbones_study/learn.json`: the tiny
model of each architecture, from nothing, on handwritten digits, batches of 32, with as many steps as the table says.
Guessing names one in ten rightly. The intervals are Wilson's for 95 % and 300 test digits. What reads an image as a few
plain tokens needs more steps than what convolves first. This shows that each is wired so that it learns, not how good
it is.
"""
SPEED = """
## Speed

`python benchmarks/speed/backbones.py --tiny --record scripts/backbones_study/speed.json`: each tiny model beside a
plain one of transformers with about as many parameters, on one CPU core of a machine that did nothing else. The
two take turns, which makes the ratio fairer than the images per second; it is the median over rounds of the plain
model's time over ours, so 2.0 is twice as fast as the plain one. Peak memory is what lives at once in a forward pass,
beside weights and images. Sizes like these say little about full ones.
"""
AUTHORS = """
The authors' own programs (`--against`, 15 rounds), full size, the same arguments and images, with today's timm where
they import an old one. A ratio of 1.0 is as fast as theirs; CUDA kernels of theirs do not run here and were not timed:
"""
EYES = """
## As the eyes of a language model

`python scripts/backbones_as_eyes.py --backbones smt:level=1,litv2:level=1 --steps 500`, and `smt:level=1` alone for
2,200 steps: tiny backbones in the place of the tower of `reference:clean`, with a fresh connector, taught to give the
tokens that its own tower gives; the language model stays as it is. Questions are yes-or-no, half about absent things;
95 % intervals over scenes. Five hundred steps are too few for the language model to see anything.
"""


def sections() -> str:
    """All parts that were recorded, as Markdown."""
    learnt, timed, eyes = _read("learn.json"), _read("speed.json"), STUDY / "eyes.md"
    parts = [LEARN + "\n" + learning(learnt)] if learnt else []
    parts += [SPEED + "\n" + speed(timed)] if timed else []
    parts += [EYES + "\n" + eyes.read_text(encoding="utf-8")] if eyes.is_file() else []
    return "".join(parts)


def learning(rows: Sequence[Mapping[str, Any]]) -> str:
    """What was learnt, as a table.

    Args:
        rows: Of `learn.json`.
    """
    cells = [
        (
            row["name"],
            f"{row['steps']:,}",
            f"{row['first']:.2f}",
            f"{row['last']:.2f}",
            _share(row["accuracy"]),
        )
        for row in rows
    ]
    return _table(("architecture", "steps", "first loss", "last loss", "accuracy"), cells)


def speed(rows: Sequence[Mapping[str, Any]]) -> str:
    """Times and memory: the tiny models, then the authors' own programs.

    Args:
        rows: Of `speed.json`.
    """
    heads = ("model", "beside", "parameters", "images/s", "ratio", "peak MiB", "beside, MiB")
    plain = [row for row in rows if row["beside"] in PLAIN]
    own = [row for row in rows if row["beside"] not in PLAIN]
    setting = ", ".join(sorted({row["setting"] for row in plain}))
    text = f"Setting: {setting}.\n\n" + _table(heads, map(_timed, plain)) if plain else ""
    if own:
        setting = ", ".join(sorted({row["setting"] for row in own}))
        text += f"{AUTHORS}\nSetting: {setting}.\n\n" + _table(heads, map(_timed, own))
    return text


def wilson(share: float, n: int, z: float = 1.96) -> tuple[float, float]:
    """Interval of a share.

    Args:
        share: Observed, in [0, 1].
        n: How many were observed.
        z: Standard deviations; 1.96 gives 95 %.
    """
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * (share * (1 - share) / n + z * z / (4 * n * n)) ** 0.5 / (1 + z * z / n)
    return middle - half, middle + half


def _share(accuracy: float) -> str:
    low, high = wilson(accuracy, N_DIGITS)
    return f"{accuracy:.1%} [{low:.1%}, {high:.1%}]"


def _timed(row: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        row["name"], row["beside"].removesuffix("Model"), f"{row['n_params']:,}", _rate(row["per_second"]),
        f"{row['ratio']:.2f}", f"{row['peak_mib']:.1f}", f"{row['other_mib']:.1f}",
    )  # fmt: skip


def _rate(per_second: float) -> str:
    return f"{per_second:.1f}" if per_second < 100 else f"{per_second:,.0f}"


def _table(heads: Sequence[str], rows: Any) -> str:
    lines = [heads, ("---",) * len(heads), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _read(name: str) -> list[dict[str, Any]]:
    path = STUDY / name
    found: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
    return found
