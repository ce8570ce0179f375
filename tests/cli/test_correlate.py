import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from places import published
from typer.testing import CliRunner, Result

from vlmtools.cli.correlate import correlate
from vlmtools.errors import BadInput, UnknownName
from vlmtools.stats.agreement import agreements
from vlmtools.stats.columns import read_scores, read_table

BOARD = """Model,Link,POPE ↑,CHAIR (s/i) ↓,Judge,Human ↓
a,http://x,90,"30.0, 10.1",1,10
b,http://x,80,"35.0, 12.2",2,20
c,http://x,70,"31.0, 15.3",,30
d,http://x,60,"40.0, 20.4",4,45
e,http://x,65,"50.0, 25.5",5,40
"""

app = typer.Typer()
app.command()(correlate)


@pytest.fixture
def board(tmp_path: Path) -> Path:
    path = tmp_path / "board.csv"
    path.write_text(BOARD, encoding="utf-8")
    return path


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=True)


def as_json(*words: str | Path) -> Any:
    result = run(*words, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_every_numeric_column_is_compared_and_signs_are_turned(board: Path) -> None:
    found = {row["column"]: row for row in as_json(board, "--against", "Human")["columns"]}
    assert list(found) == ["POPE", "CHAIR s", "CHAIR i", "Judge"]
    assert found["POPE"]["flipped"] and not found["CHAIR s"]["flipped"]
    assert found["POPE"]["spearman"]["value"] == pytest.approx(1.0)
    assert found["CHAIR i"]["spearman"]["value"] == pytest.approx(0.9)
    assert {row["n"] for row in found.values()} == {4, 5}
    assert found["Judge"]["n"] == 4
    assert set(found["POPE"]) == {"column", "n", "flipped", "pearson", "spearman", "kendall"}


def test_the_table_fits_80_columns_is_plain_when_piped_and_tells_what_was_turned(board: Path) -> None:
    result = run(board, "--against", "Human")
    assert result.exit_code == 0
    assert "\x1b" not in result.stdout
    assert "POPE *" in result.stdout and "* Sign turned" in result.stdout
    assert "1.000 [" in result.stdout
    header = next(line for line in result.stdout.splitlines() if "Pearson" in line)
    assert header.index("Pearson") < header.index("Spearman") < header.index("Kendall") and len(header) <= 80


def test_a_column_compared_with_one_where_more_is_better_is_turned_too(board: Path) -> None:
    found = {row["column"]: row for row in as_json(board, "--against", "POPE")["columns"]}
    assert found["Human"]["flipped"] and found["Human"]["spearman"]["value"] == pytest.approx(1.0)


def test_a_direction_can_be_said_where_the_header_does_not(board: Path) -> None:
    plain = as_json(board, "--against", "Human")["columns"][-1]
    turned = as_json(board, "--against", "Human", "--higher-is-better", "Judge")["columns"][-1]
    assert not plain["flipped"] and turned["flipped"]
    assert turned["pearson"]["value"] == pytest.approx(-plain["pearson"]["value"])


def test_two_columns_where_more_is_better_are_not_turned(board: Path) -> None:
    found = as_json(board, "--against", "Judge", "--higher-is-better", "Judge")["columns"]
    assert [row["column"] for row in found if not row["flipped"]] == ["POPE"]


@pytest.mark.parametrize("name", ["Human ↓", "human", "Hum", "HUMAN"])
def test_the_column_is_found_by_name_arrow_case_or_beginning(board: Path, name: str) -> None:
    assert as_json(board, "--against", name)["against"] == "Human"


def test_an_unknown_column_is_answered_with_the_known_ones(board: Path) -> None:
    failed = run(board, "--against", "Humann").exception
    assert isinstance(failed, UnknownName)
    assert "Did you mean 'Human'" in str(failed) and "CHAIR i" in str(failed)


def test_a_beginning_of_several_columns_is_refused(board: Path) -> None:
    failed = run(board, "--against", "CHAIR").exception
    assert isinstance(failed, BadInput) and "'CHAIR s', 'CHAIR i'" in str(failed)


def test_scores_of_a_crosscheck_are_joined_by_name(board: Path, tmp_path: Path) -> None:
    rows = [
        {"name": name, "score": score} for name, score in zip("EDCBX", (0.5, 0.6, 0.3, 0.2, 0.9), strict=True)
    ]
    ours = write(tmp_path / "ours.json", json.dumps({"ranking": rows}))
    found = as_json(board, "--against", "Human", "--scores", ours)["columns"][-1]
    assert (found["column"], found["n"]) == ("ours", 4)
    assert found["spearman"]["value"] == pytest.approx(1.0)


def test_scores_that_name_no_row_are_refused(board: Path, tmp_path: Path) -> None:
    ours = write(tmp_path / "ours.json", json.dumps({"ranking": [{"name": "zz", "score": 1}]}))
    failed = run(board, "--against", "Human", "--scores", ours).exception
    assert isinstance(failed, BadInput) and "The table has a, b, c, d, e; the scores have zz" in str(failed)


def test_what_is_no_crosscheck_output_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no list 'ranking'"):
        read_scores(write(tmp_path / "x.json", "[]"))
    with pytest.raises(BadInput, match="needs a 'name' and a number 'score'"):
        read_scores(write(tmp_path / "y.json", '{"ranking": [{"name": "a"}]}'))


@pytest.mark.parametrize("ending", ["tsv", "json"])
def test_tsv_and_json_read_like_csv(tmp_path: Path, ending: str) -> None:
    rows = [
        {"name": "a", "x ↑": 1, "y": 2.5},
        {"name": "b", "x ↑": 2, "y": None},
        {"name": "c", "x ↑": 4, "y": 1},
    ]
    lines = ["name\tx ↑\ty", "a\t1\t2.5", "b\t2\t", "c\t4\t1"]
    text = json.dumps(rows) if ending == "json" else "\n".join(lines)
    table = read_table(write(tmp_path / f"t.{ending}", text))
    assert table.rows == ("a", "b", "c")
    assert [column.name for column in table.columns] == ["x", "y"]
    assert table.columns[0].values.tolist() == [1, 2, 4] and table.columns[0].higher_is_better
    assert table.columns[1].values.tolist() == pytest.approx([2.5, float("nan"), 1], nan_ok=True)


def test_a_ranking_is_itself_a_table(tmp_path: Path) -> None:
    rows = [{"name": name, "score": score, "ci": [0, 1]} for name, score in (("a", 0.25), ("b", 0.5))]
    table = read_table(write(tmp_path / "r.json", json.dumps({"ranking": rows})))
    assert table.rows == ("a", "b") and table.find("score").values.tolist() == [0.25, 0.5]


@pytest.mark.parametrize(
    ("header", "cells", "names", "first"),
    [
        ("x", ["1,234", "2,000.5"], ["x"], [1234.0]),
        ("x", ["12 %", "−3.5%"], ["x"], [12.0]),
        ("x", ["1e-3", "n/a"], ["x"], [0.001]),
        ("x", ["1.0, 2.0", "–"], ["x 1", "x 2"], [1.0, 2.0]),
        ("x (s/i) all ↓", ["1/2", "3 / 4"], ["x s all", "x i all"], [1.0, 2.0]),
        ("x (s/i)", ["1,2", "3,4"], ["x s", "x i"], [1.0, 2.0]),
        ("x (s/i)", ["7", "8"], ["x (s/i)"], [7.0]),
    ],
)
def test_cells_as_people_write_them(
    tmp_path: Path, header: str, cells: list[str], names: list[str], first: list[float]
) -> None:
    lines = [f'"m","{header}"', *(f'"{name}","{cell}"' for name, cell in zip("ab", cells, strict=True))]
    table = read_table(write(tmp_path / "t.csv", "\n".join(lines)))
    assert [column.name for column in table.columns] == names
    assert [column.values[0] for column in table.columns] == first


def test_a_column_with_a_cell_that_is_no_number_is_left_out_and_the_reader_told(tmp_path: Path) -> None:
    table = write(tmp_path / "t.csv", 'm,x,y,comma\na,1,3,"17,6"\nb,2,2,1\nc,see text,1,2\n')
    result = run(table, "--against", "y")
    assert result.exit_code == 1 and "only numeric column" in str(result.exception)
    skipped = read_table(table).skipped
    assert skipped == (
        "'x': row 3 holds 'see text', which is not a number like the others",
        "'comma': row 1 holds '17,6', which is not a number like the others",
    )


def test_models_called_by_numbers_keep_their_names(tmp_path: Path) -> None:
    table = read_table(write(tmp_path / "t.csv", "model,x\n7,1\nllava,2\n"))
    assert table.rows == ("7", "llava") and table.skipped == ()


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("empty.csv", "", "has no rows"),
        ("header.csv", "a,b\n", "has no rows"),
        ("long.csv", "a,b\n1,2,3\n", "row 1: 3 cells under 2 headers"),
        ("t.json", "{}", "must hold a list of objects"),
        ("t.json", "{", "is not JSON"),
    ],
)
def test_a_file_that_is_no_table_is_refused(tmp_path: Path, name: str, text: str, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        read_table(write(tmp_path / name, text))


def test_a_file_that_is_not_there_or_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no readable file"):
        read_table(tmp_path / "none.csv")
    (tmp_path / "latin.csv").write_bytes("mod\xe8le,x\n".encode("latin-1"))
    with pytest.raises(BadInput, match="Save it as UTF-8"):
        read_table(tmp_path / "latin.csv")


def test_a_byte_order_mark_and_a_line_break_in_a_cell_do_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes('\ufeffmodel,x,y\n"two\nlines",1,2\nb,2,3\n'.encode())
    table = read_table(path)
    assert table.rows == ("two\nlines", "b") and [column.name for column in table.columns] == ["x", "y"]


def test_names_with_brackets_are_shown_as_they_are(tmp_path: Path) -> None:
    table = write(tmp_path / "t.csv", "m,[bold]x,y\na,1,1\nb,2,2\nc,3,2\nd,4,5\n")
    assert "[bold]x" in run(table, "--against", "y").stdout


def test_a_constant_column_is_a_dash_and_null(tmp_path: Path) -> None:
    table = write(tmp_path / "t.csv", "m,x,y\na,1,1\nb,1,2\nc,1,3\nd,1,4\n")
    assert "–" in run(table, "--against", "y").stdout
    assert as_json(table, "--against", "y")["columns"][0]["spearman"]["value"] is None


def test_rows_are_resampled_when_asked_and_the_seed_decides(board: Path) -> None:
    ours = [
        as_json(board, "--against", "Human", "--bootstrap", "200", "--seed", seed) for seed in ("1", "1", "2")
    ]
    assert ours[0] == ours[1] != ours[2]
    assert ours[0]["columns"][1]["pearson"]["interval"] == "bootstrap over rows"


def test_importing_the_verb_loads_nothing_heavy() -> None:
    heavy = "[name for name in ('torch', 'transformers', 'scipy') if name in sys.modules]"
    code = f"import sys, vlmtools.cli.correlate; print({heavy})"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


@pytest.mark.golden
def test_the_published_image_table_gives_98_33_for_implicit_and_a_better_pearson_for_chair() -> None:
    table = read_table(published("crosscheck/leaderboard/img2img-hallucination.csv"))
    found = {row.column: row for row in agreements(table, "Human")}
    assert found["CrossCheck-implicit"].spearman.value == pytest.approx(0.9833, abs=5e-5)
    assert found["CrossCheck-explicit"].spearman.value == pytest.approx(0.75)
    assert max(found, key=lambda name: found[name].pearson.value) == "CHAIR i"
    assert [name for name, row in found.items() if row.flipped] == ["POPE COCO"]
    result = run(published("crosscheck/leaderboard/img2img-hallucination.csv"), "--against", "Human")
    assert "Best by Spearman: CrossCheck-implicit. Best by Pearson: CHAIR i." in result.stdout
