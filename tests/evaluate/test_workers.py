"""Several processes share a run: the same numbers as one, nothing asked twice, and a kill costs one answer."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from scripted import Gone, Scripted

from vlmtools.benchmarks._evaluation import Evaluation
from vlmtools.benchmarks.pope import Pope
from vlmtools.bundled import bundled
from vlmtools.crosscheck.budget import Budget
from vlmtools.errors import BadInput, BudgetSpent, ResponderError, ServerError, StoreMismatch
from vlmtools.evaluate.launching import launch, launched, without
from vlmtools.evaluate.merging import stored_keys
from vlmtools.evaluate.run import Asking, Run, evaluate_model, question
from vlmtools.evaluate.scoring import Scoring
from vlmtools.evaluate.workers import Worker, ask_share, open_when_free, score_when_last
from vlmtools.store import Store

N = 41
QUICK = Scoring(n_boot=20)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rows = [
        {"question_id": n, "text": f"Is there a {n}?", "label": "yes" if n % 2 else "no"} for n in range(N)
    ]
    file = tmp_path / "coco_pope_random.json"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def says(prompt: str) -> str:
    return "Yes" if int(prompt.removeprefix("Is there a ").removesuffix("?")) % 3 else "No"


def share(worker: Worker, run: Path, data: Path, model: Scripted, **asking: Any) -> Evaluation | None:
    """What one process does from its start to its end."""
    asked = question(Pope(), data, Asking(**asking))
    with Store(worker.folder(run)) as store:
        task = Run(asked, model, store, Asking(**asking), QUICK)
        ask_share(task, worker, run)
    with open_when_free(run) as store:
        return score_when_last(replace(task, store=store), worker)


def test_workers_get_the_numbers_of_one_process_and_ask_everything_once(tmp_path: Path, data: Path) -> None:
    whole = evaluate_model(Scripted(says), Pope(), data, folder=tmp_path / "one", scoring=QUICK)
    models = [Scripted(says) for _ in range(3)]
    found = [share(Worker(n, 3), tmp_path / "run", data, model) for n, model in enumerate(models)]
    assert found[:2] == [None, None]
    assert found[2] is not None and found[2].to_json(full=True) == whole.to_json(full=True)
    assert sorted(prompt for model in models for prompt in model.prompts) == sorted(
        f"Is there a {n}?" for n in range(N)
    )


def test_an_ordinary_run_takes_over_what_workers_left(tmp_path: Path, data: Path) -> None:
    whole = evaluate_model(Scripted(says), Pope(), data, folder=tmp_path / "one", scoring=QUICK)
    with pytest.raises(ServerError):
        share(Worker(0, 2), tmp_path / "run", data, Gone(says, 5))
    rest = Scripted(says)
    found = evaluate_model(rest, Pope(), data, folder=tmp_path / "run", scoring=QUICK)
    assert len(rest.asked) == N - 5 and found.to_json(full=True) == whole.to_json(full=True)


def test_another_number_of_workers_goes_on_and_asks_nothing_twice(tmp_path: Path, data: Path) -> None:
    with pytest.raises(ServerError):
        share(Worker(1, 2), tmp_path / "run", data, Gone(says, 7))
    models = [Scripted(says) for _ in range(3)]
    found = [share(Worker(n, 3), tmp_path / "run", data, model) for n, model in enumerate(models)]
    assert sum(len(model.asked) for model in models) == N - 7 and found[2] is not None and found[2].n == N


def test_the_last_worker_says_why_answers_are_missing_and_a_repetition_asks_only_those(
    tmp_path: Path, data: Path
) -> None:
    def tired(prompt: str) -> str | None:
        return None if prompt.endswith("7?") else says(prompt)

    assert share(Worker(0, 2), tmp_path / "run", data, Scripted(tired)) is None
    with pytest.raises(BadInput, match=r"4 of 41 items have no answer: too busy \(4\)"):
        share(Worker(1, 2), tmp_path / "run", data, Scripted(tired))
    models = [Scripted(says) for _ in range(2)]
    found = [share(Worker(n, 2, launch="2"), tmp_path / "run", data, model) for n, model in enumerate(models)]
    assert sum(len(model.asked) for model in models) == 4
    assert any(one is not None and one.n == N for one in found)


def test_workers_may_score_without_the_answers_that_failed(tmp_path: Path, data: Path) -> None:
    def tired(prompt: str) -> str | None:
        return None if prompt.endswith("7?") else says(prompt)

    found = [share(Worker(n, 2), tmp_path / "run", data, Scripted(tired), partial=True) for n in range(2)]
    assert found[0] is None and found[1] is not None and found[1].n == N - 4


def test_a_folder_of_another_question_is_refused_before_anything_is_asked(tmp_path: Path, data: Path) -> None:
    evaluate_model(Scripted(says), Pope(), data, folder=tmp_path / "run", scoring=QUICK)
    model = Scripted(says)
    with pytest.raises(StoreMismatch, match="max_new_tokens"):
        share(Worker(0, 2), tmp_path / "run", data, model, max_new_tokens=3)
    assert model.asked == []


def test_answers_of_another_model_in_a_workers_folder_are_refused(tmp_path: Path, data: Path) -> None:
    other = Scripted(says)
    other.identity = lambda: {"kind": "other"}  # type: ignore[method-assign]
    share(Worker(0, 2), tmp_path / "run", data, other)
    (tmp_path / "run" / "run.json").unlink()
    with pytest.raises(StoreMismatch, match="kind"):
        evaluate_model(Scripted(says), Pope(), data, folder=tmp_path / "run", scoring=QUICK)


@pytest.mark.parametrize("of", [1, 2, 7])
def test_shares_are_disjoint_and_together_everything(of: int) -> None:
    everything = tuple(range(23))
    shares = [Worker(rank, of).share(everything) for rank in range(of)]  # type: ignore[type-var,arg-type]
    assert sorted(one for share in shares for one in share) == list(everything)  # type: ignore[type-var]
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_the_parts_of_a_budget_add_up(tmp_path: Path, data: Path) -> None:
    parts = [Worker(rank, 3).budget(Budget(calls=10, tokens=90, minutes=5)) for rank in range(3)]
    assert sum(part.calls or 0 for part in parts if part) == 10
    assert [part.tokens for part in parts if part] == [30] * 3 and {
        part.minutes for part in parts if part
    } == {5}
    asked = question(Pope(), data, Asking())
    model = Scripted(says)
    with Store(tmp_path / "part") as store, pytest.raises(BudgetSpent):
        ask_share(Run(asked, model, store, Asking(), QUICK), Worker(1, 3), tmp_path / "run", Budget(calls=10))
    assert len(model.asked) == 3


def test_what_launchers_tell_is_read_and_nonsense_is_refused() -> None:
    assert Worker.from_environment({}) == Worker(0, 1, 0)
    told = {
        "RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4", "MASTER_PORT": "29500",
    }  # fmt: skip
    assert Worker.from_environment(told) == Worker(5, 8, 1, "29500")
    mpi = {"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2"}
    assert Worker.from_environment(mpi) == Worker(1, 2, 1, f"{os.getppid()}")
    with pytest.raises(BadInput, match="worker 2 of 2"):
        Worker.from_environment({"RANK": "2", "WORLD_SIZE": "2"})
    with pytest.raises(BadInput, match="RANK is 'first'"):
        Worker.from_environment({"RANK": "first", "WORLD_SIZE": "2"})


def test_the_command_line_of_a_worker_starts_no_workers() -> None:
    line = ["eval", "m", "--workers", "2", "--out", "x", "--workers=3", "--bench", "pope"]
    assert without(line, "--workers") == ["eval", "m", "--out", "x", "--bench", "pope"]
    assert launched({"VLMTOOLS_LAUNCHED": "1"}) and not launched({})


def test_a_worker_that_fails_is_named_with_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(ResponderError, match=r"2 of 2 workers ended early.*no-such-verb"):
        launch(["no-such-verb"], 2, tmp_path)


SERVED = """
import sys, time
sys.path[:0] = {path!r}
from pathlib import Path
from scripted import Scripted
from test_workers import says, share
from vlmtools.evaluate.workers import Worker
def slow(prompt):
    time.sleep(0.03)
    return says(prompt)
found = share(Worker.from_environment(), Path({out!r}), Path({data!r}), Scripted(slow))
print("scored" if found is not None else "left")
"""


@pytest.fixture
def start(data: Path) -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    here = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "crosscheck")]
    begun: list[subprocess.Popen[str]] = []

    def one(rank: int, out: Path) -> "subprocess.Popen[str]":
        told = {**os.environ, "RANK": f"{rank}", "WORLD_SIZE": "2"}
        code = SERVED.format(path=here, data=str(data), out=str(out))
        begun.append(
            subprocess.Popen([sys.executable, "-c", code], env=told, stdout=subprocess.PIPE, text=True)
        )
        return begun[-1]

    yield one
    for process in begun:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def test_a_killed_process_costs_one_answer_and_the_other_ends_in_peace(
    tmp_path: Path, data: Path, start: Callable[..., "subprocess.Popen[str]"]
) -> None:
    whole = evaluate_model(Scripted(says), Pope(), data, folder=tmp_path / "one", scoring=QUICK)
    out = tmp_path / "run"
    first, second = start(0, out), start(1, out)
    answers = Worker(1, 2).folder(out) / "answers.jsonl"
    while second.poll() is None and (not answers.exists() or answers.stat().st_size < 500):
        time.sleep(0.005)
    second.send_signal(signal.SIGKILL)
    assert second.wait() == -signal.SIGKILL
    assert first.communicate()[0] == "left\n" and first.returncode == 0
    kept = len(stored_keys(out))
    assert 21 < kept < N
    again = [start(0, out), start(1, out)]
    told = [process.communicate()[0] for process in again]
    assert "scored\n" in told and all(process.returncode == 0 for process in again)
    rest = Scripted(says)
    found = evaluate_model(rest, Pope(), data, folder=out, scoring=QUICK)
    assert rest.asked == [] and found.to_json(full=True) == whole.to_json(full=True)


@pytest.mark.slow
@pytest.mark.skipif("clean" not in bundled(), reason="the bundled models are not in this checkout")
def test_eval_with_workers_writes_what_one_process_writes(tmp_path: Path) -> None:
    def told(*more: str) -> Any:
        line = ["eval", "reference:clean", "--bench", "scenes:n=3", "--probes", "2", "--json", *more]
        done = subprocess.run([sys.executable, "-m", "vlmtools", *line], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        found["record"].pop("command")
        return found

    two = told("--out", str(tmp_path / "two"), "--workers", "2")
    assert two == told("--out", str(tmp_path / "one"))
    shares = [(tmp_path / "two" / "workers" / f"{n}-of-2" / "answers.jsonl") for n in range(2)]
    assert [len(path.read_text().splitlines()) for path in shares] == [11, 10]


@pytest.mark.parametrize(
    ("n", "given", "local", "taken"),
    [(4, None, 1, "1"), (2, "4,6", 3, "6"), (1, None, 1, None), (0, None, 1, None)],
)
def test_each_worker_of_a_machine_sees_the_gpu_of_its_own_number(
    monkeypatch: pytest.MonkeyPatch, n: int, given: str | None, local: int, taken: str | None
) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "device_count", lambda: n)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if given is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
    Worker(local, 8, local).take_device()
    assert os.environ.get("CUDA_VISIBLE_DEVICES") == taken
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
