"""`vlmtools demo` on the bundled models: the ranking, the truth beside it, and what a patch changed."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from vlmtools.bundled import bundled
from vlmtools.cli import app

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    out = tmp_path_factory.mktemp("demo")
    done = CliRunner().invoke(
        app, ["demo", "--out", str(out), "--scenes", "6", "--json"], catch_exceptions=False
    )
    assert done.exit_code == 0
    return out, done.stdout


def test_the_demo_ranks_every_bundled_model_and_knows_the_truth_of_each(told: tuple[Path, str]) -> None:
    said = json.loads(told[1])
    ranked = [row["name"] for row in said["ranking"]["ranking"]]
    assert sorted(ranked) == sorted(bundled()) == sorted(said["truth"])
    assert all(0 <= truth["CHAIRi"] <= 1 and truth["n_words"] > 5 for truth in said["truth"].values())


def test_the_demo_compares_the_last_model_with_and_without_a_patch_on_the_same_items(
    told: tuple[Path, str],
) -> None:
    said = json.loads(told[1])
    assert any("patches" in name for name in said["comparison"]["settings"])
    assert {test["metric"] for test in said["comparison"]["tests"]} >= {"CHAIRi", "Recall"}


def test_the_demo_leaves_pages_and_answers(told: tuple[Path, str]) -> None:
    out = told[0]
    assert (out / "report.html").stat().st_size > 10_000
    assert (out / "compare.html").stat().st_size > 5_000
    assert len((out / "items.jsonl").read_text().splitlines()) == 6
