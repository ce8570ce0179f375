"""Small plots of the studies: SVG files without fonts or libraries, for light and dark pages alike."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from vlmtools.report._svg import Axis, axis, tag

COLOURS = ("#2b6cb0", "#c05621", "#2f855a", "#6b46c1", "#b83280", "#4a5568")
INK, FAINT = "#2d3748", "#e2e8f0"
_FONT = "system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif"
_TOP, _LOW, _SIDE = 60.0, 46.0, 62.0


@dataclass(frozen=True)
class Box:
    """Where a panel lies.

    Args:
        left: Pixels from the left edge of the plot.
        top: Pixels from its upper edge.
        width: Of the panel, labels included.
        height: Of the panel, labels included.
    """

    left: float = 0.0
    top: float = 0.0
    width: float = 380.0
    height: float = 300.0

    def across(self, scale: Axis, value: float) -> float:
        """Pixels from the left of a value on the horizontal axis."""
        return scale.at(value, self.left + _SIDE, self.left + self.width - 16)

    def up(self, scale: Axis, value: float) -> float:
        """Pixels from the top of a value on the vertical axis."""
        return scale.at(value, self.top + self.height - _LOW, self.top + _TOP)


def words(said: str, x: float, y: float, **more: str | float) -> Markup:
    """A line of text."""
    given: dict[str, str | float] = {"fill": INK, "font_size": 12, **more}
    return tag("text", said, x=x, y=y, **given)


def line(x1: float, y1: float, x2: float, y2: float, **more: str | float) -> Markup:
    """A straight line."""
    given: dict[str, str | float] = {"stroke": INK, "stroke_width": 1.5, **more}
    return tag("line", x1=x1, y1=y1, x2=x2, y2=y2, **given)


def dot(x: float, y: float, colour: str, said: str = "", radius: float = 4.5) -> Markup:
    """A filled circle; `said` is shown when the pointer rests on it."""
    rim: dict[str, str | float] = {"stroke": "#ffffff", "stroke_width": 1.0}
    return tag("circle", tag("title", said), cx=x, cy=y, r=radius, fill=colour, **rim)


def frame(box: Box, title: str, x_name: str, y_name: str, x: Axis, y: Axis) -> list[Markup]:
    """Title, grid, ticks and names of both axes."""
    left, right = box.left + _SIDE, box.left + box.width - 16
    top, low = box.top + _TOP, box.top + box.height - _LOW
    found = [words(title, left, box.top + 22, font_size=13.5, font_weight="600")]
    for tick in y.ticks:
        at = box.up(y, tick)
        found.append(line(left, at, right, at, stroke=FAINT, stroke_width=1))
        found.append(words(y.label(tick), left - 8, at + 4, text_anchor="end", font_size=11))
    for tick in x.ticks:
        at = box.across(x, tick)
        found.append(line(at, low, at, low + 4, stroke_width=1))
        found.append(words(x.label(tick), at, low + 17, text_anchor="middle", font_size=11))
    found.append(line(left, low, right, low, stroke_width=1))
    middle = (top + low) / 2
    turn = f"rotate(-90 {box.left + 16:g} {middle:g})"
    found.append(words(x_name, (left + right) / 2, low + 36, text_anchor="middle"))
    found.append(words(y_name, box.left + 16, middle, text_anchor="middle", transform=turn))
    return found


def level(box: Box, y: Axis, value: float) -> Markup:
    """A dashed line at a value of the vertical axis."""
    at = box.up(y, value)
    left, right = box.left + _SIDE, box.left + box.width - 16
    return line(left, at, right, at, stroke_dasharray="4 4", stroke="#718096", stroke_width=1.2)


Curve = Sequence[tuple[float, float, float]]
"""Value, lower and upper end at 1, 2, 3, …"""


def curves(
    box: Box, title: str, x_name: str, y_name: str, drawn: Mapping[str, Curve], even: float
) -> list[Markup]:
    """Lines with their intervals over 1, 2, 3, …, and a legend.

    Args:
        box: Where.
        title: Above.
        x_name: Under the horizontal axis.
        y_name: Beside the vertical one.
        drawn: Name → curve.
        even: Value of a dashed line: nothing preferred.
    """
    n = max(len(one) for one in drawn.values())
    x = Axis(0.6, n + 0.4, tuple(map(float, range(1, n + 1))), 0)
    ends = [end for one in drawn.values() for point in one for end in point if math.isfinite(end)]
    y = axis([*ends, even], most=6)
    found = [*frame(box, title, x_name, y_name, x, y), level(box, y, even)]
    for number, points in enumerate(drawn.values()):
        shift = (number - (len(drawn) - 1) / 2) * 0.12
        found += _curve(box, x, y, points, COLOURS[number], shift)
    found += legend(box.left + _SIDE + 5, box.top + 42, list(drawn))
    return found


def _curve(box: Box, x: Axis, y: Axis, points: Curve, colour: str, shift: float) -> list[Markup]:
    places = [(box.across(x, number + shift), point) for number, point in enumerate(points, 1)]
    path = " ".join(f"{at:.1f},{box.up(y, value):.1f}" for at, (value, _, _) in places)
    found = [tag("polyline", points=path, fill="none", stroke=colour, stroke_width=2)]
    for at, (value, low, high) in places:
        found.append(line(at, box.up(y, low), at, box.up(y, high), stroke=colour))
        found.append(dot(at, box.up(y, value), colour, f"{value:.3f} [{low:.3f}, {high:.3f}]"))
    return found


@dataclass(frozen=True)
class Dot:
    """One point of a scatter plot.

    Args:
        x: Across.
        y: Up.
        group: Decides the colour, from 0.
        name: Shown when the pointer rests on it.
    """

    x: float = 0.0
    y: float = 0.0
    group: int = 0
    name: str = ""


def scatter(
    box: Box, title: str, x_name: str, y_name: str, dots: Sequence[Dot], named: int = 3
) -> list[Markup]:
    """Points, the farthest up of them named, with a dashed line at 0.

    Args:
        box: Where.
        title: Above.
        x_name: Under the horizontal axis.
        y_name: Beside the vertical one.
        dots: The points.
        named: How many carry their name.
    """
    x = axis([one.x for one in dots], most=5)
    y = axis([0.0, *(one.y for one in dots)], most=5, floor=None)
    found = [*frame(box, title, x_name, y_name, x, y), level(box, y, 0.0)]
    for one in dots:
        said = f"{one.name}: {one.x:.3g}, {one.y:+.3f}"
        found.append(dot(box.across(x, one.x), box.up(y, one.y), COLOURS[one.group % len(COLOURS)], said, 5))
    for one in sorted(dots, key=lambda each: -each.y)[:named]:
        at, right = box.across(x, one.x), box.left + box.width - 60
        beside = {"text_anchor": "end"} if at > right else {}
        put = at - 9 if at > right else at + 9
        found.append(words(one.name, put, box.up(y, one.y) + 4, font_size=11, **beside))
    return found


def legend(left: float, top: float, names: Sequence[str]) -> list[Markup]:
    """Coloured dots with their names, in a row."""
    found: list[Markup] = []
    for number, name in enumerate(names):
        found += [
            dot(left, top, COLOURS[number % len(COLOURS)]),
            words(name, left + 9, top + 4, font_size=11.5),
        ]
        left += 26 + 6.2 * len(name)
    return found


def write(path: Path, width: float, height: float, title: str, marks: Sequence[Markup]) -> None:
    """One SVG file on a white card.

    Args:
        path: Where; its folder is made.
        width: In pixels.
        height: In pixels.
        title: Read out to those who cannot see it.
        marks: What is drawn.
    """
    card = tag("rect", width=width, height=height, rx=8, fill="#ffffff")
    about: dict[str, str | float] = {
        "viewBox": f"0 0 {width:g} {height:g}",
        "role": "img",
        "font_family": _FONT,
    }
    about |= {"width": width, "height": height, "xmlns": "http://www.w3.org/2000/svg"}
    whole = tag("svg", tag("title", title), card, *marks, **about)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{whole}\n", encoding="utf-8")
