import importlib.util
import json
import shutil
import sys
from pathlib import Path
from types import ModuleType

import pytest
from places import ROOT, cases, data_roots

LAYOUT = "crosscheck/text_leaderboard_metrics.json"


def _script() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "reproduce", ROOT / "scripts" / "reproduce_crosscheckgpt.py"
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["reproduce_crosscheckgpt.py", "--data", str(folder)])
    code: int = _script().main()
    return code


@pytest.mark.golden
@pytest.mark.parametrize("board", cases(data_roots(), LAYOUT))
def test_every_published_number_comes_out_to_the_printed_digit(
    board: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(board.parents[1], monkeypatch) == 0
    printed = capsys.readouterr().out
    assert printed.count("  OK\n") > 100 and "DIFFERS" not in printed
    assert "Spearman x100, explicit, 8                                     82.32      82.32  OK" in printed


@pytest.mark.golden
@pytest.mark.parametrize("board", cases(data_roots(), LAYOUT))
def test_a_changed_vote_is_noticed(
    board: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "crosscheck"
    shutil.copytree(board.parent, copy, copy_function=shutil.copyfile)
    for place in (copy, *copy.rglob("*")):
        place.chmod(0o755 if place.is_dir() else 0o644)
    leaderboard = copy / "leaderboard" / "img2img-hallucination.csv"
    leaderboard.write_text(leaderboard.read_text(encoding="utf-8").replace("44.5", "4.5"), encoding="utf-8")
    assert _run(tmp_path, monkeypatch) == 1
    assert "DIFFERS" in capsys.readouterr().out


def test_a_folder_without_votes_is_refused_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(tmp_path, monkeypatch) == 2
    assert "does not hold the published votes" in capsys.readouterr().err


def test_a_value_is_rounded_like_the_published_one() -> None:
    line = _script().line
    assert line("x", 0.7405547, ".740555") == ("x", "0.740555", "0.740555")
    assert line("x", 32.0, "32") == ("x", "32", "32")


def test_expected_numbers_are_text_so_that_no_digit_is_lost() -> None:
    expected = json.loads((ROOT / "scripts" / "crosscheckgpt_published.json").read_text(encoding="utf-8"))
    assert all(isinstance(number, str) for row in expected["text"].values() for number in row.values())
