"""Which visual tokens a pruner kept, drawn on the picture by the reason why."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from markupsafe import Markup

from vlmtools.report._svg import tag
from vlmtools.report.media import Picture

if TYPE_CHECKING:
    from vlmtools.pruning.base import Report, View

REASONS = {
    "anchor": "most attended in a middle layer of the vision tower",
    "buffer": "neighbours of the anchors",
    "register": "most attended in the deep layer",
    "diverse": "unlike what is kept already",
    "attended": "most attended",
    "dominant": "most attended",
    "contextual": "each gathers the tokens most like it",
    "cover": "each stands for tokens like it, where the clear words point",
    "prompt": "closest to the words of the prompt",
    "fused": "all others, melted into one",
    "kept": "",
}
MARKED = ("anchor", "fused")
"""Kinds with a dot on each token: they are few and easily overlooked."""
N_COLOURS = 5


@dataclass(frozen=True)
class KeptView:
    """One view of the picture.

    Args:
        name: What of the picture it shows, in words; empty when that is plain.
        rows: Tokens from top to bottom.
        columns: Tokens from left to right.
        kinds: Why → which tokens, in raster order; every kept token once.
    """

    name: str = ""
    rows: int = 0
    columns: int = 0
    kinds: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    @property
    def n_kept(self) -> int:
        """Tokens that stay."""
        return sum(map(len, self.kinds.values()))


@dataclass(frozen=True)
class Kept:
    """What pruning left of one prompt, and what the model answered to it.

    Args:
        method: The pruner and its settings, as typed.
        answer: To the pruned prompt.
        views: Those that show the whole picture.
        n_before: Visual tokens before, of all views, line ends and separators included.
        n_after: Visual tokens after.
        note: What is not drawn, in words; empty when everything is.
    """

    method: str = ""
    answer: str = ""
    views: tuple[KeptView, ...] = ()
    n_before: int = 0
    n_after: int = 0
    note: str = ""


def kept_of(report: "Report", kind: str, method: str, answer: str) -> Kept:
    """What a pruned call kept, as far as it can be drawn.

    Args:
        report: Of the call, about one prompt with one picture.
        kind: The model's `model_type`.
        method: The pruner and its settings.
        answer: What the model said.
    """
    whole = [(name, report.views[i]) for name, i in _whole(kind, len(report.views))]
    drawn = tuple(_view(name, one) for name, one in whole if 1 not in one.grid)
    left = len(report.views) - len(drawn)
    note = f"{left} further view{'s' * (left != 1)} of the picture, such as tiles, not drawn." if left else ""
    return Kept(method, answer, drawn, report.n_before, report.n_after, note)


def _whole(kind: str, n: int) -> list[tuple[str, int]]:
    """(name, number) of the views that show the whole picture."""
    if kind in ("llava_next", "llava_onevision") and n == 2:
        return [("The overview", 0), ("The tiles, side by side", 1)]
    if n > 1 and kind in ("internvl", "idefics3", "smolvlm"):
        return [("The view of the whole picture", n - 1)]
    return [("" if n == 1 else "The view of the whole picture", 0)] if n else []


def _view(name: str, view: "View") -> KeptView:
    chosen = view.selection
    merged = [] if chosen.merged_at is None else chosen.merged_at.tolist()
    open_ = {*chosen.kept.tolist(), *merged}
    kinds: dict[str, tuple[int, ...]] = {}
    for kind, tokens in chosen.kinds.items():
        kinds[kind] = tuple(sorted(open_ & set(tokens.tolist())))
        open_ -= set(kinds[kind])
    kinds["kept"] = tuple(sorted(open_))
    return KeptView(name, *view.grid, {kind: tokens for kind, tokens in kinds.items() if tokens})


def draw(picture: Picture, view: KeptView) -> Markup:
    """The picture, dark where tokens go, framed in the colour of the reason where they stay.

    Args:
        picture: As the model sees it.
        view: Which tokens stay.
    """
    cell = picture.width / view.columns, picture.height / view.rows
    kept = {token for tokens in view.kinds.values() for token in tokens}
    gone = [token for token in range(view.rows * view.columns) if token not in kept]
    said = f"{len(kept)} of {view.rows * view.columns} tokens stay"
    return tag(
        "svg",
        tag("title", said),
        tag("image", href=picture.uri, width=picture.width, height=picture.height),
        tag("path", d=_squares(gone, view.columns, cell, 0.0), class_="gone"),
        *(
            tag("g", *_marks(kind, tokens, view.columns, cell), class_=f"kept k{number % N_COLOURS}")
            for number, (kind, tokens) in enumerate(view.kinds.items())
        ),
        viewBox=f"0 0 {picture.width} {picture.height}",
        class_="seen",
        role="img",
        aria_label=said,
    )


def _marks(kind: str, tokens: Sequence[int], columns: int, cell: tuple[float, float]) -> list[Markup]:
    inset = min(2.0, 0.08 * min(cell))
    squares = tag(
        "path", tag("title", f"{kind}: {len(tokens)}"), d=_squares(tokens, columns, cell, inset),
        stroke_width=max(1.0, min(3.0, 0.1 * min(cell))),
    )  # fmt: skip
    dots = [
        tag(
            "circle",
            cx=(token % columns + 0.5) * cell[0],
            cy=(token // columns + 0.5) * cell[1],
            r=0.17 * min(cell),
        )
        for token in (tokens if kind in MARKED else ())
    ]
    return [squares, *dots]


def _squares(tokens: Sequence[int], columns: int, cell: tuple[float, float], inset: float) -> str:
    """One path of all squares."""
    width, height = (f"{side - 2 * inset:.2f}" for side in cell)
    corners = [(token % columns * cell[0] + inset, token // columns * cell[1] + inset) for token in tokens]
    return "".join(f"M{x:.2f} {y:.2f}h{width}v{height}h-{width}z" for x, y in corners)


def legend(view: KeptView) -> list[dict[str, str | int]]:
    """One line per reason: its colour, how many tokens, and what it means.

    Args:
        view: Which tokens stay.
    """
    return [
        {
            "colour": number % N_COLOURS,
            "kind": kind,
            "n": len(tokens),
            "reason": REASONS.get(kind, ""),
            "dot": int(kind in MARKED),
        }
        for number, (kind, tokens) in enumerate(view.kinds.items())
    ]
