"""Several evaluations in one page: a table per benchmark and rule, nothing mixed."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from vlmtools.cli import app
from vlmtools.errors import BadInput


@pytest.fixture
def runs(tmp_path: Path) -> list[str]:
    """Two runs of CHAIR and one by another rule; one caption is an attempt on the page."""
    truth = tmp_path / "truth.json"
    truth.write_text(json.dumps({"1": ["dog"], "2": ["cat"]}))
    made = []
    said = {
        "a": ["A dog.", "A cat."],
        "b<i>": ["A cat.", "<script>alert(1)</script>"],
        "c": ["A dog.", "Two cats"],
    }
    for name, captions in said.items():
        file = tmp_path / "answers.jsonl"
        file.write_text(
            "".join(json.dumps({"id": n, "caption": one}) + "\n" for n, one in enumerate(captions, 1))
        )
        line = ["score", str(file), "--bench", "chair", "--truth", str(truth), "--bootstrap", "10"]
        line += ["--protocol", "whole-sentences"] if name == "c" else []
        made.append(str(tmp_path / name))
        CliRunner().invoke(app, [*line, "--out", made[-1]], catch_exceptions=False)
    return made


def told(*words: str) -> str:
    return CliRunner().invoke(app, ["report", *words], catch_exceptions=False).stdout


def test_one_page_has_a_table_per_benchmark_and_rule(runs: list[str], tmp_path: Path) -> None:
    page = tmp_path / "all.html"
    told(*runs, "--out", str(page), "--title", "Three of them")
    text = page.read_text()
    assert text.count("<h2>chair, official</h2>") == 1 and text.count("<h2>chair, whole-sentences</h2>") == 1
    assert "Three of them" in text and "benchmark.protocol" in text
    assert "<script" not in text and "b<i>" not in text and "b&lt;i&gt;" in text


def test_markdown_and_json_hold_the_same_numbers(runs: list[str]) -> None:
    table = told(*runs, "--format", "md", "--out", "-")
    numbers = json.loads(told(*runs, "--format", "json", "--out", "-"))
    assert table.count("### chair") == 2 and len(numbers) == 3
    value = numbers["b<i>"]["metrics"]["CHAIRs"]["value"]
    assert value == 0.5 and any(
        line.startswith("| CHAIRs |") and "0.5 (" in line for line in table.splitlines()
    )


def test_a_folder_without_an_evaluation_and_other_formats_are_refused(
    runs: list[str], tmp_path: Path
) -> None:
    with pytest.raises(BadInput, match="is no evaluation"):
        told(runs[0], str(tmp_path))
    with pytest.raises(BadInput, match="cannot be written as 'csv'"):
        told(*runs, "--format", "csv")
