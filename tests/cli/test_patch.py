"""`vlmtools patch`: what patches touch, and whether they keep their promises, on a model of one's own."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import tiny_models
import torch
from typer.testing import CliRunner

from vlmtools import registry
from vlmtools.cli.patch import patch_app
from vlmtools.errors import BadInput, CannotAttach, UnknownName, VlmToolsError
from vlmtools.patches._check import CHECKS, Probe, check_patch, hung
from vlmtools.patches._files import load_patches
from vlmtools.patches._touch import grouped, ranges, touched
from vlmtools.patches.base import Handle, Live, Patch
from vlmtools.patches.pai import PAI
from vlmtools.patches.vhr import VHR
from vlmtools.vlm import load

NEAR = "pai:first_layer=0"


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.llava(tmp_path_factory.mktemp("models") / "llava")


@pytest.fixture(scope="module")
def text_only(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.causal_lm(tmp_path_factory.mktemp("models") / "words")


@pytest.fixture(scope="module")
def probe(folder: Path) -> Probe:
    return Probe(load(folder))


def call(*words: str | Path, code: int = 0) -> str:
    done = CliRunner().invoke(patch_app, [str(word) for word in words])
    if isinstance(done.exception, VlmToolsError):
        raise done.exception
    assert done.exit_code == code, done.output
    return done.stdout


@dataclass(frozen=True)
class _Scaled(Patch):
    """Multiplies what the first decoder layer gives: right in every way, and broken on request."""

    factor: float = 1.5
    neutral_factor: float = 1.0
    stays: bool = False
    by_width: bool = False
    fails_at: int = 0
    why: str = ""
    drifts: bool = False

    def hooks(self, live: Live) -> Iterator[Handle]:
        if self.why:
            raise CannotAttach(self.why)
        calls = [0]

        def scale(_module: Any, _inputs: Any, output: Any) -> Any:
            calls[0] += 1
            if calls[0] == self.fails_at:
                raise RuntimeError("out of ideas")
            hidden = output[0] if isinstance(output, tuple) else output
            factor = (
                self.factor + (0.1 * len(hidden) if self.by_width else 0) + (calls[0] if self.drifts else 0)
            )
            return (hidden * factor, *output[1:]) if isinstance(output, tuple) else hidden * factor

        handle = live.anatomy.layers[0].register_forward_hook(scale)
        if not self.stays:
            yield handle

    @classmethod
    def neutral(cls) -> "_Scaled":
        return cls(factor=cls.neutral_factor)


class _Loud(_Scaled):
    neutral_factor = 1.001


class _LoudInside(_Scaled):
    @classmethod
    def neutral(cls) -> "_Scaled":
        raise ValueError("never quiet")


def test_a_sound_patch_passes_every_check(probe: Probe) -> None:
    for patch in (_Scaled(), VHR(strength=4.0), PAI(first_layer=0)):
        verdict = check_patch(probe, patch)
        assert verdict.good and verdict.acts and dict.fromkeys(CHECKS, "") == verdict.failed
    assert check_patch(probe, PAI.neutral()).refused  # its layers do not exist here


@pytest.mark.parametrize(
    ("patch", "check", "says"),
    [
        (_Loud(), "neutral", "changes the scores"),
        (_LoudInside(), "neutral", "ValueError: never quiet"),
        (_Scaled(by_width=True), "padded batch", "from single questions"),
        (_Scaled(factor=float("nan")), "generates", "not finite"),
        (_Scaled(fails_at=5), "generates", "RuntimeError: out of ideas"),
        (_Scaled(fails_at=1), "generates", "RuntimeError: out of ideas"),
        (_Scaled(drifts=True), "generates", "another answer the second time"),
    ],
)
def test_each_broken_promise_is_found(patch: Patch, check: str, says: str, probe: Probe) -> None:
    verdict = check_patch(probe, patch)
    assert says in verdict.failed[check] and not verdict.good


def test_what_is_left_behind_is_found(folder: Path) -> None:
    probe = Probe(load(folder))
    verdict = check_patch(probe, _Scaled(stays=True))
    assert "left behind" in verdict.failed["removed"] and "left behind" in verdict.failed["after error"]


def test_the_model_is_as_it_was_after_all_checks(probe: Probe) -> None:
    check_patch(probe, VHR())
    assert hung(probe.vlm.model) == probe.hung
    assert torch.equal(probe.predict(probe.pair), probe.logits)


def test_a_patch_that_refuses_the_model_did_nothing_wrong(probe: Probe) -> None:
    verdict = check_patch(probe, _Scaled(why="no wings"))
    assert verdict.good and verdict.refused == "no wings" and not verdict.failed


def test_a_patch_that_does_nothing_passes_and_says_so(probe: Probe) -> None:
    verdict = check_patch(probe, VHR.neutral())
    assert verdict.good and not verdict.acts


def test_the_table_says_ok_and_why_something_does_not_fit(folder: Path) -> None:
    shown = call("check", folder, "--patch", "vhr", "--patch", NEAR, "--patch", "paint")
    cells = {line.split()[0]: line.split()[1:] for line in shown.splitlines() if line.strip()}
    assert cells["vhr"] == cells["pai"] == ["OK"] * len(CHECKS) + ["yes"]
    assert "paint does not fit: paint is set to layers" in shown
    assert "2 of 2 patches that fit keep their promises" in shown


def test_a_broken_patch_gives_exit_code_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vlmtools.patches._files.patch_kind", lambda name: _Loud)
    told = json.loads(call("check", folder, "--patch", "loud", "--json", code=1))
    (found,) = told["patches"]
    assert told["model"] == "llava" and told["repeats_exactly"] and not found["ok"]
    assert "changes the scores" in found["checks"]["neutral"] and found["checks"]["removed"] == "OK"
    assert "FAILED" in call("check", folder, "--patch", "loud", code=1)


def test_a_picture_of_ones_own_is_asked_about(folder: Path, tmp_path: Path) -> None:
    picture = tiny_models.picture(tmp_path, 3)
    told = json.loads(call("check", folder, "--patch", "vhr", "--image", picture, "--json"))
    assert told["patches"][0]["ok"] and told["patches"][0]["changes_the_answer"]


def test_status_lists_modules_heads_tokens_and_refusals(folder: Path) -> None:
    words = ["status", folder, "--patch", "vhr:strength=4", "--patch", NEAR, "--patch", "paint"]
    vhr, pai, paint = json.loads(call(*words, "--json"))
    assert vhr["modules"] == [f"model.language_model.layers.{layer}.self_attn" for layer in (0, 1)]
    assert set(vhr["heads"]) == {"0", "1"} and all(len(heads) == 2 for heads in vhr["heads"].values())
    assert "image keys" in pai["tokens"] and pai["heads"] == {}
    assert "is set to layers" in paint["refused"] and "modules" not in paint
    shown = call(*words)
    assert "model.language_model.layers.{0-1}.self_attn" in shown
    assert "does not fit: paint is set to layers" in shown


def test_status_heads_are_those_of_the_picture_that_was_given(folder: Path, tmp_path: Path) -> None:
    from PIL import Image

    vlm, path = load(folder), tiny_models.picture(tmp_path, 3)
    vlm_inputs = vlm.inputs([vlm.chat("Why?", True)], [Image.open(path).convert("RGB")])
    chosen = VHR(strength=4.0).select(vlm, vlm_inputs)
    expected = {str(layer): heads[0].nonzero().flatten().tolist() for layer, heads in chosen.items()}
    words = ["status", folder, "--patch", "vhr:strength=4", "--image", path, "-p", "Why?", "--json"]
    assert json.loads(call(*words))[0]["heads"] == expected


def test_without_a_name_every_patch_is_tried_by_itself(folder: Path) -> None:
    told = json.loads(call("status", folder, "--json"))
    assert [one["patch"] for one in told] == registry.names("vlmtools.patches")
    assert all(one.get("refused") or "modules" in one for one in told)


def test_status_leaves_the_model_as_it_was(folder: Path) -> None:
    vlm = load(folder)
    touched(vlm, [VHR.neutral()])
    before = hung(vlm.model)
    touched(vlm, [VHR(), PAI(first_layer=0), _Scaled()])
    assert hung(vlm.model) == before


@pytest.mark.parametrize("verb", ["status", "check"])
def test_a_model_that_does_not_see_is_refused(verb: str, text_only: Path) -> None:
    with pytest.raises(BadInput, match="takes text only"):
        call(verb, text_only, "--patch", "vhr")


def test_list_is_list_patches() -> None:
    told = json.loads(call("list", "--json"))
    assert list(told) == ["patches"] and list(told["patches"]) == registry.names("vlmtools.patches")
    assert "vhr" in call("list")


def test_show_tells_what_can_be_set() -> None:
    shown = call("show", "vhr")
    assert "arXiv:2412.13949" in shown and "strength = 2.0" in shown and "--patch vhr:key=value" in shown
    with pytest.raises(UnknownName, match="Did you mean 'vhr'"):
        call("show", "vrh")


def test_save_writes_what_patch_file_reads(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    assert f"--patch-file {file}" in call("save", file, "--patch", "vhr:strength=4", "--patch", NEAR)
    assert load_patches(file) == [VHR(strength=4.0), PAI(first_layer=0)]
    told = json.loads(call("status", folder, "--patch-file", file, "--json"))
    assert [one["patch"] for one in told] == ["vhr", "pai"]


def test_module_names_and_numbers_are_put_together() -> None:
    assert ranges([3, 1, 2, 7, 9, 8]) == "1-3,7-9" and ranges([4]) == "4" and ranges([]) == ""
    names = ["a.layers.1.attn", "a.layers.2.attn", "a.layers.9.cross.0.attn", "head"]
    assert grouped(names) == ["a.layers.{1-2}.attn", "a.layers.{9}.cross.0.attn", "head"]
