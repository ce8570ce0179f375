"""Where golden numbers and published data are looked for.

In this order: $VLMTOOLS_GOLDEN or $VLMTOOLS_DATA, ../shared, tests/golden.
"""

import os
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]


def _roots(variable: str, beside: str) -> list[Path]:
    given = os.environ.get(variable)
    places = [Path(given)] if given else []
    places += [ROOT.parent / "shared" / beside, ROOT / "tests" / "golden"]
    return [place for place in places if place.is_dir()]


def golden_roots() -> list[Path]:
    """Every existing place for golden numbers, the one the user named first."""
    return _roots("VLMTOOLS_GOLDEN", "golden")


def data_roots() -> list[Path]:
    """Every existing place for published data, the one the user named first."""
    return _roots("VLMTOOLS_DATA", "data")


def find_all(roots: list[Path], pattern: str) -> list[Path]:
    """Every file that matches `pattern` under any root; a name found in an earlier root wins."""
    found: dict[str, Path] = {}
    for root in roots:
        for path in sorted(root.glob(pattern)):
            found.setdefault(str(path.relative_to(root)), path)
    return list(found.values())


def cases(roots: list[Path], pattern: str) -> list[Any]:
    """Parameters for `pytest.mark.parametrize`: one per file found, or one skip that says what was looked for."""
    found = find_all(roots, pattern)
    if found:
        return [pytest.param(path, id=f"{path.parent.name}/{path.name}") for path in found]
    reason = f"no file matches {pattern!r} in $VLMTOOLS_GOLDEN, $VLMTOOLS_DATA, ../shared or tests/golden"
    return [pytest.param(None, marks=pytest.mark.skip(reason=reason), id="none found")]


def published(relative: str) -> Path:
    """Path of one published file, or a skip that says where it was looked for."""
    for root in data_roots():
        if (root / relative).exists():
            return root / relative
    pytest.skip(f"published data {relative!r} is in neither $VLMTOOLS_DATA nor ../shared/data")
