"""Markdown, CSV and JSON: complete, and harmless where they are opened."""

import csv as reader
import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from report.example_ranking import example_ranking

from vlmtools.crosscheck.ranking import Ranking
from vlmtools.errors import BadInput, MissingField
from vlmtools.report.csv import COLUMNS, csv
from vlmtools.report.markdown import escaped, markdown
from vlmtools.report.saved import FORMS, load_ranking, written


def test_the_csv_reads_back_with_full_precision() -> None:
    ranking = example_ranking()
    rows = list(reader.DictReader(io.StringIO(csv(ranking))))
    assert list(rows[0])[: len(COLUMNS)] == list(COLUMNS)
    assert [row["model"] for row in rows] == [row.name for row in ranking.rows]
    assert [float(row["score"]) for row in rows] == [row.score for row in ranking.rows]
    assert [float(row["sensitivity"]) for row in rows] == [row.extra["sensitivity"] for row in ranking.rows]


@pytest.mark.parametrize("name", ["=1+1", "+1", "-2", "@SUM(A1)", "\t=1", "\r\n=1", " =1", "\u00a0=1"])
def test_a_name_that_a_spreadsheet_would_run_gets_an_apostrophe(name: str) -> None:
    found = next(reader.DictReader(io.StringIO(csv(example_ranking(names=[name])))))["model"]
    assert found.startswith("'")


def test_names_with_commas_quotes_and_breaks_stay_one_cell() -> None:
    found = list(reader.reader(io.StringIO(csv(example_ranking(names=['a,"b"\nc'])))))
    assert found[1][1] == 'a,"b" c'
    assert {len(row) for row in found} == {len(COLUMNS) + 1}


def test_what_is_missing_is_an_empty_cell() -> None:
    ranking = example_ranking(n_models=2)
    rows = tuple(
        replace(row, rank_loo=None, weight=None, score=float("nan"), extra={}) for row in ranking.rows
    )
    first = next(reader.DictReader(io.StringIO(csv(replace(ranking, rows=rows)))))
    assert (first["rank_loo_low"], first["weight"], first["score"]) == ("", "", "")


def test_the_markdown_table_has_one_line_per_model_and_equal_columns() -> None:
    table = [
        line for line in markdown(example_ranking(names=["a|b", "c\nd"])).splitlines() if line.startswith("|")
    ]
    assert len(table) == 2 + 8
    assert len({line.count("|") for line in table}) == 1


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("a|b", "a&#124;b"),
        ("<img src=x>", "&lt;img src=x&gt;"),
        ("[x](javascript:1)", "\\[x\\](javascript:1)"),
        ("*b* _i_ `c`", "\\*b\\* \\_i\\_ \\`c\\`"),
        ("https://x.y www.z.y @me", "https&#58;//x.y www&#46;z.y &#64;me"),
        ("# head", "\\# head"),
        ("12. item", "&#49;2. item"),
        ("back\\slash &amp;", "back\\\\slash &amp;amp;"),
        ("llava-1.5-7b", "llava-1.5-7b"),
    ],
)
def test_markdown_shows_names_as_they_are(text: str, safe: str) -> None:
    assert escaped(text) == safe


def test_markdown_says_the_interval_and_the_warnings() -> None:
    text = markdown(example_ranking())
    assert "0.205 to 0.257" in text
    assert "> **Warning:** Invented numbers" in text


def test_a_saved_ranking_comes_back_whole(tmp_path: Path) -> None:
    ranking = example_ranking()
    (tmp_path / "ranking.json").write_text(written(ranking, "json"), encoding="utf-8")
    assert load_ranking(tmp_path) == ranking
    assert load_ranking(tmp_path / "ranking.json") == ranking


def test_the_short_json_leaves_the_answers_out() -> None:
    short = example_ranking().to_json()
    assert "worst" not in short
    assert Ranking.from_json(short).worst == ()


def test_numbers_that_json_lacks_become_null_and_come_back() -> None:
    ranking = example_ranking(n_models=2)
    pairs = (replace(ranking.pairs[0], detectable=float("nan")),)
    text = json.dumps(replace(ranking, pairs=pairs).to_json(full=True), allow_nan=False)
    back = Ranking.from_json(json.loads(text)).pairs[0]
    assert back.detectable != back.detectable


def test_a_later_versions_fields_are_passed_over() -> None:
    data = example_ranking(n_models=2).to_json(full=True)
    data["ranking"][0]["new"] = 1
    assert Ranking.from_json(data).rows[0].rank == 1


def test_a_row_without_a_score_says_which_field_is_missing() -> None:
    data = example_ranking(n_models=2).to_json()
    del data["ranking"][1]["score"]
    with pytest.raises(MissingField, match="no score"):
        Ranking.from_json(data)


@pytest.mark.parametrize(
    "text", ["", "[", "3", "[]", "{}", '{"ranking": 3}', '{"ranking": [3]}', "[" * 100_000]
)
def test_a_file_that_is_no_ranking_is_refused_in_words(tmp_path: Path, text: str) -> None:
    (tmp_path / "ranking.json").write_text(text, encoding="utf-8")
    with pytest.raises(BadInput, match=r"ranking|JSON"):
        load_ranking(tmp_path)


def test_a_missing_file_and_an_unknown_form_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="vlmtools crosscheck"):
        load_ranking(tmp_path / "nowhere")
    with pytest.raises(BadInput, match="csv, html, json, md"):
        written(example_ranking(), "pdf")


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_written_from_what_was_saved(form: str) -> None:
    ranking = example_ranking(n_worst=2)
    assert written(Ranking.from_json(json.loads(written(ranking, "json"))), form) == written(ranking, form)
