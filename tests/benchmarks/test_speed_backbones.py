import importlib.util
import json
import sys

import pytest
import torch
from places import ROOT


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location(
        "speed_backbones", ROOT / "benchmarks" / "speed" / "backbones.py"
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules["speed_backbones"] = module
    spec.loader.exec_module(module)
    return module


def test_tiny_prints_a_line_per_backbone(script, monkeypatch, capsys):
    monkeypatch.setattr(
        sys, "argv", ["backbones.py", "--tiny", "--names", "smt,evit", "--rounds", "1", "--batch", "1"]
    )
    script.main()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["name", "smt", "evit"]
    assert all(float(line.split()[-1]) > 0 for line in lines[1:])


def test_peak_memory_counts_what_lives_at_once(script):
    class Grow(torch.nn.Module):
        def forward(self, x):
            y = x + 1  # 1 MiB
            z = y + 1  # another, beside it
            del y
            return z + 1  # and a third when the first is gone

    x = torch.zeros(2**18)
    assert script.peak_mib(Grow(), x) == pytest.approx(2.0)


def test_the_model_beside_is_of_about_the_same_size(script):
    from vlmtools.backbones import find

    model = find("smt")[0].tiny()
    other = script.beside(model, 64)
    assert 0.5 < script.n_params(other) / script.n_params(model) < 2


def test_rows_are_kept_beside_older_ones_and_in_the_place_of_their_own(script, tmp_path):
    path = tmp_path / "speed.json"
    row = script.Speed("a", 1, 1, 2.0, 1.0, 1.0, 1.0, "Swin")
    script.record(path, [row], "batch 1")
    script.record(path, [script.Speed("b", 1, 1, 3.0, 1.0, 1.0, 1.0, "Swin")], "batch 1")
    script.record(path, [script.Speed("a", 1, 1, 5.0, 1.0, 1.0, 1.0, "Swin")], "batch 1")
    assert [(one["name"], one["per_second"]) for one in json.loads(path.read_text())] == [
        ("a", 5.0),
        ("b", 3.0),
    ]


def test_another_class_or_function_may_stand_beside(script):
    assert script.theirs("torch.nn:Linear", {"in_features": 2, "out_features": 3}).out_features == 3
    with pytest.raises(AttributeError):
        script.theirs("torch.nn:NoSuchLayer", {})
