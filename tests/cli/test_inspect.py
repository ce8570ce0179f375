"""`vlmtools inspect` writes a page about one answer of a model in a folder."""

import re
from pathlib import Path
from typing import Any

import pytest
import tiny_models
import typer
from typer.testing import CliRunner

from vlmtools.cli.inspect import inspect
from vlmtools.errors import BadInput

APP = typer.Typer()
APP.command()(inspect)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("inspect")
    tiny_models.llava(place / "llava")
    tiny_models.picture(place, size=(40, 30), name="picture.png")
    return place


def run(folder: Path, *more: str) -> Any:
    words = [
        str(folder / "llava"),
        str(folder / "picture.png"),
        "--prompt",
        "A dog <b>?",
        "--device-map",
        "cpu",
    ]
    return CliRunner().invoke(
        APP, [*words, "--max-new-tokens", "6", "--offline", *more], catch_exceptions=False
    )


def test_the_page_is_written_and_holds_answer_heads_and_record(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    done = run(folder, "--out", str(out))
    assert done.exit_code == 0
    assert f"Wrote {out}" in done.output
    text = out.read_text(encoding="utf-8")
    assert "A dog &lt;b&gt;?" in text
    assert text.count("data-head=") == 2 * 2 * 4, "two maps of two layers of four heads"
    assert len(re.findall(r'class="mark', text)) == 4, "VHR chooses half of the heads"
    assert len(re.findall(r"<rect[^>]*fill-opacity", text)) == 16
    assert "data-word=" in text
    assert '<th scope="row">decoding</th>' in text


def test_no_heads_are_marked_when_none_are_asked_for(folder: Path, tmp_path: Path) -> None:
    run(
        folder,
        "--out",
        str(tmp_path / "page.html"),
        "--heads",
        "none",
        "--without",
        "blank",
        "--distance",
        "sq",
    )
    assert 'class="mark' not in (tmp_path / "page.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--heads", "vrh"), "Did you mean 'vhr'"),
        (("--distance", "l1"), "--distance 'l1' does not exist"),
        (("--without", "cut"), "drop, mask"),
        (("--out", "/nowhere/at/all.html"), "cannot be written"),
    ],
)
def test_a_wrong_option_says_what_there_is(folder: Path, more: tuple[str, ...], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        run(folder, *more)


def test_with_a_pruner_the_page_shows_what_it_keeps_and_the_answer_then(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    done = run(folder, "--out", str(out), "--prune", "hiprune:keep=0.5")
    assert done.exit_code == 0 and "With 8 of 16 visual tokens: " in done.output
    text = out.read_text(encoding="utf-8")
    assert "8 of 16 tokens stay" in text and "hiprune:keep=0.5" in text
    assert text.count("data-head=") == 2 * 2 * 4, "the rest of the page is about the whole prompt"


def test_a_pruner_without_a_budget_is_refused_before_the_model_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="how much to keep"):
        run(tmp_path, "--prune", "hiprune")
