"""The training story on a tiny random LLaVA."""

import importlib.util
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import tiny_models
import torch
from places import ROOT
from safetensors.torch import load_file

import vlmtools as vt
from vlmtools.adapters.base import load
from vlmtools.errors import BadInput, MissingField


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("train_adapter", ROOT / "scripts" / "train_adapter.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["train_adapter"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("tiny")
    tiny_models.llava(where / "vlm")
    for seed in range(2):
        tiny_models.picture(where, seed)
    rows = [
        {"image": f"picture{seed}.png", "question": "a dog?", "answer": answer}
        for seed, answer in enumerate(("yes a dog", "no a cat sit on the red table"))
    ]
    (where / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return where


def _run(script: Any, folder: Path, out: Path, adapter: str, **settings: Any) -> tuple[Any, Any]:
    vlm = vt.load(folder / "vlm", dtype="float32", device_map=None)
    given = {"steps": 6, "batch": 2, "lr": 0.02, "warmup": 0, "save_every": 3, "log_every": 1, **settings}
    part = script.train(vlm, adapter, script.Rows(folder / "rows.jsonl"), out, script.Settings(**given))
    return vlm, part


def _curve(out: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (out / "curve.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("adapter", ["mlp", "lora:rank=4"])
def test_the_loss_falls_only_the_part_moves_and_detaching_restores_the_model(
    script: Any, folder: Path, tmp_path: Path, adapter: str
) -> None:
    before = vt.load(folder / "vlm", dtype="float32", device_map=None)
    vlm, part = _run(script, folder, tmp_path, adapter)
    losses = [row["loss"] for row in _curve(tmp_path)]
    assert len(losses) == 6 and losses[-1] < losses[0]
    batch = script.Collate(vlm)([script.Rows(folder / "rows.jsonl")[0]])
    with torch.no_grad():
        trained = vlm.model(**batch).logits
        part.detach()
        assert torch.equal(vlm.model(**batch).logits, before.model(**batch).logits)
        again = load(tmp_path, vlm)
        assert torch.equal(vlm.model(**batch).logits, trained)
    again.detach()
    wanted = before.model.state_dict()
    assert all(torch.equal(wanted[name], one) for name, one in vlm.model.state_dict().items())


def test_a_stopped_run_goes_on_to_the_same_end(script: Any, folder: Path, tmp_path: Path) -> None:
    _, whole = _run(script, folder, tmp_path / "whole", "mlp")
    _run(script, folder, tmp_path / "parts", "mlp", stop_at=4)
    assert script.last_checkpoint(tmp_path / "parts") is not None
    _, resumed = _run(script, folder, tmp_path / "parts", "mlp")
    assert [row["step"] for row in _curve(tmp_path / "parts")] == [1, 2, 3, 4, 5, 6]
    for name, one in whole.tensors().items():
        torch.testing.assert_close(resumed.tensors()[name], one)


def test_a_torn_checkpoint_is_passed_over(script: Any, tmp_path: Path) -> None:
    for step, whole in ((3, True), (20, True), (100, False)):
        (tmp_path / f"checkpoint-{step}").mkdir()
        if whole:
            (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text('{"global_step": 1}')
    (tmp_path / "checkpoint-50").mkdir()
    (tmp_path / "checkpoint-50" / "trainer_state.json").write_text('{"global_')
    assert script.last_checkpoint(tmp_path).name == "checkpoint-20"


def test_only_the_answers_count(script: Any, folder: Path) -> None:
    vlm = vt.load(folder / "vlm", dtype="float32", device_map=None)
    rows = script.Rows(folder / "rows.jsonl")
    batch = script.Collate(vlm)([rows[0], rows[1]])
    for index, row in enumerate(rows):
        counted = batch["labels"][index][batch["labels"][index] != -100]
        assert vlm.tokenizer.decode(counted[:-1]).strip() == row["answer"]
        assert counted[-1] == vlm.tokenizer.eos_token_id
    assert batch["input_ids"].shape == batch["labels"].shape == batch["attention_mask"].shape


def test_a_run_of_another_adapter_is_not_gone_on_with(script: Any, folder: Path, tmp_path: Path) -> None:
    _run(script, folder, tmp_path, "linear", steps=1, save_every=1)
    with pytest.raises(BadInput, match="Give another --out"):
        _run(script, folder, tmp_path, "mlp")


def test_a_run_with_other_settings_is_not_gone_on_with(script: Any, folder: Path, tmp_path: Path) -> None:
    _run(script, folder, tmp_path, "mlp:depth=3", steps=1, save_every=1)
    with pytest.raises(BadInput, match="depth=3, not 2"):
        _run(script, folder, tmp_path, "mlp")
    _run(script, folder, tmp_path, "mlp:depth=3", steps=2, save_every=1)


def test_a_torn_line_of_the_curve_is_dropped(script: Any, tmp_path: Path) -> None:
    path = tmp_path / "curve.jsonl"
    path.write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "loss": 1.0}\n{"step": 3, "lo')
    script.Curve(path).on_train_begin(None, SimpleNamespace(global_step=1), None)
    assert path.read_text() == '{"step": 1, "loss": 2.0}\n'


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_end(folder: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "scripts" / "train_adapter.py")]
    command += [
        "--model",
        str(folder / "vlm"),
        "--adapter",
        "lora:rank=2",
        "--data",
        str(folder / "rows.jsonl"),
    ]
    command += [
        "--dtype",
        "float32",
        "--steps",
        "40",
        "--batch",
        "1",
        "--save-every",
        "4",
        "--log-every",
        "1",
    ]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    subprocess.run([*command, "--out", str(whole)], check=True, capture_output=True)
    with subprocess.Popen(
        [*command, "--out", str(parts)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as going:
        while going.poll() is None and not (parts / "checkpoint-8").is_dir():
            time.sleep(0.01)
        going.kill()
    assert going.returncode == -signal.SIGKILL and not (parts / "adapter_model.safetensors").exists()
    subprocess.run([*command, "--out", str(parts)], check=True, capture_output=True)
    assert [row["step"] for row in _curve(parts)] == list(range(1, 41))
    wanted, found = (load_file(one / "adapter_model.safetensors") for one in (whole, parts))
    assert wanted.keys() == found.keys() and all(torch.equal(wanted[k], found[k]) for k in wanted)


@pytest.mark.slow
def test_with_a_benchmark_it_says_what_changed(
    script: Any,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = [
        "--model",
        str(folder / "vlm"),
        "--adapter",
        "mlp",
        "--data",
        str(folder / "rows.jsonl"),
        "--steps",
        "2",
    ]
    words += ["--out", str(tmp_path), "--dtype", "float32", "--bench", "scenes:n=1,pairs=1"]
    monkeypatch.setattr(sys, "argv", ["train_adapter.py", *words])
    script.main()
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith("accuracy: ") and "Holm" in line]
    assert (tmp_path / "before" / "evaluation.json").is_file()
    assert (tmp_path / "after" / "evaluation.json").is_file()


def test_a_row_without_an_answer_is_named(script: Any, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"image": "a.png", "question": "?"}\n')
    with pytest.raises(MissingField, match="row 1 has no text under 'answer'"):
        script.Rows(tmp_path / "rows.jsonl")


def test_an_answer_follows_the_prompt_as_the_template_writes_it(script: Any, folder: Path) -> None:
    vlm = vt.load(folder / "vlm", dtype="float32", device_map=None)
    rows = script.Rows(folder / "rows.jsonl")
    batch = script.Collate(vlm)([rows[0]])
    written = vlm.tokenizer.decode(batch["input_ids"][0])
    assert written.endswith("ASSISTANT: yes a dog</s>")
    labels = batch["labels"][0][batch["labels"][0] != -100]
    assert labels[0] == vlm.tokenizer(" yes")["input_ids"][0] != vlm.tokenizer("yes")["input_ids"][0]


class _Words:
    """A model without a template that knows what came before."""

    processor = tokenizer = object()


@pytest.mark.parametrize(("prompt", "lead"), [("USER: who? ASSISTANT:", " "), ("<|assistant|>\n", "")])
def test_without_a_template_a_space_stands_where_there_is_none_yet(prompt: str, lead: str) -> None:
    from adapter_study.rows import between

    assert between(_Words(), "who?", prompt, "me") == lead  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["clean", "smol"])
def test_a_model_finds_the_truth_about_its_world_likely(script: Any, name: str, tmp_path: Path) -> None:
    from adapter_study.training import lessons, losses

    vlm = vt.load(f"reference:{name}", dtype="float32")
    each = losses(vlm, script.Rows(lessons(tmp_path, 4)))
    assert sum(each) / len(each) < 0.3
