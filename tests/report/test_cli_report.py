"""`vlmtools report`: a saved ranking, written again."""

import subprocess
import sys
from pathlib import Path

import pytest
import typer
from report.example_ranking import example_ranking
from typer.testing import CliRunner

from vlmtools.cli.report import report
from vlmtools.errors import BadInput
from vlmtools.report.html import html
from vlmtools.report.saved import written

APP = typer.Typer(pretty_exceptions_enable=False)
APP.command()(report)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "ranking.json").write_text(written(example_ranking(n_worst=2), "json"), encoding="utf-8")
    return tmp_path


def called(*arguments: object) -> str:
    done = CliRunner().invoke(APP, [str(one) for one in arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_the_page_is_written_into_the_run_folder(run: Path) -> None:
    assert str(run / "report.html") in called(run)
    assert (run / "report.html").read_text(encoding="utf-8") == html(example_ranking(n_worst=2))


@pytest.mark.parametrize("form", ["md", "csv", "json"])
def test_text_forms_are_printed_or_written(run: Path, form: str) -> None:
    text = called(run, "--format", form)
    assert text == written(example_ranking(n_worst=2), form)
    called(run / "ranking.json", "--format", form, "--out", run / "x")
    assert (run / "x").read_text(encoding="utf-8") == text


def test_the_table_is_printed_plain(run: Path) -> None:
    text = called(run, "--format", "table")
    assert "heron-9b-instruct" in text
    assert "\x1b" not in text


def test_relative_pictures_are_found_below_the_given_folder(run: Path) -> None:
    folder = run / "media" / "scenes"
    folder.mkdir(parents=True)
    example_ranking(folder, n_worst=2)
    assert "data:image/" not in called(run, "--out", "-")
    assert called(run, "--out", "-", "--media-root", run / "media").count("data:image/") == 2
    assert "data:image/" not in called(run, "--out", "-", "--media-root", run / "media", "--no-media")


def test_a_file_that_cannot_be_written_is_said_in_words(run: Path) -> None:
    with pytest.raises(BadInput, match="--out"):
        called(run, "--out", run / "no" / "folder" / "x.html")


def test_writing_a_report_loads_no_model_code(run: Path) -> None:
    heavy = "{'torch', 'transformers', 'scipy', 'sentence_transformers', 'matplotlib'}"
    code = (
        "import sys; from pathlib import Path; from vlmtools.cli.report import report; "
        f"report([Path({str(run)!r})], 'html', None, '', True, None, 9); print(sorted({heavy} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
