"""Where does a vision tower look? Attention on the things of a scene, layer by layer, with the truth at hand.

    python scripts/study_tower_attention.py reference:clean --n 300

Answers whether what HiPrune builds on (arXiv:2508.00553: middle layers look at objects, deep ones at the whole picture)
holds for a CLIP tower of the bundled models. Prints a Markdown table; writes docs/tower-attention.svg (the curves) and
docs/tower-attention-scenes.svg (some scenes beside the heat maps of every layer). 300 scenes take about ten seconds.
"""

import argparse
import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from markupsafe import Markup
from PIL import Image
from study_plots import Box, curves, words, write

import vlmtools as vt
from vlmtools.errors import BadInput
from vlmtools.reference.render import patch_things, picture
from vlmtools.reference.world import Scene, World
from vlmtools.report._svg import tag
from vlmtools.stats import item_counts, percentile

SHARE = 0.1
"""Part of the patches that counts as the most attended: HiPrune's share of anchors."""


@dataclass(frozen=True, eq=False)
class Attention:
    """What patches receive, mean over heads; sums to 1 over the patches of a scene.

    Args:
        received: From all queries alike, class token included.
        class_row: From the class token alone.
        things: Which patches show a thing.
    """

    received: Float[np.ndarray, "scene layer patch"]
    class_row: Float[np.ndarray, "scene layer patch"]
    things: Bool[np.ndarray, "scene patch"]


Values = Float[np.ndarray, "scene layer"]
Interval = tuple[float, float, float]
"""Value, lower and upper end."""


def look(vlm: vt.VLM, scenes: Sequence[Scene], batch: int = 50) -> Attention:
    """Attention of every layer of a CLIP tower over some scenes.

    Args:
        vlm: The model; its tower must have a class token.
        scenes: What is shown.
        batch: Pictures at a time, from 1.

    Raises:
        BadInput: The tower is of another kind.
    """
    tower = getattr(getattr(vlm.model, "model", None), "vision_tower", None)
    if tower is None or tower.config.model_type != "clip_vision_model":
        kind = getattr(getattr(vlm.model.config, "vision_config", None), "model_type", "no tower")
        raise BadInput(
            f"{vlm.name} has {kind}. This study reads CLIP towers with a class token, such as reference:clean has."
        )
    maps = np.concatenate(list(_maps(vlm, tower, scenes, batch)))
    patch = int(tower.config.patch_size)
    things = np.stack([patch_things(scene, patch).reshape(-1) > 0 for scene in scenes])
    return Attention(_of_patches(maps.mean(2)), _of_patches(maps[:, :, 0]), things)


def _maps(vlm: vt.VLM, tower: Any, scenes: Sequence[Scene], batch: int) -> Iterator[np.ndarray]:
    """(scene, layer, query, key), mean over heads."""
    import torch

    tower.set_attn_implementation("eager")  # other kernels give no maps; the model is this script's own
    for start in range(0, len(scenes), batch):
        shown = [picture(scene) for scene in scenes[start : start + batch]]
        pixels = vlm.processor.image_processor(shown, return_tensors="pt")["pixel_values"]
        with torch.no_grad():
            found = tower(pixels.to(tower.device, tower.dtype), output_attentions=True).attentions
        yield torch.stack(found, 1).float().mean(2).cpu().numpy()


def _of_patches(rows: np.ndarray) -> np.ndarray:
    """Without the class token, and summing to 1."""
    rows = rows[..., 1:]
    return np.asarray(rows / rows.sum(-1, keepdims=True))


def preference(
    weights: Float[np.ndarray, "scene layer patch"], things: Bool[np.ndarray, "scene patch"]
) -> Values:
    """Share of the attention that falls on things, over their share of the picture; 1 is no preference.

    Args:
        weights: Attention, summing to 1 over patches.
        things: Which patches show a thing.
    """
    on_things = (weights * things[:, None]).sum(-1)
    return np.asarray(on_things / things.mean(-1, keepdims=True))


def best_on_things(
    weights: Float[np.ndarray, "scene layer patch"], things: Bool[np.ndarray, "scene patch"]
) -> Values:
    """The same of the most attended patches alone: how many of them show a thing, over the things' share.

    Args:
        weights: Attention.
        things: Which patches show a thing.
    """
    n = max(1, round(SHARE * weights.shape[-1]))
    best = np.argsort(-weights, axis=-1, kind="stable")[..., :n]
    hit = np.take_along_axis(np.broadcast_to(things[:, None], weights.shape), best, -1).mean(-1)
    return np.asarray(hit / things.mean(-1, keepdims=True))


def evenness(weights: Float[np.ndarray, "scene layer patch"]) -> Values:
    """Entropy over its largest value: 1 where every patch receives the same, 0 where one receives all.

    Args:
        weights: Attention, summing to 1 over patches.
    """
    logs = np.log(np.where(weights > 0, weights, 1.0))
    return np.asarray(-(weights * logs).sum(-1) / np.log(weights.shape[-1]))


def with_interval(values: Values, n_boot: int = 2000) -> list[Interval]:
    """Mean over scenes of each layer with its interval over scenes.

    Args:
        values: One per scene and layer.
        n_boot: Resamples of the scenes.
    """
    drawn = item_counts(len(values), n_boot).astype(float) @ values / len(values)
    low, high = percentile(drawn, n_items=len(values))
    return [(float(a), float(b), float(c)) for a, b, c in zip(values.mean(0), low, high, strict=True)]


def measures(seen: Attention) -> dict[str, list[Interval]]:
    """Everything the table shows, by column.

    Args:
        seen: Attention over the scenes.
    """
    return {
        "from all queries": with_interval(preference(seen.received, seen.things)),
        "top tenth of patches": with_interval(best_on_things(seen.received, seen.things)),
        "from the class token": with_interval(preference(seen.class_row, seen.things)),
        "evenness": with_interval(evenness(seen.received)),
        "evenness, from the class token": with_interval(evenness(seen.class_row)),
    }


def layers_of(n_layers: int) -> tuple[int, int]:
    """HiPrune's object layer and deep layer in a CLIP tower whose last layer but one is read, from 0.

    Args:
        n_layers: Of the tower, at least 2.
    """
    return min(round(8 / 23 * (n_layers - 1)), n_layers - 2), n_layers - 2


def table(found: Mapping[str, Sequence[Interval]]) -> str:
    """Markdown, one line per layer.

    Args:
        found: What `measures` gives.
    """
    lines = [f"| layer | {' | '.join(found)} |", "|---" * (len(found) + 1) + "|"]
    for number, row in enumerate(zip(*found.values(), strict=True), 1):
        lines.append(f"| {number} | " + " | ".join(f"{v:.2f} [{a:.2f}, {b:.2f}]" for v, a, b in row) + " |")
    return "\n".join(lines)


def verdict(seen: Attention) -> str:
    """The difference the assumption is about, with its paired interval, in two sentences.

    Args:
        seen: Attention over the scenes.
    """
    middle, deep = layers_of(seen.received.shape[1])
    said = []
    for name, values in (
        ("preference for things", preference(seen.received, seen.things)),
        ("preference of the most attended patches", best_on_things(seen.received, seen.things)),
        ("evenness", evenness(seen.received)),
    ):
        value, low, high = with_interval(values[:, [middle]] - values[:, [deep]])[0]
        said.append(f"{name} {value:+.3f} [{low:+.3f}, {high:+.3f}]")
    return f"Layer {middle + 1} minus layer {deep + 1}, the two that HiPrune takes here: {'; '.join(said)}."


def heat(weights: Float[np.ndarray, " patch"], most: float) -> Image.Image:
    """A map in one colour from white to dark, one pixel per patch.

    Args:
        weights: Attention of one layer.
        most: Drawn darkest.
    """
    side = int(len(weights) ** 0.5)
    share = np.clip(weights / most, 0, 1).reshape(side, side, 1)
    light, middle, dark = (np.array(one, float) for one in ((255, 250, 240), (237, 137, 54), (90, 20, 10)))
    colour = np.where(
        share < 0.5, light + (middle - light) * share * 2, middle + (dark - middle) * (share * 2 - 1)
    )
    return Image.fromarray(colour.astype(np.uint8))


def _embedded(shown: Image.Image, x: float, y: float, size: float) -> Markup:
    held = io.BytesIO()
    shown.save(held, "PNG")
    data = "data:image/png;base64," + base64.b64encode(held.getvalue()).decode()
    return tag("image", href=data, x=x, y=y, width=size, height=size, style="image-rendering: pixelated")


def _outlines(things: Bool[np.ndarray, " patch"], x: float, y: float, size: float) -> Iterator[Markup]:
    """Borders of the patches that show a thing."""
    side = int(len(things) ** 0.5)
    grid, cell = np.pad(things.reshape(side, side), 1), size / side
    for row in range(1, side + 1):
        for column in range(1, side + 1):
            left, top = x + (column - 1) * cell, y + (row - 1) * cell
            edges = (
                (grid[row - 1, column], (left, top, left + cell, top)),
                (grid[row + 1, column], (left, top + cell, left + cell, top + cell)),
                (grid[row, column - 1], (left, top, left, top + cell)),
                (grid[row, column + 1], (left + cell, top, left + cell, top + cell)),
            )
            for beside, ends in edges if grid[row, column] else ():
                if not beside:
                    drawn = dict(zip(("x1", "y1", "x2", "y2"), ends, strict=True))
                    yield tag("line", **drawn, stroke="#2b6cb0", stroke_width=1.6, stroke_linecap="round")


def examples(path: Path, scenes: Sequence[Scene], seen: Attention) -> None:
    """Scenes beside the attention that patches receive in every layer; outlines are the truth.

    Args:
        path: SVG file.
        scenes: The first ones looked at.
        seen: Attention over at least these.
    """
    size, gap, left, top = 104.0, 12.0, 16.0, 62.0
    n_layers = seen.received.shape[1]
    width = left * 2 + (n_layers + 1) * size + n_layers * gap
    marks = [words("Attention that patches receive, by layer", left, 26, font_size=14, font_weight="600")]
    marks.append(
        words("outlined: patches that show a thing", width - left, 26, font_size=11.5, text_anchor="end")
    )
    for column in range(n_layers + 1):
        name = f"layer {column}" if column else "scene"
        marks.append(words(name, left + column * (size + gap) + size / 2, top - 10, text_anchor="middle"))
    for row, scene in enumerate(scenes):
        y = top + row * (size + gap)
        marks.append(_embedded(picture(scene), left, y, size))
        for layer in range(n_layers):
            x, weights = left + (layer + 1) * (size + gap), seen.received[row, layer]
            marks.append(_embedded(heat(weights, 4 / len(weights)), x, y, size))
            marks += _outlines(seen.things[row], x, y, size)
    low = top + len(scenes) * (size + gap) + 10
    marks.append(words("white: none; darkest: four times an even share, or more", left, low, font_size=11.5))
    write(path, width, low + 14, "Scenes and the attention their patches receive in every layer", marks)


def plot(path: Path, found: Mapping[str, Sequence[Interval]]) -> None:
    """The curves.

    Args:
        path: SVG file.
        found: What `measures` gives.
    """
    left = {
        name: found[name] for name in ("from all queries", "top tenth of patches", "from the class token")
    }
    right = {
        "from all queries": found["evenness"],
        "from the class token": found["evenness, from the class token"],
    }
    title = "Attention on things, over their share of the picture"
    marks = curves(Box(0, 0, 420, 320), title, "layer", "times an even share", left, 1.0)
    marks += curves(
        Box(420, 0, 420, 320),
        "How even attention is over patches",
        "layer",
        "entropy, share of most",
        right,
        1.0,
    )
    write(path, 850, 330, "Attention of the vision tower by layer", marks)


def main() -> None:
    """Look, print, draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", nargs="?", default="reference:clean")
    parser.add_argument("--n", type=int, default=300, help="Scenes.")
    parser.add_argument("--shown", type=int, default=4, help="Scenes in the picture of examples.")
    parser.add_argument("--out", type=Path, default=Path("docs"), help="Folder of the two plots.")
    given = parser.parse_args()
    scenes = list(World(split="test").scenes(given.n))
    seen = look(vt.load(given.model), scenes)
    found = measures(seen)
    print(f"{given.model}, {given.n} scenes, things cover {seen.things.mean():.2f} of the patches\n")
    print(f"{table(found)}\n\n{verdict(seen)}")
    plot(given.out / "tower-attention.svg", found)
    examples(given.out / "tower-attention-scenes.svg", scenes[: given.shown], seen)


if __name__ == "__main__":
    main()
