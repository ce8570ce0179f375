"""A ranking as one self-contained page: no network, no fonts, safe with anything a model wrote."""

import base64
import hashlib
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from vlmtools.crosscheck.ranking import Ranking
from vlmtools.report import _svg, _view
from vlmtools.report._reading import facts, look, meaning, measured, reading
from vlmtools.report._text import clean, number, one_line, p_value, shorten, span
from vlmtools.report.media import Album

_TEMPLATES = Path(__file__).parent / "templates"


def html(
    ranking: Ranking,
    *,
    title: str = "",
    inline_media: bool = True,
    max_media: int = 40,
    max_claims: int = 100,
    media_root: Path | None = None,
) -> str:
    """The page. The same ranking and the same pictures always give the same text: no clock, no random names.

    Everything models, files and people wrote is escaped. The page also carries a content security policy that
    allows its own style and script by their hash and nothing else, so that markup that slipped through could
    not run.

    Args:
        ranking: What to show.
        title: Heading; empty for one made from the ranking.
        inline_media: Put pictures into the page, shrunk to 320 pixels. False reads no picture.
        max_media: Most pictures; the others become a line that names the file.
        max_claims: Most of the worst claims.
        media_root: Folder that relative paths of pictures are looked up in, after the current one.
    """
    album = Album(root=media_root, most=max_media) if inline_media else None
    values = {**_head(ranking, title), **_tables(ranking), **_claims(ranking, max_claims, album)}
    return _environment().get_template("report.html.j2").render(values)


def _head(ranking: Ranking, title: str) -> dict[str, Any]:
    known = facts(ranking)
    style, script = _resource("report.css"), _resource("report.js")
    return {
        "title": one_line(title) if title else f"Hallucination ranking of {known.n_models} models",
        "style": Markup(style),
        "script": Markup(script),
        "policy": (
            f"default-src 'none'; img-src data:; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
            "base-uri 'none'; form-action 'none'"
        ),
        "facts": known,
        "measured": measured(known),
        "meaning": meaning(known),
        "reading": reading(ranking),
        "warnings": ranking.warnings,
    }


def _tables(ranking: Ranking) -> dict[str, Any]:
    command = look(ranking.record, "command")
    return {
        "rows": ranking.rows,
        "ranked": _view.ranked(ranking, facts(ranking)),
        "ticks": _svg.interval_axis(_view.scale_of(ranking)),
        "figures": _view.figures(ranking.rows),
        "matrix": _view.matrix(ranking),
        "scatter": _svg.scatter(ranking.rows) if ranking.rows else "",
        "pairs": ranking.pairs,
        "moved": _view.moved(ranking),
        "record": _view.flat(ranking.record),
        "command": " ".join(map(str, command)) if isinstance(command, list | tuple) else command or "",
    }


def _claims(ranking: Ranking, most: int, album: Album | None) -> dict[str, Any]:
    cards = _view.cards(ranking.worst[:most], album)
    return {
        "cards": cards,
        "models": list(dict.fromkeys(card.claim.model for card in cards)),
        "n_worst": len(ranking.worst),
    }


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
        lstrip_blocks=True,
        finalize=_cleaned,
    )
    environment.filters.update(
        number=number, p=p_value, line=one_line, span=lambda ends: span(*ends), brief=_brief, excerpt=_excerpt
    )
    return environment


def _cleaned(value: Any) -> Any:
    """Last station of every value a template writes: strings are cleaned here, then escaped by Jinja."""
    return clean(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _brief(name: str) -> str:
    return shorten(one_line(name), 22)


def _excerpt(claim: str) -> str:
    return shorten(one_line(claim), 120)


@cache
def _resource(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """The text's name in a content security policy."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
