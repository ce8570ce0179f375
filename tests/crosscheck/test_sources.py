"""What a user types as a source: patches and pruners after plus signs, and names that only look like it."""

from pathlib import Path

import pytest
import tiny_models

from vlmtools.cli import crosscheck
from vlmtools.crosscheck.sources import resolve, responder, with_changes
from vlmtools.errors import BadInput, UnknownName
from vlmtools.patches.pai import PAI
from vlmtools.patches.vhr import VHR
from vlmtools.pruning.hiprune import HiPrune
from vlmtools.responders.hf import HF


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.llava(tmp_path_factory.mktemp("models") / "llava")


def test_a_name_without_plus_sign_is_the_model() -> None:
    assert with_changes("llava-hf/llava-1.5-7b-hf") == ("llava-hf/llava-1.5-7b-hf", {})


def test_patches_and_a_pruner_follow_after_plus_signs() -> None:
    model, changes = with_changes("reference:clean+vhr:strength=2+hiprune:keep=0.5+pai")
    assert model == "reference:clean"
    assert changes == {"patches": [VHR(strength=2.0), PAI()], "prune": HiPrune(keep=0.5)}


def test_a_plus_sign_in_a_number_is_part_of_the_number() -> None:
    model, changes = with_changes("org/name+vhr:strength=1e+3+pai:strength=+2")
    assert model == "org/name"
    assert [one.strength for one in changes["patches"]] == [1000.0, 2.0]


def test_patches_alone_leave_the_pruner_out() -> None:
    assert set(with_changes("org/name+vhr")[1]) == {"patches"}


@pytest.mark.parametrize("spec", ["org/name+", "org/name+2"])
def test_a_plus_sign_without_a_name_behind_it_is_no_patch(spec: str) -> None:
    assert with_changes(spec) == (spec, {})


def test_a_patch_that_does_not_exist_is_named_with_the_nearest() -> None:
    with pytest.raises(UnknownName, match=r"no patch 'vhrr'.*vhr"):
        with_changes("org/name+vhrr")


def test_a_setting_that_does_not_exist_is_named() -> None:
    with pytest.raises(BadInput, match="strenght"):
        with_changes("org/name+vhr:strenght=2")


def test_two_pruners_are_refused() -> None:
    with pytest.raises(BadInput, match="2 pruners"):
        with_changes("org/name+hiprune:keep=0.5+divprune:keep=0.5")


def test_the_same_patch_twice_is_refused() -> None:
    with pytest.raises(BadInput, match="vhr"):
        with_changes("org/name+vhr+vhr:strength=3")


@pytest.mark.parametrize(
    "spec", ["server:qwen@http://localhost:1/v1+vhr", "server:qwen+hiprune@http://h:1/v1+pai"]
)
def test_a_server_refuses_patches_and_says_what_to_do(spec: str) -> None:
    with pytest.raises(BadInput, match=r"hub id or folder"):
        responder(spec)


def test_a_servers_model_may_have_a_plus_sign_in_its_name() -> None:
    assert responder("server:tuned+adapter@http://localhost:1/v1").name == "tuned+adapter"


def test_a_folder_whose_name_has_a_plus_sign_wins(tmp_path: Path, folder: Path) -> None:
    odd = tmp_path / "llava+vhr"
    odd.symlink_to(folder, target_is_directory=True)
    assert with_changes(str(odd)) == (str(odd), {})
    assert with_changes(f"{odd}+pai") == (str(odd), {"patches": [PAI()]})
    (plain,) = resolve([odd])
    assert isinstance(plain, HF) and plain.name == "llava+vhr" and plain.patches == ()


def test_a_file_of_answers_whose_name_has_a_plus_sign_is_that_file(tmp_path: Path) -> None:
    path = tmp_path / "llava+vhr.jsonl"
    path.write_text('{"id": "1", "text": "A dog."}\n')
    assert [one.name for one in resolve([path])] == ["llava+vhr"]


def test_one_model_in_several_states_is_several_sources(folder: Path) -> None:
    specs = [folder, f"{folder}+vhr:strength=2", f"{folder}+vhr:strength=2+hiprune:keep=0.5"]
    found = resolve(specs)
    assert len({one.name for one in found}) == 3
    assert len({str(one.identity()) for one in found}) == 3


def test_the_same_state_twice_is_refused(folder: Path) -> None:
    with pytest.raises(BadInput, match="Two sources are called"):
        resolve([f"{folder}+vhr", f"{folder}+vhr"])


def test_changes_in_the_name_and_in_the_options_are_refused() -> None:
    with pytest.raises(BadInput, match="one place"):
        responder("org/name+vhr", patches=[PAI()])


def test_a_source_that_is_nothing_is_refused_with_or_without_patches(tmp_path: Path) -> None:
    for spec in (str(tmp_path / "none"), str(tmp_path / "none+vhr")):
        with pytest.raises(BadInput, match="There is no source"):
            resolve([spec])


def test_help_says_so() -> None:
    assert "plus signs" in str(vars(crosscheck.Sources.__metadata__[0])["help"])
