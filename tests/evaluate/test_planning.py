"""What a run would ask, counted before anything is sent."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
from PIL import Image
from scripted import Gone, Scripted
from typer.testing import CliRunner

from vlmtools.benchmarks.base import Benchmark, Row, Said, Total, ratio
from vlmtools.benchmarks.pope import Pope
from vlmtools.bundled import bundled
from vlmtools.cli import app
from vlmtools.errors import BadInput, ServerError
from vlmtools.evaluate.judging import asking
from vlmtools.evaluate.planning import make_plan
from vlmtools.evaluate.run import Asking, Run, evaluate_model, question
from vlmtools.evaluate.scoring import Scoring
from vlmtools.evaluate.workers import Worker, ask_share
from vlmtools.store import Store
from vlmtools.types import Reply, Sample

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


@dataclass(frozen=True)
class Judged(Benchmark):
    """Asks a judge about every sentence of an answer; its items are made, not read."""

    judge: ClassVar[str] = "any"
    modality: ClassVar[tuple[str, ...]] = ()

    def samples(self, data: Path | None) -> Sequence[Sample]:
        return [Sample(f"{n}", f"What of {n}?") for n in range(N)]

    def questions(self, sample: Sample, text: str) -> Sequence[Sample]:
        said = [one.strip() for one in text.split(".") if one.strip()]
        return [Sample(f"{number}", f"Is it so: {one}?") for number, one in enumerate(said)]

    def score(self, sample: Sample, said: Said) -> Row:
        return Row(sample.id, said.text, numbers={"good": float("yes" in said.verdicts)})

    def metrics(self, total: Total) -> dict[str, Any]:
        return {"good": ratio(total["good"], total["n"])}


def judged_run(model: Scripted, judge: Scripted | None, run: Path) -> None:
    judged = None if judge is None else asking(Judged(), judge, run / "judge")
    evaluate_model(model, Judged(), None, folder=run, scoring=Scoring(n_boot=2, judged=judged))


def test_while_no_answer_is_stored_the_judges_calls_are_an_estimate_and_say_so(tmp_path: Path) -> None:
    model, judge = Scripted(lambda prompt: "A. B."), Scripted(lambda prompt: "yes")
    made = make_plan(question(Judged(), None, Asking()), model, tmp_path / "run", (1.0, 1.0), judge)
    step = made.steps[1]
    assert (step.total, step.missing) == (5 * N, 5 * N) and "estimated for 10 answers" in step.what
    assert made.assumptions["sentences_per_judged_answer"] == 5 and made.cost is not None
    assert made.to_json()["calls"] == N + 5 * N
    assert not (model.asked or judge.asked or (tmp_path / "run").exists())


def test_stored_answers_give_exactly_the_questions_that_the_judge_is_then_asked(tmp_path: Path) -> None:
    model = Scripted(lambda prompt: "The same." + prompt[8:9] + "." if "3" in prompt else "The same.")
    judge = Scripted(lambda prompt: Reply("yes", n_prompt_tokens=9, n_new_tokens=3))
    judged_run(model, None, tmp_path / "run")
    told = question(Judged(), None, Asking()), model, tmp_path / "run", None, judge
    before = make_plan(*told).steps[1]
    judged_run(model, judge, tmp_path / "run")
    after = make_plan(*told).steps[1]
    assert (before.total, before.missing) == (2, 2) == (len(judge.asked), len(judge.asked))
    assert before.tokens_in == sum(len(prompt) for prompt in judge.prompts) / 4
    assert (after.total, after.missing, after.tokens_out) == (2, 0, 0)
    assert "estimated" not in before.what + after.what


def test_answers_that_are_not_stored_are_taken_to_be_like_those_that_are(tmp_path: Path) -> None:
    gone, judge = Gone(lambda prompt: f"{prompt[8]}. And. More.", 4), Scripted(lambda prompt: "yes")
    with pytest.raises(ServerError):
        judged_run(gone, judge, tmp_path / "run")
    made = make_plan(question(Judged(), None, Asking()), gone, tmp_path / "run", None, judge)
    assert made.steps[1].missing == (4 + 2) + 6 * 3 and "estimated for 6 answers" in made.steps[1].what
    assert "sentences_per_judged_answer" not in made.assumptions


@pytest.mark.skipif("clean" not in bundled(), reason="the bundled models are not in this checkout")
def test_the_command_counts_the_judges_calls_too(tmp_path: Path) -> None:
    asked = [{"image_id": "a.png", "question": f"What is here, {n}?"} for n in range(3)]
    (tmp_path / "obj_halbench_300.jsonl").write_text("\n".join(map(json.dumps, asked)))
    (tmp_path / "gt_objects.json").write_text(json.dumps({"a.png": ["dog"]}))
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    line = [
        "eval",
        "reference:clean",
        "--bench",
        "object_halbench",
        "--judge-model",
        "reference:prior",
        "--plan",
    ]
    here = ["--data", str(tmp_path), "--images", str(tmp_path), "--out", str(tmp_path / "run")]
    told = json.loads(CliRunner().invoke(app, [*line, *here, "--json"], catch_exceptions=False).stdout)
    assert [step["missing"] for step in told["steps"]] == [3, 3] and told["calls"] == 6
    assert "prior" in told["steps"][1]["what"] and not (tmp_path / "run").exists()


@pytest.mark.skipif("clean" not in bundled(), reason="the bundled models are not in this checkout")
def test_the_command_says_what_a_run_costs_and_a_limit_on_it_needs_prices(tmp_path: Path) -> None:
    line = ["eval", "reference:clean", "--bench", "scenes:n=2", "--out", str(tmp_path / "run"), "--plan"]
    done = CliRunner().invoke(app, [*line, "--price", "1,2", "--json"], catch_exceptions=False)
    told = json.loads(done.stdout)
    assert told["calls"] == 14 and told["cost"] > 0 and not (tmp_path / "run").exists()
    with pytest.raises(BadInput, match="needs prices"):
        CliRunner().invoke(app, [*line, "--budget", "cost=1"], catch_exceptions=False)
