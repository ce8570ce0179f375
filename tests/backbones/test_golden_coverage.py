"""No golden file of a vision module is passed over: each has a test that runs it, or a reason why not."""

import json
import re
from fnmatch import fnmatch

import pytest
from golden_case import Case
from places import ROOT, find_all, golden_roots

from vlmtools.backbones.litv2 import LITv2

REFUSED = {
    "featenhancer/*": "its licence forbids derivatives (CC BY-NC-ND)",
}
"""Golden files of modules that are not here → why."""


def _patterns():
    for test in sorted((ROOT / "tests").rglob("test_*.py")):
        for folder, pattern in re.findall(r'@found\("([^"]+)"(?:, "([^"]+)")?\)', test.read_text()):
            yield f"{folder}/{pattern or '*'}"


@pytest.mark.golden
def test_every_golden_file_of_a_vision_module_is_run_or_refused_with_a_reason():
    files = find_all(golden_roots(), "backbones/*/*.safetensors")
    if not files:
        pytest.skip("no backbones/*/*.safetensors where golden numbers are looked for")
    known = [*_patterns(), *REFUSED]
    names = {f"{path.parent.name}/{path.stem}": path for path in files}
    assert not [name for name in names if not any(fnmatch(name, pattern) for pattern in known)]
    for name, path in names.items():
        if any(fnmatch(name, pattern) for pattern in REFUSED):
            assert "licence" in json.loads(path.with_suffix(".json").read_text()) or "safa" in name


def test_an_argument_that_is_not_known_is_an_error_and_a_neutral_one_is_not():
    case = Case("x", {"args": {"alpha": 0.5, "qk_scale": None, "drop_rate": 0.1}}, {}, {}, {})
    assert case.args == {"alpha": 0.5}
    with pytest.raises(TypeError, match="new_part"):
        Case("x", {"args": {"new_part": True}}, {}, {}, {}).made(LITv2)
    with pytest.raises(TypeError, match="qk_scale"):
        Case("x", {"args": {"qk_scale": 0.1}}, {}, {}, {}).made(LITv2)
