import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from describers import describer
from misbehaving_server import serving
from typer.testing import CliRunner

from vlmtools.cli import app
from vlmtools.types import Request, Sample

SHARES = {"honest": 0.0, "careless": 0.4, "dreaming": 0.9}


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.chdir(tmp_path)
    for name, lies in SHARES.items():
        rows = [{"image_id": n, "caption": describer(lies)(Request(Sample(f"{n}")))} for n in range(60)]
        with gzip.open(f"{name}.jsonl.gz", "wt") as out:
            out.write("".join(json.dumps(row) + "\n" for row in rows))
    return [f"{name}.jsonl.gz" for name in SHARES]


FIELDS = ["--id-field", "image_id", "--text-field", "caption", "--bootstrap", "200"]


def call(*words: str) -> str:
    done = CliRunner().invoke(app, ["crosscheck", *words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_json_is_the_documented_contract(files: list[str]) -> None:
    told = json.loads(call(*files, *FIELDS, "--json"))
    assert [row["name"] for row in told["ranking"]] == ["honest", "careless", "dreaming"]
    first = told["ranking"][0]
    assert first["rank"] == 1 and first["n_items"] == 60 and first["n_claims"] == 180
    assert first["ci"][0] <= first["score"] <= first["ci"][1] and first["rank_ci"] == [1, 1]
    assert told["record"]["settings"]["weights"] == "em" and told["record"]["judge"] == "objects"


def test_the_run_folder_holds_every_form_of_the_result(files: list[str], tmp_path: Path) -> None:
    call(*files, *FIELDS, "--out", "run")
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert {"run.json", "items.jsonl", "answers.jsonl", "votes.jsonl", "ranking.json"} <= names
    assert {"ranking.csv", "ranking.md", "report.html"} <= names


def test_without_out_the_same_line_finds_its_folder_again(files: list[str], tmp_path: Path) -> None:
    call(*files, *FIELDS)
    call(*files, *FIELDS, "--weights", "uniform")
    assert len(list((tmp_path / "runs").iterdir())) == 1


def test_a_run_folder_is_a_source_and_gives_the_same_ranking(files: list[str]) -> None:
    first = json.loads(call(*files, *FIELDS, "--out", "run", "--json"))
    again = json.loads(call("run", "--bootstrap", "200", "--out", "again", "--json"))
    assert again["ranking"] == first["ranking"]


def test_a_second_judge_adds_its_ranks_to_the_sensitivity(files: list[str]) -> None:
    told = json.loads(call(*files, *FIELDS, "--judge", "objects", "--judge", "ngram:n=2", "--json"))
    assert told["sensitivity"]["judge=ngram:n=2"] == {"honest": 1, "careless": 2, "dreaming": 3}


@pytest.mark.parametrize("weights", ["em", "uniform", "loo"])
def test_every_weighting_that_needs_no_samples_ranks_them_right(files: list[str], weights: str) -> None:
    told = json.loads(call(*files, *FIELDS, "--weights", weights, "--json"))
    assert [row["name"] for row in told["ranking"]] == list(SHARES)


def test_paper_mode_needs_samples_and_then_runs(files: list[str], tmp_path: Path) -> None:
    for name, lies in SHARES.items():
        rows = []
        for n in range(30):
            drawn = [describer(lies)(Request(Sample(f"{n}"), draw=k)) for k in range(4)]
            rows.append(json.dumps({"id": n, "text": drawn[0], "samples": drawn[1:]}))
        Path(f"{name}.jsonl").write_text("\n".join(rows))
    told = json.loads(call(*(f"{name}.jsonl" for name in SHARES), "--paper", "--judge", "ngram", "--json"))
    assert told["record"]["settings"]["weights"] == "softmax" and told["record"]["settings"]["include_self"]
    assert all(row["weight"] > 0 for row in told["ranking"])


def fails(*words: str, code: int = 2, cwd: Path | None = None) -> str:
    done = subprocess.run([sys.executable, "-m", "vlmtools", *words], capture_output=True, text=True, cwd=cwd)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


def test_a_wrong_id_field_says_which_fields_there_are(files: list[str]) -> None:
    assert "image_id" in fails("crosscheck", *files)


def test_an_unknown_judge_suggests_the_right_one(files: list[str]) -> None:
    assert "Did you mean 'objects'" in fails("crosscheck", *files, *FIELDS, "--judge", "object")


def test_a_source_that_does_not_exist_says_what_a_source_is(files: list[str]) -> None:
    assert "server:MODEL@URL" in fails("crosscheck", "nothing-here", *files, *FIELDS)


def test_a_model_without_a_question_says_how_to_ask(files: list[str]) -> None:
    with serving() as log:
        assert "--items" in fails("crosscheck", f"server:m@{log.url}", *files, *FIELDS)


def test_two_files_of_one_name_are_refused(files: list[str], tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / files[0]).write_bytes((tmp_path / files[0]).read_bytes())
    assert "'honest'" in fails("crosscheck", files[0], f"other/{files[0]}", *FIELDS)


@pytest.fixture
def items(tmp_path: Path) -> str:
    path = tmp_path / "items.jsonl"
    path.write_text("".join(json.dumps({"id": f"{n}", "prompt": f"Scene {n}?"}) + "\n" for n in range(30)))
    return str(path)


def test_plan_counts_everything_and_sends_nothing(items: str, tmp_path: Path) -> None:
    with serving() as log:
        line = [
            f"server:a@{log.url}",
            f"server:b@{log.url}",
            "--items",
            items,
            "--out",
            str(tmp_path / "run"),
            "-k",
            "2",
        ]
        judge = ["--judge", "prompt", "--judge-model", f"server:j@{log.url}", "--price", "1,2"]
        told = json.loads(call(*line, *judge, "--plan", "--json"))
        assert not log.bodies and not (tmp_path / "run").exists()
    assert [step["missing"] for step in told["steps"][:2]] == [90, 90]
    assert told["steps"][2]["missing"] == 30 * 2 * 2 * 5 and told["cost"] > 0
    assert told["assumptions"]["claims_per_answer"] == 5


def test_plan_for_many_items_is_the_plan_for_these_times_their_number(items: str, tmp_path: Path) -> None:
    line = ["server:a@http://x", "server:b@http://x", "server:c@http://x", "server:d@http://x"]
    line += ["--items", items, "--out", str(tmp_path / "run"), "--judge", "prompt"]
    line += ["--judge-model", "server:j@http://x", "--json"]
    small = json.loads(call(*line, "--plan"))
    large = json.loads(call(*line, "--plan-items", "30000000", "--tokens-per-s", "400"))
    assert large["calls"] == 1_000_000 * small["calls"]
    assert large["bytes"] == pytest.approx(1e6 * small["bytes"])
    assert large["hours"] == pytest.approx(1e6 * small["hours"] / 10)
    panels = json.loads(call(*line, "--plan", "--panel", "2", "--weights", "uniform"))
    assert panels["steps"][-1]["total"] * 3 == small["steps"][-1]["total"]


def test_plan_of_a_finished_run_has_nothing_left_to_ask(items: str, tmp_path: Path) -> None:
    with serving() as log:
        line = [
            f"server:a@{log.url}",
            f"server:b@{log.url}",
            "--items",
            items,
            "--out",
            str(tmp_path / "run"),
        ]
        line += ["--judge", "prompt", "--judge-model", f"server:j@{log.url}", "--bootstrap", "50"]
        call(*line)
        n_calls = len(log.bodies)
        told = json.loads(call(*line, "--plan", "--json"))
    assert told["calls"] == 0 and told["steps"][2]["total"] == 60 and len(log.bodies) == n_calls


def test_a_spent_budget_exits_with_3_and_the_same_line_goes_on(items: str, tmp_path: Path) -> None:
    with serving() as log:
        line = ["crosscheck", f"server:a@{log.url}", f"server:b@{log.url}", "--items", items, "--out", "run"]
        line += ["--judge", "ngram", "--bootstrap", "50"]
        assert "25 calls" in fails(*line, "--budget", "calls=25", code=3, cwd=tmp_path)
        assert len(log.bodies) == 25
        subprocess.run(
            [sys.executable, "-m", "vlmtools", *line], check=True, cwd=tmp_path, capture_output=True
        )
        assert len(log.bodies) == 60


def test_offline_replays_without_the_server(items: str, tmp_path: Path) -> None:
    with serving() as log:
        line = [
            f"server:a@{log.url}",
            f"server:b@{log.url}",
            "--items",
            items,
            "--out",
            str(tmp_path / "run"),
        ]
        line += ["--judge", "ngram", "--bootstrap", "50"]
        first = call(*line, "--json")
    again = call(*line, "--json", "--offline")
    assert json.loads(again)["ranking"] == json.loads(first)["ranking"]


def test_early_stopping_looks_at_doubling_numbers_of_items(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, lies in SHARES.items():
        rows = [{"id": f"{n}", "text": describer(lies)(Request(Sample(f"{n}")))} for n in range(300)]
        Path(f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    told = json.loads(call(*(f"{name}.jsonl" for name in SHARES), "--early-stop", "--json"))
    assert told["record"]["early_stop"]["looks"] == [50, 100, 200, 300]
    assert told["record"]["early_stop"]["stopped_at"] == told["ranking"][0]["n_items"] < 300
    assert told["record"]["settings"]["level"] == pytest.approx(1 - 0.05 / 4)


def test_what_is_piped_is_plain_and_fits_80_columns(files: list[str], tmp_path: Path) -> None:
    line = [sys.executable, "-m", "vlmtools", "crosscheck", *files, *FIELDS]
    done = subprocess.run(line, capture_output=True, text=True, env=os.environ | {"COLUMNS": "80"})
    assert done.returncode == 0 and done.stdout.isascii() and "\x1b" not in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
