"""The table in the terminal: plain when piped, fits, and shows what cannot be told apart."""

import io
from dataclasses import replace
from pathlib import Path

import pytest
from report.example_ranking import example_ranking
from rich.console import Console

from vlmtools.crosscheck.ranking import Ranking
from vlmtools.report._text import cells
from vlmtools.report.terminal import ASCII, Signs, drawn, print_ranking


def printed(ranking: Ranking, width: int = 80, terminal: bool = False, page: Path | None = None) -> str:
    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    console = Console(file=out, width=width, force_terminal=terminal, color_system=None, legacy_windows=False)
    print_ranking(ranking, console, page=page)
    out.seek(0)
    return out.read()


@pytest.mark.parametrize("n_models", [2, 8, 30])
@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_no_line_is_wider_than_the_terminal(width: int, n_models: int) -> None:
    names = [
        "organisation/a-very-long-name-of-a-model-" + "x" * 60 + "-7b",
        "日本語のとても長いモデルの名前です" * 3,
    ]
    for terminal in (False, True):
        text = printed(example_ranking(n_models=n_models, names=names), width, terminal)
        assert max(cells(line) for line in text.splitlines()) <= width


def test_a_pipe_gets_ascii_without_escape_codes() -> None:
    text = printed(example_ranking(names=["modèle-9b", "[red]x[/red]", "\x1b[31mred\x1b[0m", "a\u202eb"]))
    assert text.isascii()
    assert "\x1b" not in text
    assert "mod\\xe8le-9b" in text
    assert "[red]x[/red]" in text
    assert "?[31mred?[0m" in text


def test_a_terminal_never_receives_a_control_character_from_a_name() -> None:
    text = printed(example_ranking(names=["\x1b]0;owned\x07", "\u202eevil", "a\rb"]), terminal=True)
    assert not {"\x1b", "\x07", "\u202e", "\r"} & set(text)


def test_every_model_its_score_and_its_interval_are_there() -> None:
    ranking = example_ranking()
    text = printed(ranking)
    for row in ranking.rows:
        line = next(line for line in text.splitlines() if row.name in line)
        assert f"{row.score:.3f}" in line
        assert f"{row.ci[0]:.3f}-{row.ci[1]:.3f}" in line


def test_tied_models_stand_under_one_bracket_and_single_ones_under_none() -> None:
    ranking = example_ranking(n_models=3)
    groups = [replace(row, tie_group=group) for row, group in zip(ranking.rows, (1, 1, 2), strict=True)]
    lines = printed(replace(ranking, rows=tuple(groups))).splitlines()
    starts = [line[:3] for line in lines if any(row.name in line for row in groups) and "0." in line]
    assert starts == ["/ 1", "\\ 2", "  3"]


def test_a_wide_terminal_also_draws_the_intervals() -> None:
    assert "●" not in printed(example_ranking(), 80, terminal=True)
    wide = printed(example_ranking(), 120, terminal=True)
    assert sum("●" in line for line in wide.splitlines()) == 8


def test_the_drawn_interval_spans_the_axis_it_covers() -> None:
    assert drawn(0.5, (0.0, 1.0), (0.0, 1.0), 11, ASCII) == "[----o----]"
    assert drawn(0.2, (0.1, 0.3), (0.0, 1.0), 11, ASCII) == " [o]       "
    assert drawn(float("nan"), (0.0, 0.0), (0.0, 0.0), 3, Signs()) == "●  "


def test_unread_votes_and_unequal_item_counts_show_only_when_there_are_any() -> None:
    ranking = example_ranking(n_models=4)
    assert "unread" not in printed(ranking)
    assert "items " not in printed(ranking).split("score", 1)[0].splitlines()[-1]
    rows = (replace(ranking.rows[0], unparsed=0.021, n_items=150), *ranking.rows[1:])
    text = printed(replace(ranking, rows=rows))
    assert "unread" in text
    assert "2.1%" in text
    assert "150" in text


def test_the_warnings_the_meaning_and_the_next_step_are_said() -> None:
    text = printed(example_ranking(), page=Path("runs/demo/report.html"))
    assert "Warning: Invented numbers" in text
    assert "lower is better" in text
    assert "runs/demo/report.html" in text


def test_an_empty_ranking_prints() -> None:
    assert "0 models" in printed(Ranking((), {}, (), (), {}, (), {}))
