"""An evaluation as one self-contained page, and the files of its folder."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from vlmtools.benchmarks._evaluation import Evaluation, Metric
from vlmtools.benchmarks.base import Row
from vlmtools.report import _view
from vlmtools.report.html import _environment, _hash, _resource
from vlmtools.report.media import Album, Picture
from vlmtools.store import Store
from vlmtools.store.files import write_whole
from vlmtools.types import Json

MOST_ROWS = 60


@dataclass(frozen=True)
class Card:
    """One answer in the page.

    Args:
        row: The answer.
        picture: What it was about; None without a picture.
        more: Lines under the answer.
    """

    row: Row
    picture: Picture | None = None
    more: tuple[str, ...] = ()


def html(
    found: Evaluation, *, title: str = "", media_root: Path | None = None, max_rows: int = MOST_ROWS
) -> str:
    """The page: metrics with intervals, controls, warnings, wrong and unread answers, the record.

    The same evaluation always gives the same text; everything models wrote is escaped.

    Args:
        found: What to show.
        title: Heading; empty for one made from the evaluation.
        media_root: Folder that relative picture paths start from.
        max_rows: Most answers shown.
    """
    wrong = [row for row in found.rows if row.correct is False or row.parsed is None]
    controls = found.record.get("controls", {})
    values = {
        **head(
            title
            or f"{found.bench} ({found.protocol}): {found.record.get('model', {}).get('name', 'answers')}"
        ),
        "found": found,
        "bars": {name: bar(metric) for name, metric in found.metrics.items()},
        "lines": dict(controls.get("model") or {}).get("lines", []),
        "controls": _view.flat(_without_sentences(controls)) if controls else [],
        "warnings": found.record.get("warnings", []),
        "cards": cards(wrong[:max_rows], media_root),
        "n_wrong": len(wrong),
        "record": _view.flat({k: v for k, v in found.record.items() if k not in ("controls", "warnings")}),
    }
    return _environment().get_template("evaluation.html.j2").render(values)


def head(title: str) -> dict[str, Any]:
    """What every page begins with; no script, so the policy allows none."""
    style = _resource("report.css") + _resource("evaluation.css")
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_hash(style)}'; base-uri 'none'; form-action 'none'"
    )
    return {"title": title, "style": Markup(style), "policy": policy}


def bar(metric: Metric, scale: float = 1.0) -> Markup:
    """The value as a dot on its interval, on an axis from 0 to `scale`; nothing when it does not fit."""
    low, high = metric.ci
    if not all(0 <= end <= scale for end in (low, metric.value, high)):
        return Markup("")
    x = [round(200 * end / scale, 1) for end in (low, metric.value, high)]
    return Markup(
        '<svg class="bar" width="204" height="14" viewBox="-2 0 204 14" aria-hidden="true">'
        f'<line x1="0" x2="200" y1="7" y2="7" class="axis"/><line x1="{x[0]}" x2="{x[2]}" y1="7" y2="7" class="ci"/>'
        f'<circle cx="{x[1]}" cy="7" r="3.5"/></svg>'
    )


def cards(
    rows: Iterable[Row], media_root: Path | None = None, more: Mapping[str, tuple[str, ...]] | None = None
) -> list[Card]:
    """Answers with their pictures.

    Args:
        rows: What to show.
        media_root: Folder that relative picture paths start from.
        more: Row id → lines under the answer.
    """
    album = Album(root=media_root, most=40)
    return [Card(row, _picture(row, album), (more or {}).get(row.id, ())) for row in rows]


def write_outputs(place: Path | Store, found: Evaluation, media_root: Path | None = None) -> None:
    """Write evaluation.json (with every row) and report.html, each whole or not at all.

    Args:
        place: A folder, or the open run folder.
        found: What to write.
        media_root: Folder that relative picture paths start from.
    """
    for name, text in (
        ("evaluation.json", _json(found.to_json(full=True))),
        ("report.html", html(found, media_root=media_root)),
    ):
        if isinstance(place, Store):
            place.write_file(name, text)
        else:
            write_whole(place / name, text.encode("utf-8", "backslashreplace"))


def _without_sentences(controls: Mapping[str, Json]) -> dict[str, Json]:
    """Controls without the sentences that are shown above them, numbers to four digits."""
    model = {k: v for k, v in dict(controls.get("model") or {}).items() if k not in ("lines", "warnings")}
    kept = {**controls, **({"model": model} if model else {})}
    return {name: _short(value) for name, value in kept.items() if value or name != "model"}


def _short(value: Json) -> Json:
    if isinstance(value, Mapping):
        return {name: _short(inner) for name, inner in value.items()}
    return float(f"{value:.4g}") if isinstance(value, float) else value


def _json(value: Json) -> str:
    return json.dumps(value, indent=1, ensure_ascii=True) + "\n"


def _picture(row: Row, album: Album) -> Picture | None:
    where = row.detail.get("image")
    return album.picture("image", str(where)) if where else None
