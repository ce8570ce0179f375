"""`vlmtools list` names what can be named, and nothing else."""

import json

import pytest
from typer.testing import CliRunner

from vlmtools import registry
from vlmtools.cli import app
from vlmtools.errors import UnknownName


def _out(*words: str) -> str:
    result = CliRunner().invoke(app, ["list", *words])
    assert result.exit_code == 0, result.output
    return result.output


def test_every_kind_and_every_name_is_listed_with_its_summary() -> None:
    told = json.loads(_out("--json"))
    assert list(told) == list(registry.KINDS)
    for kind, package in registry.KINDS.items():
        assert list(told[kind]) == registry.names(package)
    assert told["judges"]["ngram"] == registry.summary("vlmtools.crosscheck.judges", "ngram")
    assert told["judges"]["ngram"]


def test_one_kind_can_be_asked_for() -> None:
    assert list(json.loads(_out("judges", "--json"))) == ["judges"]
    lines = _out("judges").splitlines()
    assert lines[0] == "judges"
    assert any(line.split()[0] == "ngram" for line in lines[1:])


def test_an_unknown_kind_is_answered_with_the_closest() -> None:
    result = CliRunner().invoke(app, ["list", "jugdes"])
    assert isinstance(result.exception, UnknownName)
    assert "Did you mean 'judges'?" in str(result.exception)
    assert "adapters, backbones" in str(result.exception)


def test_an_empty_kind_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "names", lambda package: [])
    assert _out("judges") == "judges\n  none yet\n"


def test_backbones_come_with_their_variants() -> None:
    told = json.loads(_out("backbones", "--json"))
    assert list(told) == ["backbones", "variants"]
    smt = told["variants"]["smt_t"]
    assert (smt["params"], smt["top1"], smt["paper"]) == (11_506_536, 82.2, "arXiv:2307.08579")
    assert smt["checked"] == "outputs" and told["variants"]["swin_tiny_patch4_window7_224"]["needs"] == "timm"
    line = next(line for line in _out("backbones").splitlines() if line.split()[:1] == ["smt_t"])
    assert "11.5 M" in line and "82.2" in line
