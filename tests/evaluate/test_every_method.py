"""`vlmtools eval` on a trained model with each patch and each pruner: whole results, of POPE, CHAIR and scenes."""

import json
import math
from pathlib import Path
from typing import Any

import layouts
import pytest
from typer.testing import CliRunner

from vlmtools import registry
from vlmtools.benchmarks.base import load_benchmark
from vlmtools.bundled import bundled
from vlmtools.cli import app
from vlmtools.patches._files import save_patches
from vlmtools.patches.adhh import ADHH

pytestmark = [
    pytest.mark.skipif("clean" not in bundled(), reason="the bundled models are not in this checkout"),
    pytest.mark.slow,
]
N = 2
METHODS = [
    *(("patch", name) for name in registry.names("vlmtools.patches")),
    *(("prune", name) for name in registry.names("vlmtools.pruning")),
]


def line(bench: str, place: Path, out: Path, *change: str) -> list[str]:
    data = {
        "pope": lambda: ["--data", str(layouts.pope(place, N)), "--images", str(place)],
        "chair": lambda: ["--data", str(layouts.chair(place, N)), "--images", str(place)],
        "scenes": list,
    }[bench]()
    spec = {"pope": "pope:split=adversarial", "scenes": f"scenes:n={N}"}.get(bench, bench)
    short = ["--max-new-tokens", "24", "--bootstrap", "20", "--probes", "2", "--json"]
    return ["eval", "reference:clean", "--bench", spec, *data, "--out", str(out), *short, *change]


def told(bench: str, place: Path, out: Path, *change: str) -> dict[str, Any]:
    done = CliRunner().invoke(app, line(bench, place, out, *change), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def check_whole(found: dict[str, Any], bench: str, n: int, out: Path) -> None:
    """Every promised part of a result is there and makes sense."""
    assert set(found) == {"bench", "protocol", "metrics", "n", "unparsed", "record"}
    assert found["bench"] == bench and found["n"] == n
    assert set(load_benchmark(bench).headline) <= set(found["metrics"])
    for name, metric in found["metrics"].items():
        low, high = metric["ci"]
        if metric["value"] is not None:
            assert math.isfinite(metric["value"]) and low <= metric["value"] + 1e-9 and high >= low, name
    record = found["record"]
    assert record["items"]["n"] == n and len(record["items"]["ids_sha256"]) == 64
    assert len(record["controls"]["model"]["lines"]) == 3
    assert record["controls"]["tokens"]["written"]["most"] <= 24
    stored = json.loads((out / "evaluation.json").read_text())
    assert len(stored["rows"]) == n and all(isinstance(row["answer"], str) for row in stored["rows"])
    page = (out / "report.html").read_text()
    assert bench in page and page.rstrip().endswith("</html>")


def change(kind: str, method: str, place: Path) -> list[str]:
    """The options; a patch whose heads are known for large models only comes from a file that names some."""
    if kind == "prune":
        return ["--prune", f"{method}:keep=0.5"]
    if method != "adhh":
        return ["--patch", method]
    save_patches(place / "patch.toml", [ADHH(heads={0: (0, 1), 3: (2,)})])
    return ["--patch-file", str(place / "patch.toml")]


@pytest.mark.parametrize("bench", ["pope", "chair", "scenes"])
@pytest.mark.parametrize(("kind", "method"), METHODS)
def test_eval_with_a_method_gives_a_whole_result(kind: str, method: str, bench: str, tmp_path: Path) -> None:
    found = told(bench, tmp_path, tmp_path / "run", *change(kind, method, tmp_path))
    check_whole(found, bench, {"pope": 2 * N, "chair": N, "scenes": 7 * N}[bench], tmp_path / "run")
    identity = found["record"]["model"]["identity"]
    assert method in json.dumps(identity["patches" if kind == "patch" else "prune"])


@pytest.mark.parametrize("bench", ["pope", "chair", "scenes"])
def test_eval_without_a_method_gives_a_whole_result_that_can_be_compared(bench: str, tmp_path: Path) -> None:
    n = {"pope": 2 * N, "chair": N, "scenes": 7 * N}[bench]
    check_whole(told(bench, tmp_path, tmp_path / "plain"), bench, n, tmp_path / "plain")
    told(bench, tmp_path, tmp_path / "pruned", "--prune", "hiprune:keep=0.5")
    runs = [str(tmp_path / name) for name in ("plain", "pruned")]
    done = CliRunner().invoke(app, ["compare", *runs, "--bootstrap", "20", "--json"], catch_exceptions=False)
    found = json.loads(done.stdout)
    assert found["tests"] and any("prune" in name for name in found["settings"])
