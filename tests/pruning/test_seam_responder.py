"""A pruner on a local model behind a responder, on a VLM, and on the command line."""

from pathlib import Path

import pytest
import tiny_models
import typer
from typer.testing import CliRunner

from vlmtools.cli.generate import generate
from vlmtools.compare import compare, load_run
from vlmtools.errors import BadInput, UnknownName
from vlmtools.evaluate.api import evaluate
from vlmtools.evaluate.run import Asking
from vlmtools.patches.vhr import VHR
from vlmtools.pruning._seam import PLACE
from vlmtools.pruning._spec import parse_pruner
from vlmtools.pruning.grid import GridTokens
from vlmtools.pruning.random import RandomTokens
from vlmtools.responders.hf import HF
from vlmtools.store import call_key
from vlmtools.types import Decoding, Request, Sample
from vlmtools.vlm import load


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.llava(tmp_path_factory.mktemp("models") / "llava")


def test_a_pruned_vlm_answers_from_the_text_and_the_tokens_that_stay(folder: Path, tmp_path: Path) -> None:
    picture = tiny_models.picture(tmp_path)
    vlm = load(folder)
    plain = vlm.answer(picture, "What is this?", max_new_tokens=12)
    with GridTokens(keep=2).attach(vlm) as on:
        pruned = vlm.answer(picture, "What is this?", max_new_tokens=12)
        assert (on.report().n_before, on.report().n_after) == (16, 2)
    assert vlm.answer(picture, "What is this?", max_new_tokens=12) == plain
    request = Request(Sample("a", "What is this?", image=str(picture)), Decoding(max_new_tokens=12))
    responder = HF(str(folder), prune=GridTokens(keep=2))
    replies = [reply.text for _, reply in responder.answer([request])]
    pieces: list[str] = []
    assert PLACE in vars(responder.load().model)
    responder.load().stream(request, pieces.append)
    responder.close()
    assert replies == ["".join(pieces)] == [pruned]


def test_the_key_and_the_name_of_an_answer_know_the_pruner(folder: Path) -> None:
    made = [
        HF(str(folder)),
        HF(str(folder), prune=GridTokens(keep=0.5)),
        HF(str(folder), prune=GridTokens(keep=0.25)),
        HF(str(folder), prune=RandomTokens(keep=0.5)),
        HF(str(folder), prune=GridTokens(keep=0.5), patches=[VHR()]),
        HF(str(folder), patches=[VHR()]),
    ]
    assert len({call_key("answer", dict(one.identity())) for one in made}) == len(made)
    assert made[1].identity()["prune"]["name"] == "grid"
    assert "prune" not in made[0].identity() and "prune" not in made[5].identity()
    assert [one.name for one in made[:2]] == ["llava", "llava+grid:keep=0.5"]
    assert made[4].name == "llava+grid:keep=0.5+vhr"


def test_the_command_line_prunes(folder: Path, tmp_path: Path) -> None:
    picture = str(tiny_models.picture(tmp_path))
    app = typer.Typer()
    app.command()(generate)
    line = [str(folder), picture, "-p", "What is this?", "--max-new-tokens", "8", "--no-stream"]
    pruned = CliRunner().invoke(app, [*line, "--prune", "grid:keep=2"])
    assert pruned.exit_code == 0, pruned.output
    vlm = load(folder)
    with GridTokens(keep=2).attach(vlm):
        assert pruned.stdout.strip() == vlm.answer(picture, "What is this?", max_new_tokens=8)


def test_two_runs_that_differ_by_a_pruner_are_compared_and_the_pruner_is_named(
    folder: Path, tmp_path: Path
) -> None:
    runs = []
    for name, prune in (("whole", None), ("third", GridTokens(keep=0.33)), ("few", GridTokens(keep=0.1))):
        responder = HF(str(folder), prune=prune)
        asking = Asking(n_probes=0, max_new_tokens=3, partial=True)
        evaluate(responder, "scenes:n=2,captions=false", data=tmp_path, out=tmp_path / name, asking=asking)
        runs.append(load_run(tmp_path / name))
    found = compare(runs)
    assert found.settings["model.identity.prune.name"] == {
        "whole": "not set",
        "third": '"grid"',
        "few": '"grid"',
    }
    assert found.settings["model.identity.prune.keep"] == {"whole": "not set", "third": "0.33", "few": "0.1"}
    assert found.tests


def test_text_makes_a_pruner_or_says_what_is_wrong() -> None:
    assert parse_pruner("grid:keep=0.33") == GridTokens(keep=0.33)
    assert parse_pruner("random:keep=64,seed=3") == RandomTokens(keep=64, seed=3)
    with pytest.raises(BadInput, match="how much to keep"):
        parse_pruner("grid")
    with pytest.raises(UnknownName):
        parse_pruner("gird:keep=0.3")
    with pytest.raises(BadInput):
        parse_pruner("grid:keep=some")
