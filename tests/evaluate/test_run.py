"""Asking a model a benchmark: resume, kill, controls, judge, media."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
from PIL import Image
from scripted import Gone, Scripted

from vlmtools.benchmarks.base import Benchmark, Row, Said, Total, ratio
from vlmtools.benchmarks.pope import Pope
from vlmtools.crosscheck.budget import Budget
from vlmtools.errors import BadInput, BudgetSpent, ServerError, StoreMismatch
from vlmtools.evaluate.judging import asking as judged_by
from vlmtools.evaluate.run import Asking, evaluate_model
from vlmtools.evaluate.scoring import Scoring
from vlmtools.types import Sample

N = 40
QUICK = Scoring(n_boot=20)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "pope"
    (folder / "images").mkdir(parents=True)
    lines = []
    for n in range(N):
        name = f"{n // 4}.png"
        Image.new("RGB", (8, 8), (5 * n, 20, 30)).save(folder / "images" / name)
        lines.append(
            {"question_id": n, "image": name, "text": f"Is there a {n}?", "label": "yes" if n % 2 else "no"}
        )
    (folder / "coco_pope_random.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def says(prompt: str) -> str:
    number = int(prompt.removeprefix("Is there a ").removesuffix("?"))
    return "Yes" if number % 3 else "No"


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix in (".json", ".jsonl")}


def test_a_model_is_asked_scored_and_written_down(tmp_path: Path, data: Path) -> None:
    model = Scripted(says)
    found = evaluate_model(model, Pope(), data, folder=tmp_path / "run", scoring=QUICK)
    assert found.n == N and len(model.asked) == N and model.closed
    assert model.asked[0].sample.image == str(data / "images" / "0.png")
    right = sum((n % 3 != 0) == (n % 2 == 1) for n in range(N))
    assert found.metrics["accuracy"].value == right / N
    stored = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert len(stored["rows"]) == N and stored["record"]["model"]["name"] == "scripted"


def test_the_same_line_again_asks_nothing(tmp_path: Path, data: Path) -> None:
    for _ in range(2):
        model = Scripted(says)
        evaluate_model(model, Pope(), data, folder=tmp_path / "run", scoring=QUICK)
    assert model.asked == []


def test_another_protocol_asks_nothing_either(tmp_path: Path, data: Path) -> None:
    evaluate_model(Scripted(says), Pope(), data, folder=tmp_path / "run", scoring=QUICK)
    model = Scripted(says)
    found = evaluate_model(model, Pope(protocol="lenient"), data, folder=tmp_path / "run", scoring=QUICK)
    assert found.protocol == "lenient" and model.asked == []


def test_a_run_that_broke_off_goes_on_and_ends_as_an_undisturbed_one(tmp_path: Path, data: Path) -> None:
    evaluate_model(Scripted(says), Pope(), data, folder=tmp_path / "whole", scoring=QUICK)
    with pytest.raises(ServerError):
        evaluate_model(Gone(says, 13), Pope(), data, folder=tmp_path / "cut", scoring=QUICK)
    rest = Scripted(says)
    evaluate_model(rest, Pope(), data, folder=tmp_path / "cut", scoring=QUICK)
    assert len(rest.asked) == N - 13
    assert files(tmp_path / "cut") == files(tmp_path / "whole")


def test_answers_of_another_model_are_never_taken(tmp_path: Path, data: Path) -> None:
    evaluate_model(Scripted(says), Pope(), data, folder=tmp_path / "run", scoring=QUICK)
    other = Scripted(says)
    other.identity = lambda: {"kind": "other"}  # type: ignore[method-assign]
    with pytest.raises(StoreMismatch, match="kind"):
        evaluate_model(other, Pope(), data, folder=tmp_path / "run", scoring=QUICK)


def test_failed_calls_are_told_and_asked_again(tmp_path: Path, data: Path) -> None:
    tired = Scripted(lambda prompt: None if prompt.endswith("7?") else says(prompt))
    with pytest.raises(BadInput, match=r"4 of 40 items have no answer: too busy \(4\)"):
        evaluate_model(tired, Pope(), data, folder=tmp_path / "run", scoring=QUICK)
    rested = Scripted(says)
    found = evaluate_model(rested, Pope(), data, folder=tmp_path / "run", scoring=QUICK)
    assert len(rested.asked) == 4 and found.n == N


def test_partial_scores_what_there_is_and_says_so(tmp_path: Path, data: Path) -> None:
    tired = Scripted(lambda prompt: None if prompt.endswith("7?") else says(prompt))
    found = evaluate_model(
        tired,
        Pope(),
        data,
        folder=tmp_path / "run",
        asking=Asking(partial=True),
        scoring=replace(QUICK, partial=True),
    )
    assert found.n == N - 4 and any("4 calls failed: too busy" in line for line in found.record["warnings"])


def test_a_missing_picture_is_named_before_anything_is_asked(tmp_path: Path, data: Path) -> None:
    (data / "images" / "3.png").unlink()
    model = Scripted(says)
    with pytest.raises(
        BadInput, match="4 of 40 items have a medium that is not here, first of them '12' with '3"
    ):
        evaluate_model(model, Pope(), data, folder=tmp_path / "run", scoring=QUICK)
    assert model.asked == []


def test_a_budget_stops_the_run_and_keeps_the_answers(tmp_path: Path, data: Path) -> None:
    with pytest.raises(BudgetSpent):
        evaluate_model(
            Scripted(says), Pope(), data, folder=tmp_path / "run", budget=Budget(calls=10), scoring=QUICK
        )
    rest = Scripted(says)
    evaluate_model(rest, Pope(), data, folder=tmp_path / "run", scoring=QUICK)
    assert len(rest.asked) == N - 10


def test_a_limit_is_told_in_the_record(tmp_path: Path, data: Path) -> None:
    asking = Asking(limit=8)
    found = evaluate_model(
        Scripted(says), Pope(), data, folder=tmp_path / "run", asking=asking, scoring=QUICK
    )
    assert found.n == 8 and any("first 8 items" in line for line in found.record["warnings"])


@dataclass(frozen=True)
class Judged(Benchmark):
    """Asks a judge whether an answer is good; its items are made, not read."""

    judge: ClassVar[str] = "any"
    modality: ClassVar[tuple[str, ...]] = ()

    def samples(self, data: Path | None) -> Sequence[Sample]:
        return [Sample(f"{n}", f"Is there a {n}?") for n in range(6)]

    def questions(self, sample: Sample, text: str) -> Sequence[Sample]:
        return [Sample("q", f"Is {text!r} a good answer to {sample.prompt!r}?")]

    def score(self, sample: Sample, said: Said) -> Row:
        good = said.verdicts == ("good",)
        return Row(sample.id, said.text, parsed=said.verdicts[0], correct=good, numbers={"good": float(good)})

    def metrics(self, total: Total) -> dict[str, Any]:
        return {"good": ratio(total["good"], total["n"])}


def test_a_judge_is_asked_once_per_answer_and_never_again(tmp_path: Path) -> None:
    for n_asked in (6, 0):
        judge = Scripted(lambda prompt: "good" if "Yes" in prompt else None)
        setting = replace(QUICK, judged=judged_by(Judged(), judge, tmp_path / "run" / "judge"))
        found = evaluate_model(Scripted(says), Judged(), None, folder=tmp_path / "run", scoring=setting)
        assert len(judge.asked) == (n_asked or 2)  # the two that failed are asked again
    assert found.metrics["good"].value == 4 / 6 and found.unparsed == 2


SERVED = """
import json, sys, time
sys.path[:0] = {path!r}
from pathlib import Path
from scripted import Scripted
from vlmtools.benchmarks.pope import Pope
from vlmtools.evaluate.run import evaluate_model
from vlmtools.evaluate.scoring import Scoring
def says(prompt):
    time.sleep(0.003)
    return "Yes" if len(prompt) % 3 else "No"
evaluate_model(Scripted(says), Pope(), Path({data!r}), folder=Path({out!r}), scoring=Scoring(n_boot=5))
"""


@pytest.mark.slow
def test_a_run_killed_at_any_moment_ends_with_the_same_files(tmp_path: Path, data: Path) -> None:
    def code(out: Path) -> list[str]:
        text = SERVED.format(
            path=[str(Path(__file__).parents[1] / "crosscheck")], data=str(data), out=str(out)
        )
        return [sys.executable, "-c", text]

    whole, cut = tmp_path / "whole", tmp_path / "cut"
    subprocess.run(code(whole), check=True)
    chance, killed = random.Random(), 0
    size = (whole / "answers.jsonl").stat().st_size
    for place in sorted(chance.randrange(1, size) for _ in range(4)):
        process = subprocess.Popen(code(cut))
        answers = cut / "answers.jsonl"
        while process.poll() is None and (not answers.exists() or answers.stat().st_size < place):
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
    subprocess.run(code(cut), check=True)
    assert killed, "no run was killed, so the test shows nothing"
    assert files(cut) == files(whole)
    assert os.path.getsize(cut / "answers.jsonl") == size  # noqa: PTH202
