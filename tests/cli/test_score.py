"""The command lines of benchmarks: score, eval on a file, compare, bench, report."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from vlmtools.cli import app
from vlmtools.errors import BadInput

RUNNER = CliRunner()
METRIC = {"value", "ci"}


@pytest.fixture
def chair(tmp_path: Path) -> tuple[Path, Path]:
    truth, answers = tmp_path / "truth.json", tmp_path / "answers.jsonl"
    truth.write_text(json.dumps({f"{n}": ["dog", "cat"] for n in range(20)}))
    rows = [{"image_id": n, "caption": "A dog." if n % 2 else "A dog and a car."} for n in range(20)]
    answers.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return truth, answers


def line(*words: object) -> str:
    done = RUNNER.invoke(app, [str(word) for word in words])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.stdout


def scored(chair: tuple[Path, Path], *more: object) -> str:
    truth, answers = chair
    fields = ("--id-field", "image_id", "--text-field", "caption")
    return line("score", answers, "--bench", "chair", "--truth", truth, *fields, *more)


def test_the_json_has_exactly_the_promised_shape(chair: tuple[Path, Path]) -> None:
    found = json.loads(scored(chair, "--json"))
    assert set(found) == {"bench", "protocol", "metrics", "n", "unparsed", "record"}
    assert {"CHAIRs", "CHAIRi", "Recall", "F1", "Len", "Rep"} <= set(found["metrics"])
    assert all(set(metric) == METRIC and len(metric["ci"]) == 2 for metric in found["metrics"].values())
    assert found["metrics"]["CHAIRs"]["value"] == 0.5 and found["n"] == 20


def test_the_table_prints_counts_and_the_rule(chair: tuple[Path, Path]) -> None:
    text = scored(chair)
    assert "20 answers, 0 of them unparsed" in text and "Recall" in text and "words" in text


def test_eval_of_a_file_is_score(chair: tuple[Path, Path]) -> None:
    truth, answers = chair
    found = json.loads(line("eval", answers, "--bench", "chair", "--data", truth, "--json"))
    assert found["metrics"] == json.loads(scored(chair, "--json"))["metrics"]


def test_rows_are_dumped_one_per_answer(chair: tuple[Path, Path], tmp_path: Path) -> None:
    scored(chair, "--dump", tmp_path / "rows.jsonl")
    rows = [json.loads(row) for row in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert len(rows) == 20 and {"id", "answer", "parsed", "label", "correct", "numbers"} <= set(rows[0])


def test_runs_are_compared_and_reported_again(chair: tuple[Path, Path], tmp_path: Path) -> None:
    for name in "ab":
        scored(chair, "--out", tmp_path / name)
    assert "not shown" in line("compare", tmp_path / "a", tmp_path / "b", "--out", tmp_path / "page.html")
    assert (tmp_path / "page.html").is_file()
    found = json.loads(line("compare", tmp_path / "a", tmp_path / "b", "--json"))
    assert found["settings"] == {} and all(test["p_holm"] == 1 for test in found["tests"])
    assert "Wrote" in line("report", tmp_path / "a")


def test_bench_lists_shows_and_checks(chair: tuple[Path, Path], tmp_path: Path) -> None:
    assert {"chair", "pope"} <= set(json.loads(line("bench", "list", "--json")))
    told = json.loads(line("bench", "show", "pope", "--json"))
    assert set(told["protocols"]) == {"official", "repope", "lenient"} and told["notes"]
    assert "arXiv:1809.02156" in line("bench", "show", "chair")
    (tmp_path / "images").mkdir()
    done = RUNNER.invoke(
        app, ["bench", "prepare", "chair", "--data", str(chair[0]), "--out", str(tmp_path / "i.jsonl")]
    )
    assert done.exit_code == 1 and "items_with_missing_media   20" in done.stdout
    assert json.loads((tmp_path / "i.jsonl").read_text().splitlines()[0])["prompt"]


def test_without_data_one_is_told_where_they_come_from(chair: tuple[Path, Path]) -> None:
    with pytest.raises(BadInput, match=r"needs its data, and none were given.*cocodataset"):
        line("score", chair[1], "--bench", "chair")
