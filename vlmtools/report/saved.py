"""A ranking that an earlier run saved, read back and written in any form."""

import json
from pathlib import Path
from typing import Literal

from vlmtools.crosscheck.ranking import Ranking
from vlmtools.errors import BadInput, suggest

Form = Literal["html", "md", "csv", "json"]

FORMS: tuple[Form, ...] = ("html", "md", "csv", "json")


def load_ranking(run: Path) -> Ranking:
    """Reads a run folder's `ranking.json`.

    Args:
        run: The run folder, or the file itself.

    Raises:
        BadInput: There is no such file, or it holds something else.
    """
    path = run / "ranking.json" if run.is_dir() else run
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInput(
            f"{str(path)!r} cannot be read ({error.strerror or error}). Give a run folder that holds a "
            "ranking.json, or that file; one is made with: vlmtools crosscheck --out FOLDER"
        ) from error
    except (ValueError, RecursionError) as error:
        raise BadInput(
            f"{str(path)!r} is not JSON ({error}). Give a run folder that holds a ranking.json, or that file."
        ) from error
    return Ranking.from_json(data)


def written(
    ranking: Ranking,
    form: str,
    *,
    title: str = "",
    inline_media: bool = True,
    max_claims: int = 100,
    media_root: Path | None = None,
) -> str:
    """The ranking as text.

    Args:
        ranking: What to write.
        form: One of `FORMS`.
        title: Heading of the page; empty for one made from the ranking.
        inline_media: Put pictures into the page.
        max_claims: Most of the worst claims in the page.
        media_root: Folder that relative paths of pictures are looked up in, after the current one.

    Raises:
        BadInput: There is no such form.
    """
    if form == "html":
        from vlmtools.report.html import html

        return html(
            ranking, title=title, inline_media=inline_media, max_claims=max_claims, media_root=media_root
        )
    if form == "md":
        from vlmtools.report.markdown import markdown

        return markdown(ranking)
    if form == "csv":
        from vlmtools.report.csv import csv

        return csv(ranking)
    if form == "json":
        return json.dumps(ranking.to_json(full=True), indent=1, ensure_ascii=True) + "\n"
    raise BadInput(f"A ranking cannot be written as {form!r}.{suggest(form, FORMS)}")
