"""The table of training costs runs on tiny hosts."""

import importlib.util
import sys
from types import ModuleType

import pytest
from places import ROOT


@pytest.fixture(scope="module")
def table() -> ModuleType:
    path = ROOT / "benchmarks" / "speed" / "adapters.py"
    spec = importlib.util.spec_from_file_location("speed_adapters", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["speed_adapters"] = module
    spec.loader.exec_module(module)
    return module


def test_the_table_has_a_line_per_part_and_a_lora_is_its_own_equal(
    table: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    table.main(["--tiny", "--adapters", "mlp:depth=3", "lora", "--repeat", "1"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    mlp, lora = (line.split() for line in lines[2:])
    assert (
        mlp[0] == "mlp:depth=3"
        and int(mlp[1].replace(",", "")) > 0
        and float(mlp[2]) > 0
        and float(mlp[3]) > 0
    )
    assert lora[0] == "lora" and float(lora[4]) == 1.0 and float(lora[6]) == 1.0


def test_it_asks_for_a_model_or_tiny(table: ModuleType) -> None:
    with pytest.raises(SystemExit, match="--tiny"):
        table.main([])


def test_a_part_that_does_not_fit_the_model_is_a_line_and_the_others_go_on(
    table: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    table.main(["--tiny", "--adapters", "p_adapter:reduction=5", "lora", "--repeat", "1"])
    first, second = capsys.readouterr().out.splitlines()[2:]
    assert first.startswith("p_adapter:reduction=5") and "not on this model: " in first
    assert second.split()[0] == "lora"
