"""What a run would ask, counted before anything is sent."""

import json
from pathlib import Path

import pytest
from scripted import Gone, Scripted
from typer.testing import CliRunner

from vlmtools.benchmarks.pope import Pope
from vlmtools.bundled import bundled
from vlmtools.cli import app
from vlmtools.errors import BadInput, ServerError
from vlmtools.evaluate.planning import make_plan
from vlmtools.evaluate.run import Asking, Run, evaluate_model, question
from vlmtools.evaluate.scoring import Scoring
from vlmtools.evaluate.workers import Worker, ask_share
from vlmtools.store import Store
from vlmtools.types import Reply

N = 10


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rows = [{"question_id": n, "text": "Is there a dog here?", "label": "yes"} for n in range(N)]
    file = tmp_path / "coco_pope_random.json"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def test_calls_tokens_and_cost_are_counted_and_nothing_is_asked(tmp_path: Path, data: Path) -> None:
    model = Scripted(lambda prompt: "Yes")
    made = make_plan(question(Pope(), data, Asking()), model, tmp_path / "run", (1.0, 10.0))
    (step,) = made.steps
    assert (step.total, step.missing, step.tokens_in, step.tokens_out) == (N, N, N * 20 / 4, N * 64)
    assert made.cost == pytest.approx((N * 5 * 1.0 + N * 64 * 10.0) / 1e6)
    assert model.asked == [] and not (tmp_path / "run").exists()


def test_stored_answers_are_not_counted_and_their_length_is_measured(tmp_path: Path, data: Path) -> None:
    gone = Gone(lambda prompt: Reply("Yes", n_prompt_tokens=9, n_new_tokens=3), 4)
    with pytest.raises(ServerError):
        evaluate_model(gone, Pope(), data, folder=tmp_path / "run", scoring=Scoring(n_boot=2))
    made = make_plan(question(Pope(), data, Asking()), gone, tmp_path / "run")
    assert (made.steps[0].missing, made.steps[0].tokens_out) == (6, 18) and made.cost is None


def test_what_workers_answered_counts_as_stored(tmp_path: Path, data: Path) -> None:
    model, asked = Scripted(lambda prompt: "Yes"), question(Pope(), data, Asking())
    with Store(Worker(0, 2).folder(tmp_path / "run")) as store:
        run = Run(asked, model, store, Asking(), Scoring(n_boot=2))
        ask_share(run, Worker(0, 2), tmp_path / "run")
    assert make_plan(asked, model, tmp_path / "run").steps[0].missing == N // 2


@pytest.mark.skipif("clean" not in bundled(), reason="the bundled models are not in this checkout")
def test_the_command_says_what_a_run_costs_and_a_limit_on_it_needs_prices(tmp_path: Path) -> None:
    line = ["eval", "reference:clean", "--bench", "scenes:n=2", "--out", str(tmp_path / "run"), "--plan"]
    done = CliRunner().invoke(app, [*line, "--price", "1,2", "--json"], catch_exceptions=False)
    told = json.loads(done.stdout)
    assert told["calls"] == 14 and told["cost"] > 0 and not (tmp_path / "run").exists()
    with pytest.raises(BadInput, match="needs prices"):
        CliRunner().invoke(app, [*line, "--budget", "cost=1"], catch_exceptions=False)
