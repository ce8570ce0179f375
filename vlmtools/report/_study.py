"""Curves as small multiples in one SVG file: a row per method, a column per metric, the baseline behind each."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup

from vlmtools.report._svg import Axis, axis, tag

Point = tuple[float, float, float, float]
"""Share kept, value, lower and upper end of its interval."""
Place = Callable[[float, float], tuple[float, float]]
"""Share and value → where they lie."""
WIDTH, HEIGHT, GAP, LEFT, TOP = 158, 78, 32, 136, 92
STYLE = (
    "text{font:12px system-ui,'Segoe UI',Roboto,'Noto Sans','DejaVu Sans',sans-serif;fill:#4a545d}"
    ".name{font-weight:600;fill:#1d2328;font-size:13px}.head{font-weight:600;fill:#1d2328}.tick{font-size:10.5px}"
    ".frame{fill:#fbfbf9;stroke:#dfe2e0}.grid{stroke:#e9ebe9}.whole{stroke:#1d2328;stroke-dasharray:4 3}"
    ".line{fill:none;stroke-width:2}"
    ".mine{fill:#a63c14;stroke:#a63c14}.chance{fill:#7d8790;stroke:#7d8790}"
    ".band{stroke:none;fill-opacity:.2}"
    "path.line.mine,path.line.chance{fill:none}.dot{stroke:none}"
)


@dataclass(frozen=True)
class Column:
    """One metric of one model.

    Args:
        model: Its name.
        metric: In words.
        whole: Value with everything kept.
        wholes: Method → its own value with everything kept, where methods differ in that.
        chance: The baseline that is drawn behind every method; empty for none.
        curves: Method → its points.
    """

    model: str = ""
    metric: str = ""
    whole: float = 0.0
    chance: tuple[Point, ...] = ()
    curves: Mapping[str, tuple[Point, ...]] = field(default_factory=dict)
    wholes: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Words:
    """What stands around the panels.

    Args:
        title: Of the file.
        mine: What the curves are.
        chance: What the baseline is; empty where there is none.
        whole: What the dashed line is.
        below: What the horizontal axis is.
    """

    title: str = "Each method against random choice, by share of visual tokens kept"
    mine: str = "the method, with 95 % interval"
    chance: str = "random, mean of seeds"
    whole: str = "all tokens"
    below: str = "visual tokens kept"


def small_multiples(columns: Sequence[Column], methods: Sequence[str], words: Words = Words()) -> str:
    """The whole file.

    Args:
        columns: From left to right; each has a scale of its own, which all its rows share.
        methods: From top to bottom.
        words: What stands around the panels.
    """
    width = max(LEFT + len(columns) * (WIDTH + GAP) + 6, LEFT + 750)  # the legend needs this much
    height = TOP + len(methods) * (HEIGHT + 12) + 34
    body = [piece for i, column in enumerate(columns) for piece in _column(column, methods, i)]
    names = [piece for row, name in enumerate(methods) for piece in _name(name, _top(row) + HEIGHT / 2 + 4)]
    below = tag("text", words.below, x=LEFT, y=height - 6)
    return str(
        tag(
            "svg",
            tag("title", words.title),
            tag("style", Markup(STYLE)),
            tag("rect", width=width, height=height, fill="#ffffff"),
            *_legend(words),
            *names,
            *body,
            below,
            xmlns="http://www.w3.org/2000/svg",
            viewBox=f"0 0 {width} {height}",
            width=width,
            height=height,
        )
    )


def _name(method: str, middle: float) -> list[Markup]:
    """The method's name; settings after a colon stand below it."""
    name, _, settings = method.partition(":")
    said = [tag("text", name, x=LEFT - 42, y=middle, text_anchor="end", class_="name")]
    if settings:
        said.append(tag("text", settings, x=LEFT - 42, y=middle + 15, text_anchor="end"))
    return said


def _legend(words: Words) -> list[Markup]:
    said = [
        ("mine", words.mine, LEFT),
        ("chance", words.chance, LEFT + 230),
        ("whole", words.whole, LEFT + 410),
    ]
    ways = tag("text", "↑ more is better   ↓ less is better", x=LEFT + 520, y=22)
    marks = [
        piece
        for kind, text, x in said
        if text
        for piece in (
            tag("line", x1=x, x2=x + 22, y1=18, y2=18, class_=kind, stroke_width=2),
            tag("text", text, x=x + 29, y=22),
        )
    ]
    return [*marks, ways]


def _top(row: int) -> float:
    return TOP + row * (HEIGHT + 12)


def _column(column: Column, methods: Sequence[str], number: int) -> list[Markup]:
    left = LEFT + number * (WIDTH + GAP)
    known = [point for curve in (column.chance, *column.curves.values()) for point in curve]
    scale = axis(
        [column.whole, *column.wholes.values(), *(end for point in known for end in point[1:])], most=5
    )
    least = min((point[0] for point in known), default=0.5)
    heads = [
        tag("text", column.model, x=left, y=TOP - 34),
        tag("text", column.metric, x=left, y=TOP - 17, class_="head"),
    ]
    panels = [
        piece
        for row, name in enumerate(methods)
        for piece in _panel(column, name, scale, least, (left, _top(row)))
    ]
    shares = sorted({point[0] for point in known} | {1.0})
    bottom = _top(len(methods) - 1) + HEIGHT + 13
    shown = [share for i, share in enumerate(shares) if i % 2 == (len(shares) - 1) % 2]
    ticks = [
        tag(
            "text",
            f"{100 * share:g} %",
            x=left + _x(share, least),
            y=bottom,
            text_anchor="middle",
            class_="tick",
        )
        for share in shown
    ]
    return [*heads, *panels, *ticks]


def _x(share: float, least: float) -> float:
    """Shares lie on a logarithmic scale: each halving is one step."""
    return 6 + (WIDTH - 12) * (math.log(share / least) / math.log(1 / least) if least < 1 else 1.0)


def _panel(
    column: Column, method: str, scale: Axis, least: float, corner: tuple[float, float]
) -> list[Markup]:
    curve, kept = column.curves.get(method, ()), column.wholes.get(method, column.whole)
    left, top = corner

    def at(share: float, value: float) -> tuple[float, float]:
        return left + _x(share, least), scale.at(value, top + HEIGHT - 4, top + 4)

    level = at(1.0, kept)[1]
    frame = tag("rect", x=left, y=top, width=WIDTH, height=HEIGHT, class_="frame")
    grid = []
    for tick in scale.ticks:
        y = at(1.0, tick)[1]
        grid.append(tag("line", x1=left, x2=left + WIDTH, y1=y, y2=y, class_="grid"))
        grid.append(tag("text", scale.label(tick), x=left - 4, y=y + 4, text_anchor="end", class_="tick"))
    whole = tag("line", x1=left, x2=left + WIDTH, y1=level, y2=level, class_="whole")
    end: Point = (1.0, kept, kept, kept)
    drawn = [
        piece
        for kind, points in (("chance", column.chance), ("mine", curve))
        for piece in (_curve(kind, [*sorted(points), end], at) if points else [])
    ]
    return [frame, *grid, whole, *drawn]


def _curve(kind: str, points: Sequence[Point], at: Place) -> list[Markup]:
    upper = [at(share, high) for share, _, _, high in points]
    lower = [at(share, low) for share, _, low, _ in reversed(points)]
    line = [at(share, value) for share, value, _, _ in points]
    said = "; ".join(
        f"{100 * share:g} %: {value:.3f} [{low:.3f}, {high:.3f}]" for share, value, low, high in points
    )
    dots = [tag("circle", cx=x, cy=y, r=2.4, class_=f"dot {kind}") for x, y in line[:-1]]
    return [
        tag("path", d=_path([*upper, *lower]) + "z", class_=f"band {kind}"),
        tag("path", tag("title", said), d=_path(line), class_=f"line {kind}"),
        *(dots if kind == "mine" else []),
    ]


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
