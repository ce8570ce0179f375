"""Training of the reference models: packing equals asking alone, a stopped stage goes on, what is saved answers."""

import copy
import itertools
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
import small_reference
import torch
from PIL import Image
from reference_training import loop, models
from reference_training.batches import IGNORED, Batch, Packer
from reference_training.idefics import IdeficsLearner, rebuilt
from reference_training.loop import train
from reference_training.models import Answering, LlavaLearner, opened
from reference_training.stages import STAGES, Stage

import vlmtools as vt
from vlmtools.reference.language import Annotator, Turn, lesson
from vlmtools.reference.render import pixels
from vlmtools.reference.world import Scene, World

SCENES = list(World().scenes(2, 40))
TURNS = {scene.id: lesson(scene, Annotator(), Random(f"turns-{scene.id}")) for scene in SCENES}


@pytest.fixture(scope="module")
def words() -> Any:
    return small_reference.words()


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch, words: Any) -> None:
    """Stages begin with the small configuration and write a checkpoint after every step."""
    monkeypatch.setattr(models, "config", small_reference.small)
    monkeypatch.setattr(models, "tokenizer", lambda: copy.deepcopy(words))
    monkeypatch.setattr(loop, "SAVE_EVERY_S", -1.0)


@pytest.fixture(scope="module", params=["llava", "idefics3"])
def learner(request: pytest.FixtureRequest, words: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A whole model of each layout with its processor, loaded again the way users load it."""
    own = copy.deepcopy(words)
    if request.param == "llava":
        found: Answering = LlavaLearner(STAGES["clean"], small_reference.llava(), own)
    else:
        found = IdeficsLearner(STAGES["smol"], *rebuilt(small_reference.llava(), own))
    folder = tmp_path_factory.mktemp(request.param)
    models.saved(found, folder)
    return found, vt.load(folder, dtype="float32", device_map=None)


def alone(vlm: Any, scene: Scene, turn: Turn) -> Any:
    """What the processor makes of one conversation with one answer."""
    text = vlm.chat(turn.question, True) + f" {turn.answer}{vlm.tokenizer.eos_token}"
    return vlm.inputs([text], [Image.fromarray(pixels(scene))])


def test_a_packed_turn_has_the_processors_tokens(learner: Any) -> None:
    packing, vlm = learner
    for scene in SCENES:
        ids, labels, _, positions, segment = packing.packer.row(TURNS[scene.id])
        for number, turn in enumerate(TURNS[scene.id], 1):
            mine = [i for i, one in enumerate(segment) if one in (0, number)]
            wanted = alone(vlm, scene, turn)["input_ids"][0].tolist()
            assert [ids[i] for i in mine] == wanted
            assert [positions[i] for i in mine] == list(range(len(wanted)))
            said = vlm.tokenizer.decode([labels[i] for i in mine if labels[i] != IGNORED])
            assert said == f" {turn.answer}</s>"


def packed(learner: Answering, monkeypatch: pytest.MonkeyPatch) -> Batch:
    """Both scenes, of different length, in one batch, with the turns known here."""
    left = iter(SCENES)
    monkeypatch.setattr("reference_training.batches.lesson", lambda scene, *_: TURNS[next(left).id])
    return learner.packer.pack(SCENES, Annotator(), Random(0))


def logits_of(learner: Answering, batch: Batch) -> Any:
    """The logits a training step looks at: one row per answer token, scene by scene."""
    seen: list[Any] = []
    handle = learner.model.lm_head.register_forward_hook(lambda _module, _inputs, out: seen.append(out))
    with torch.no_grad():
        losses = learner(batch)
    handle.remove()
    return seen[0], losses


def logits_alone(vlm: Any) -> Iterator[Any]:
    for scene in SCENES:
        for turn in TURNS[scene.id]:
            inputs = alone(vlm, scene, turn)
            n_said = len(vlm.tokenizer(f" {turn.answer}", add_special_tokens=False)["input_ids"]) + 1
            with torch.no_grad():
                yield vlm.model(**inputs, use_cache=False).logits[0, -n_said - 1 : -1]


def test_a_packed_turn_has_the_logits_it_has_alone(learner: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    packing, vlm = learner
    batch = packed(packing, monkeypatch)
    together, losses = logits_of(packing, batch)
    apart = torch.cat(list(logits_alone(vlm)))
    assert together.shape == apart.shape and apart.std() > 0.1
    torch.testing.assert_close(together, apart, atol=1e-4, rtol=0)
    asked = batch.labels[:, 1:] != IGNORED
    each = torch.nn.functional.cross_entropy(apart, batch.labels[:, 1:][asked], reduction="none")
    weight = batch.weight[:, 1:][asked]
    torch.testing.assert_close(losses["answer"], (each * weight).sum() / weight.sum(), atol=1e-5, rtol=0)


def test_without_the_mask_turns_would_see_each_other(learner: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    packing, _ = learner
    batch = packed(packing, monkeypatch)
    right, _ = logits_of(packing, batch)
    batch.mask = torch.ones_like(batch.mask).tril()
    assert (logits_of(packing, batch)[0] - right).abs().max() > 0.01


def test_the_verdict_of_a_yes_or_no_answer_weighs_most(words: Any) -> None:
    packer = Packer(words, words.convert_tokens_to_ids("<image>"), 2, "<s>USER: ", "\n")
    _, labels, weight, _, _ = packer.row(
        [Turn("Is there a dog in the image?", "Yes."), Turn("Where?", "On the left.")]
    )
    heavy = [one for one, label in zip(weight, labels, strict=True) if label != IGNORED]
    assert heavy[:3] == [3.0, 0.2, 0.2] and set(heavy[3:]) == {1.0}
    assert all(one == 0 for one, label in zip(weight, labels, strict=True) if label == IGNORED)


TOWER = replace(STAGES["tower"], n_scenes=2, steps=4)
CLEAN = replace(STAGES["clean"], n_scenes=2, steps=4)


def run(stage: Stage, out: Path, steps: int | None = None) -> Path:
    return train(stage, out, steps=steps, threads=torch.get_num_threads())


def weights(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


def curve(folder: Path) -> dict[int, Any]:
    rows = [json.loads(line) for line in (folder / "curve.jsonl").read_text().splitlines()]
    return {row.pop("step"): {name: value for name, value in row.items() if name != "eta_s"} for row in rows}


class Stopped(Exception):
    """The machine went away."""


def stopping_at(wanted: int, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = loop._step

    def step(stage: Stage, number: int, *rest: Any) -> Any:
        if number == wanted:
            raise Stopped
        return whole(stage, number, *rest)

    monkeypatch.setattr(loop, "_step", step)


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("stop", [1, 3])
def test_a_stopped_stage_goes_on_to_the_same_numbers(
    stop: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight = run(TOWER, tmp_path / "straight")
    with monkeypatch.context() as patch:
        stopping_at(stop, patch)
        with pytest.raises(Stopped):
            run(TOWER, tmp_path / "stopped")
    assert (tmp_path / "stopped" / "tower" / "latest").read_text().split()[1] == str(stop)
    assert not (tmp_path / "stopped" / "tower" / "done.json").exists()
    resumed = run(TOWER, tmp_path / "stopped")
    assert curve(resumed) == curve(straight)
    before, after = weights(straight), weights(resumed)
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)


@pytest.fixture(scope="module")
def trained(words: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tower, then a whole model, then its children; two steps each."""
    out = tmp_path_factory.mktemp("stages")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models, "config", small_reference.small)
        patch.setattr(models, "tokenizer", lambda: copy.deepcopy(words))
        for stage in (TOWER, CLEAN, *(replace(STAGES[name], n_scenes=2) for name in ("weak-vision", "smol"))):
            run(stage, out, steps=2)
    return out


@pytest.mark.parametrize("name", ["clean", "weak-vision", "smol"])
def test_what_a_stage_saves_loads_as_any_model_and_answers(trained: Path, name: str) -> None:
    vlm = vt.load(trained / name, dtype="float32", device_map=None)
    picture = Image.fromarray(pixels(SCENES[0]))
    prompt = "Is there a dog in the image?"
    assert isinstance(vlm.answer(picture, prompt, max_new_tokens=4), str)
    n_image_tokens = int(
        (
            vlm.inputs([vlm.chat(prompt, True)], [picture])["input_ids"] == vlm.model.config.image_token_id
        ).sum()
    )
    assert n_image_tokens == (16 if name == "smol" else 64)
    assert json.loads((trained / name / "done.json").read_text()) == {"steps": 2, "scenes": 4}


def of_the_tower(state: dict[str, Any]) -> dict[str, Any]:
    """Weights of the vision tower, whatever they are called in front of it."""
    parts = {
        name.partition("vision_tower.")[2].removeprefix("vision_model."): one for name, one in state.items()
    }
    return {name: one for name, one in parts.items() if name}


def test_a_whole_model_begins_with_the_trained_tower(trained: Path) -> None:
    wanted = of_the_tower(weights(trained / "tower"))
    found = of_the_tower(opened(CLEAN, trained).model.state_dict())
    assert len(wanted) > 40
    assert all(torch.equal(one, found[name]) for name, one in wanted.items())
    changed = of_the_tower(weights(trained / "clean"))
    assert not all(torch.equal(one, changed[name]) for name, one in wanted.items())


def test_a_weak_tower_keeps_its_first_layers(trained: Path) -> None:
    config = json.loads((trained / "weak-vision" / "config.json").read_text())
    assert config["vision_config"]["num_hidden_layers"] == STAGES["weak-vision"].vision_layers == 1
    assert not any("layers.1." in name for name in weights(trained / "weak-vision") if "vision" in name)


@pytest.mark.usefixtures("tiny")
def test_a_finished_stage_is_not_trained_again(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stopping_at(0, monkeypatch)
    assert run(CLEAN, trained) == trained / "clean"


def test_stages_see_different_scenes_and_start_from_stages_that_exist() -> None:
    for stage in STAGES.values():
        assert stage.start in {"", *STAGES} and (stage.kind == "tower") == (stage.start == "")
    spans = sorted((one.first_scene, one.first_scene + one.steps * one.n_scenes) for one in STAGES.values())
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(spans))
