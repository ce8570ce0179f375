"""Plots as inline SVG, drawn by hand: no library, no fonts, colours come from the page's style sheet."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from vlmtools.crosscheck.ranking import Row
from vlmtools.report._text import clean, number, one_line, span


def tag(name: str, *inside: str, **attributes: str | float) -> Markup:
    """One element; texts and attributes are escaped, `Markup` stays, `_` in attribute names is `-`.

    Args:
        name: Name of the element.
        inside: Texts and elements it holds.
        attributes: `class_` is written `class`; numbers are rounded to two decimals.
    """
    pairs = "".join(f' {_attribute(key)}="{_value(value)}"' for key, value in attributes.items())
    body = "".join(_value(one) for one in inside)
    return Markup(f"<{name}{pairs}>{body}</{name}>")


def _attribute(key: str) -> str:
    return "viewBox" if key == "viewBox" else key.rstrip("_").replace("_", "-")


def _value(value: str | float) -> str:
    if isinstance(value, Markup):
        return str(value)
    return str(escape(clean(value))) if isinstance(value, str) else f"{value:.2f}".rstrip("0").rstrip(".")


@dataclass(frozen=True)
class Axis:
    """A linear scale from `low` to `high` with round ticks.

    Args:
        low: Value at the left (or lower) end.
        high: Value at the other end.
        ticks: Values to label.
        digits: Decimals the labels need.
    """

    low: float = 0.0
    high: float = 1.0
    ticks: tuple[float, ...] = (0.0, 0.5, 1.0)
    digits: int = 1

    def at(self, value: float, start: float = 0.0, end: float = 100.0) -> float:
        """Where a value lies between `start` and `end`; values beyond the axis stay at its ends."""
        share = (value - self.low) / (self.high - self.low)
        return start + (end - start) * min(1.0, max(0.0, share))

    def label(self, value: float) -> str:
        """A tick's text."""
        return number(value, self.digits)


def axis(values: Sequence[float], most: int = 6, floor: float | None = 0.0) -> Axis:
    """An axis that holds all values with a little room at both ends.

    Args:
        values: Those that are not finite are passed over.
        most: Most ticks, at least 2.
        floor: The axis does not go below it; None for no limit.
    """
    known = [value for value in values if math.isfinite(value)] or [0.0, 1.0]
    room = 0.06 * (max(known) - min(known)) or 0.05
    low, high = min(known) - room, max(known) + room
    low = low if floor is None else max(floor, low)
    step = _step(high - low, most)
    ticks = tuple(step * index for index in range(math.ceil(low / step), math.floor(high / step) + 1))
    return Axis(low, high, ticks, max(0, -math.floor(math.log10(step) + 1e-9)))


def _step(width: float, most: int) -> float:
    power = 10.0 ** math.floor(math.log10(width / most))
    return next(size * power for size in (1, 2, 5, 10) if width / (size * power) <= most)


def _inset(share: float) -> str:
    """A position in per cent of a plot that keeps 3 % free at both sides, for dots at its ends."""
    return f"{3 + 0.94 * share:.2f}%"


def interval(row: Row, scale: Axis, level: str) -> Markup:
    """One row's score as a dot on its interval, on the axis that all rows share."""
    low, dot, high = (_inset(scale.at(value)) for value in (row.ci[0], row.score, row.ci[1]))
    grid = [tag("line", x1=x, x2=x, y1=0, y2="100%", class_="grid") for x in _ticks(scale)]
    ends = " to ".join(number(end) for end in row.ci)
    said = f"{one_line(row.name)}: {number(row.score)}, {level} interval {ends}"
    marks = [
        tag("line", x1=low, x2=high, y1=21, y2=21, class_="whisker"),
        *(tag("line", x1=x, x2=x, y1=17, y2=25, class_="whisker") for x in (low, high)),
        tag("circle", cx=dot, cy=21, r=4.5, class_="dot"),
    ]
    return tag(
        "svg", tag("title", said), *grid, *marks, class_="plot", height=42, role="img", aria_label=said
    )


def interval_axis(scale: Axis) -> Markup:
    """The labels of the axis that all intervals share."""
    labels = [
        tag("text", scale.label(tick), x=x, y=12, text_anchor="middle")
        for tick, x in zip(scale.ticks, _ticks(scale), strict=True)
    ]
    return tag("svg", *labels, class_="plot ticks", height=16, aria_hidden="true")


def _ticks(scale: Axis) -> list[str]:
    return [_inset(scale.at(tick)) for tick in scale.ticks]


def rank_interval(row: Row, n_models: int) -> Markup:
    """Where on the scale of ranks a model may stand."""
    scale = Axis(1.0, float(max(2, n_models)))
    low, dot, high = (_inset(scale.at(value)) for value in (row.rank_ci[0], row.rank, row.rank_ci[1]))
    marks = [
        tag("line", x1=_inset(0), x2=_inset(100), y1=8, y2=8, class_="grid"),
        tag("line", x1=low, x2=high, y1=8, y2=8, class_="whisker"),
        tag("circle", cx=dot, cy=8, r=2.5, class_="dot"),
    ]
    said = f"ranks {span(*row.rank_ci)}"
    return tag("svg", *marks, class_="plot ranks", height=16, role="img", aria_label=said)


_WIDE, _TALL, _LEFT, _RIGHT, _TOP, _LOW = 560, 330, 60, 20, 16, 282
"""Size of the scatter plot and the edges of its frame."""


def scatter(rows: Sequence[Row]) -> Markup:
    """Score against claims per answer; each dot carries its model's rank."""
    across = axis([row.claims_per_item for row in rows])
    up = axis([value for row in rows for value in (row.score, *row.ci)], most=5)
    frame = [*_across(across), *_up(up)]
    dots = [_dot(row, across, up) for row in reversed(rows) if math.isfinite(row.score + row.claims_per_item)]
    said = f"Scatter plot of {len(rows)} models: hallucination score against claims per answer"
    box = f"0 0 {_WIDE} {_TALL}"
    return tag(
        "svg", tag("title", said), *frame, *dots, class_="scatter", viewBox=box, role="img", aria_label=said
    )


def _across(scale: Axis) -> list[Markup]:
    xs = [scale.at(tick, _LEFT, _WIDE - _RIGHT) for tick in scale.ticks]
    lines = [tag("line", x1=x, x2=x, y1=_TOP, y2=_LOW, class_="grid") for x in xs]
    labels = [
        tag("text", scale.label(tick), x=x, y=_LOW + 18, text_anchor="middle")
        for tick, x in zip(scale.ticks, xs, strict=True)
    ]
    middle = (_LEFT + _WIDE - _RIGHT) / 2
    return [
        *lines,
        *labels,
        tag("text", "claims per answer", x=middle, y=_TALL - 8, text_anchor="middle", class_="name"),
    ]


def _up(scale: Axis) -> list[Markup]:
    ys = [scale.at(tick, _LOW, _TOP) for tick in scale.ticks]
    lines = [tag("line", x1=_LEFT, x2=_WIDE - _RIGHT, y1=y, y2=y, class_="grid") for y in ys]
    labels = [
        tag("text", scale.label(tick), x=_LEFT - 8, y=y + 4, text_anchor="end")
        for tick, y in zip(scale.ticks, ys, strict=True)
    ]
    middle = (_TOP + _LOW) / 2
    turn = f"rotate(-90 14 {middle:g})"
    name = tag(
        "text", "score (lower is better)", x=14, y=middle, text_anchor="middle", transform=turn, class_="name"
    )
    return [*lines, *labels, name]


def _dot(row: Row, across: Axis, up: Axis) -> Markup:
    x = across.at(row.claims_per_item, _LEFT, _WIDE - _RIGHT)
    low, y, high = (up.at(value, _LOW, _TOP) for value in (row.ci[0], row.score, row.ci[1]))
    figures = f"{number(row.claims_per_item, 1)} claims, score {number(row.score)}"
    said = f"{row.rank}: {one_line(row.name)}, {figures}"
    return tag(
        "g",
        tag("title", said),
        tag("line", x1=x, x2=x, y1=low, y2=high, class_="whisker"),
        tag("circle", cx=x, cy=y, r=9, class_="badge"),
        tag("text", str(row.rank), x=x, y=y + 3.6, text_anchor="middle", class_="badge-text"),
    )
