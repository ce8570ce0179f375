"""Where golden numbers and published data are looked for, and skips that say why."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def _roots(variable: str, beside: str, inside: Path | None) -> list[Path]:
    given = os.environ.get(variable)
    places = [Path(given)] if given else []
    places += [ROOT.parent / "shared" / beside] + ([inside] if inside else [])
    return [place for place in places if place.is_dir()]


def golden_roots() -> list[Path]:
    """Every existing place for golden numbers: $VLMTOOLS_GOLDEN, ../shared/golden, tests/golden."""
    return _roots("VLMTOOLS_GOLDEN", "golden", ROOT / "tests" / "golden")


def data_roots() -> list[Path]:
    """Every existing place for published data: $VLMTOOLS_DATA, ../shared/data, tests/golden."""
    return _roots("VLMTOOLS_DATA", "data", ROOT / "tests" / "golden")


def find_all(roots: list[Path], pattern: str) -> list[Path]:
    """Every file that matches `pattern` under any root; a name found in an earlier root wins."""
    found: dict[str, Path] = {}
    for root in roots:
        for path in sorted(root.glob(pattern)):
            found.setdefault(str(path.relative_to(root)), path)
    return list(found.values())


@pytest.fixture
def published() -> Callable[[str], Path]:
    """`published("chair/coco_gt_objects.json.gz")` → its path, or a skip that says where it was looked for."""

    def locate(relative: str) -> Path:
        for root in data_roots():
            if (root / relative).exists():
                return root / relative
        pytest.skip(f"published data {relative!r} is in neither $VLMTOOLS_DATA nor ../shared/data")

    return locate
