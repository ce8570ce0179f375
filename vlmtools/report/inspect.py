"""One answer looked into, as one self-contained page: no network, no fonts, safe with anything a model wrote."""

import base64
from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from vlmtools.report._inspect_grid import Grid
from vlmtools.report._inspection import Inspection
from vlmtools.report._inspection import look as look
from vlmtools.report._kept import KeptView, draw, legend
from vlmtools.report._svg import tag
from vlmtools.report._text import number, one_line
from vlmtools.report._view import flat
from vlmtools.report.html import _environment, _hash, _resource
from vlmtools.report.media import Picture

LEVELS = 9


def page(found: Inspection) -> str:
    """The page. The same inspection always gives the same text.

    Everything models, files and people wrote is escaped, and the page carries a content security policy that allows its
    own style and script and nothing else.

    Args:
        found: What to show.
    """
    style = _resource("report.css") + _resource("inspect.css")
    script = _resource("inspect.js")
    values = {
        "policy": (
            f"default-src 'none'; img-src data:; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
            "base-uri 'none'; form-action 'none'"
        ),
        "style": Markup(style),
        "script": Markup(script),
        "found": found,
        "lede": _lede(found),
        "words": _words(found),
        "overlay": overlay(found.picture, found.grid, found.maps) if found.grid and found.picture.uri else "",
        "maps": base64.b64encode(found.maps).decode("ascii"),
        "vhd": heat(found.vhd, found.layers, "VHD", found.chosen, 3),
        "mass": heat(found.mass, found.layers, "attention to the picture", None, 2),
        "mean_mass": _mean(found.mass),
        "n_chosen": sum(map(len, found.chosen)) if found.chosen is not None else 0,
        "record": flat(found.record),
        "kept": [(view, draw(found.picture, view), legend(view)) for view in _views(found)],
    }
    return _environment().get_template("inspect.html.j2").render(values)


def _views(found: Inspection) -> tuple[KeptView, ...]:
    return found.kept.views if found.kept is not None and found.picture.uri else ()


def _lede(found: Inspection) -> str:
    n_heads = len(found.layers) * found.n_heads
    n_words = len(found.words)
    return (
        f"{one_line(found.model)} answered in {n_words} word{'s' * (n_words != 1)}. Its {n_heads:,} heads in "
        f"{len(found.layers)} layers gave the picture {number(100 * _mean(found.mass), 1)} % of their attention on "
        "average."
    )


def _mean(rows: Sequence[Sequence[float]]) -> float:
    values = [value for row in rows for value in row]
    return sum(values) / len(values) if values else 0.0


def _words(found: Inspection) -> list[dict[str, Any]]:
    """Each word with its blank in front and its colour, from the least to the most divergent."""
    values = [word.value for word in found.words]
    low, high = min(values, default=0.0), max(values, default=0.0)
    shares = [(value - low) / (high - low) if high > low else 0.0 for value in values]
    return [
        {
            "text": word.text.strip() or "⏎",
            "level": level_of(share),
            "said": f"T-VHD {number(word.value, 2)}, {word.n_tokens} token{'s' * (word.n_tokens != 1)}",
        }
        for word, share in zip(found.words, shares, strict=True)
    ]


def level_of(share: float) -> int:
    """The colour class of a share of the scale.

    Args:
        share: 0 to 1; beyond is cut.
    """
    return min(LEVELS - 1, max(0, int(share * LEVELS)))


def overlay(picture: Picture, grid: Grid, maps: bytes) -> Markup:
    """The picture under a veil that is thin where the model looked.

    Args:
        picture: As the model sees it.
        grid: Where its pieces lie.
        maps: The first of them is drawn; a script draws the others.
    """
    width, height = picture.width / grid.columns, picture.height / grid.rows
    cells = [
        tag(
            "rect",
            x=i % grid.columns * width,
            y=i // grid.columns * height,
            width=width,
            height=height,
            fill_opacity=_veil(value),
        )
        for i, value in enumerate(maps[: grid.n_cells])
    ]
    image = tag("image", href=picture.uri, width=picture.width, height=picture.height)
    said = "The picture; bright where the model looked"
    return tag(
        "svg",
        tag("title", said),
        image,
        tag("g", *cells, id="veil"),
        viewBox=f"0 0 {picture.width} {picture.height}",
        class_="seen",
        role="img",
        aria_label=said,
    )


def _veil(value: int) -> float:
    return 0.86 * (1 - value / 255)


CELL, LEFT, TOP = 15, 34, 20


def heat(
    rows: Sequence[Sequence[float]],
    layers: Sequence[int],
    name: str,
    chosen: Sequence[Sequence[int]] | None,
    digits: int,
) -> Markup:
    """Layers × heads, the last layer on top; darker is more.

    Args:
        rows: One per layer.
        layers: Their numbers.
        name: What is shown, for the titles.
        chosen: Heads of each layer to mark; None marks none.
        digits: Decimals in the titles.
    """
    if not rows:
        return Markup("")
    top = _ceiling([value for row in rows for value in row])
    n_heads = len(rows[0])
    body = [
        _cell(index, head, value, (len(rows) - 1 - index, layers[index]), (name, digits, top), chosen)
        for index, row in enumerate(rows)
        for head, value in enumerate(row)
    ]
    width, height = LEFT + CELL * n_heads + 2, TOP + CELL * len(rows) + 2
    said = f"{name} of every head: {len(rows)} layers, {n_heads} heads"
    return tag(
        "svg",
        tag("title", said),
        *_labels(layers, n_heads),
        *body,
        viewBox=f"0 0 {width} {height}",
        class_="heads",
        role="img",
        aria_label=said,
        width=min(2 * width, 520),
    )


def _ceiling(values: Sequence[float]) -> float:
    """Nearly the largest, so that one odd head does not pale all others."""
    ordered = sorted(values)
    return max(ordered[int(0.98 * (len(ordered) - 1))], 1e-12)


def _cell(
    index: int,
    head: int,
    value: float,
    place: tuple[int, int],
    shown: tuple[str, int, float],
    chosen: Sequence[Sequence[int]] | None,
) -> Markup:
    row, layer = place
    name, digits, top = shown
    marked = chosen is not None and head in chosen[index]
    said = f"layer {layer}, head {head}: {name} {number(value, digits)}{', strengthened by VHR' if marked else ''}"
    x, y = LEFT + CELL * head, TOP + CELL * row
    rect = tag(
        "rect",
        tag("title", said),
        x=x + 0.5,
        y=y + 0.5,
        width=CELL - 1,
        height=CELL - 1,
        class_=f"h f{level_of(value / top)}",
        data_layer=index,
        data_head=head,
        data_said=said,
    )
    mark = tag("circle", cx=x + CELL / 2, cy=y + CELL / 2, r=2.4, class_=f"mark m{level_of(value / top)}")
    return Markup(rect + mark) if marked else rect


def _labels(layers: Sequence[int], n_heads: int) -> list[Markup]:
    step = 1 if len(layers) <= 16 else 4
    down = [
        tag("text", str(layer), x=LEFT - 7, y=TOP + CELL * (len(layers) - 1 - index) + 11, text_anchor="end")
        for index, layer in enumerate(layers)
        if index % step == 0 or index == len(layers) - 1
    ]
    each = 1 if n_heads <= 16 else 4
    across = [
        tag("text", str(head), x=LEFT + CELL * (head + 0.5), y=TOP - 6, text_anchor="middle")
        for head in range(0, n_heads, each)
    ]
    return [*down, *across]
