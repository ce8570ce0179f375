"""A comparison of runs as one self-contained page: settings, tests, and the answers that changed, with pictures."""

from dataclasses import dataclass
from pathlib import Path

from vlmtools.compare import Comparison, Flip
from vlmtools.report.evaluation import head
from vlmtools.report.html import _environment
from vlmtools.report.media import Album, Picture

MOST_FLIPS = 60


@dataclass(frozen=True)
class FlipCard:
    """An answer that changed.

    Args:
        flip: The two answers.
        picture: What they are about; None without a picture.
    """

    flip: Flip
    picture: Picture | None = None


def html(
    found: Comparison, *, title: str = "", media_root: Path | None = None, max_flips: int = MOST_FLIPS
) -> str:
    """The page. The same comparison always gives the same text; everything models wrote is escaped.

    Args:
        found: What to show.
        title: Heading; empty for one made from the runs.
        media_root: Folder that relative picture paths start from.
        max_flips: Most changed answers shown.
    """
    album = Album(root=media_root, most=40)
    values = {
        **head(title or " against ".join(found.runs)),
        "found": found,
        "cards": [_card(flip, album) for flip in found.flips[:max_flips]],
    }
    return _environment().get_template("comparison.html.j2").render(values)


def _card(flip: Flip, album: Album) -> FlipCard:
    where = flip.before.detail.get("image")
    return FlipCard(flip, album.picture("image", str(where)) if where else None)
