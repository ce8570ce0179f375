"""The demo's invented captions: complete, up to date, and as false as their README says."""

import importlib.util
import json
import re
from types import ModuleType

import pytest
from places import ROOT

import vlmtools
from vlmtools.scoring import chair

CAPTIONS = ROOT / "vlmtools" / "reference" / "captions"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    import sys

    spec = importlib.util.spec_from_file_location(
        "write_demo_captions", ROOT / "scripts" / "write_demo_captions.py"
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def _rows(name: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in (CAPTIONS / name).read_text(encoding="utf-8").splitlines()]


def test_the_files_are_what_the_script_writes(script: ModuleType) -> None:
    for name, text in script.files().items():
        assert (CAPTIONS / name).read_text(encoding="utf-8") == text, (
            f"{name}: run scripts/write_demo_captions.py"
        )


def test_every_describer_tells_all_forty_scenes_with_three_samples(script: ModuleType) -> None:
    truth = json.loads((CAPTIONS / "truth.json").read_text(encoding="utf-8"))
    assert len(truth) == 40
    for who in script.DESCRIBERS:
        rows = _rows(f"{who.name}.jsonl")
        assert [row["id"] for row in rows] == list(truth)
        assert all(len(row["samples"]) == 3 and all([row["text"], *row["samples"]]) for row in rows)


def test_what_is_said_to_be_absent_is_absent(script: ModuleType) -> None:
    for scene in script.scenes():
        assert not set(scene.absent) & set(scene.objects), scene.id
        assert set(scene.absent) <= set(script.THINGS), scene.id


def test_the_shares_of_inventions_are_those_of_the_readme(script: ModuleType) -> None:
    counted = {}
    for who in script.DESCRIBERS:
        teller = script.Teller(who, 0)
        named = [(thing in scene.objects) for scene in script.scenes() for thing in teller.tell(scene)[1]]
        counted[who.name] = f"{named.count(False)} of {len(named)}"
    assert counted == _told()


def test_they_say_that_they_are_invented_and_stay_small() -> None:
    assert "These texts are invented. No model wrote them" in (CAPTIONS / "README.md").read_text(
        encoding="utf-8"
    )
    assert sum(path.stat().st_size for path in CAPTIONS.iterdir()) < 150_000


def _told() -> dict[str, str]:
    """Describer → the counts that the README tells, from the least to the most inventive."""
    text = (CAPTIONS / "README.md").read_text(encoding="utf-8")
    return dict(re.findall(r"^\| `(\w+)\.jsonl` \|.*\| (\d+ of \d+) \(", text, re.M))


def test_chair_reads_from_the_texts_what_the_readme_tells() -> None:
    truth = chair.load_truth(CAPTIONS / "truth.json")
    for name, told in _told().items():
        found = chair.score({str(row["id"]): str(row["text"]) for row in _rows(f"{name}.jsonl")}, truth)
        assert f"{found.n_hallucinated} of {found.n_mentions}" == told, name


def test_ranking_without_references_finds_the_true_order() -> None:
    ranking = vlmtools.crosscheck([str(CAPTIONS / f"{name}.jsonl") for name in sorted(_told())])
    assert [row.name for row in ranking.rows] == list(_told())
