"""The training story on a tiny random LLaVA."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import tiny_models
import torch
from places import ROOT

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
            (tmp_path / f"checkpoint-{step}" / "trainer_state.json").touch()
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
