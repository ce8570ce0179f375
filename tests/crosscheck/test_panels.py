"""Panels: every answer judged by a few others, dealt anew per item, the same way every time."""

from collections import Counter
from itertools import combinations, product
from pathlib import Path

import pytest

from vlmtools.crosscheck.api import crosscheck
from vlmtools.crosscheck.panels import deal, n_pairs, together
from vlmtools.errors import BadInput
from vlmtools.responders.recorded import Recorded
from vlmtools.types import Answers

NAMES = [f"model{k}" for k in range(7)]
THINGS = ("cat", "dog", "bus", "car", "cup", "bed", "cow", "sheep")


def sources(n_items: int, n_models: int = 7) -> list[Recorded]:
    """Model k says the first thing that every item shows, and a false one in k of ten items."""
    found = []
    for k in range(n_models):
        said = {}
        for i in range(n_items):
            true = [THINGS[i % 8], THINGS[(i + 1) % 8]]
            false = [THINGS[(i + 2 + k % 5) % 8]] if i % 10 < k else []
            text = "There is a " + " and a ".join(true + false) + "."
            said[f"{i}"] = Answers(f"{i}", f"model{k}", text)
        found.append(Recorded(f"model{k}", said))
    return found


def test_the_deal_depends_on_names_item_and_seed_alone() -> None:
    assert deal("a", NAMES, 3) == deal("a", NAMES[::-1], 3)
    assert any(deal(f"{i}", NAMES, 3) != deal("a", NAMES, 3) for i in range(9))
    assert any(deal(f"{i}", NAMES, 3, seed=1) != deal(f"{i}", NAMES, 3) for i in range(9))


@pytest.mark.parametrize(("n", "size"), list(product((2, 5, 7, 20), (2, 3, 4, 9))))
def test_no_panel_is_larger_than_asked_for_nobody_is_alone_and_pairs_are_counted_right(
    n: int, size: int
) -> None:
    names = [f"m{k}" for k in range(n)]
    sizes = Counter(deal("x", names, size).values())
    assert sum(sizes.values()) == n
    assert max(sizes.values()) <= max(size, 3)
    assert min(sizes.values()) >= 2
    assert max(sizes.values()) - min(sizes.values()) <= 1
    assert sum(m * (m - 1) for m in sizes.values()) == n_pairs(n, size)


def test_every_two_models_meet_about_equally_often() -> None:
    met = Counter(
        pair
        for i in range(3000)
        for pair in combinations(NAMES, 2)
        if len({deal(f"{i}", NAMES, 3)[name] for name in pair}) == 1
    )
    expected = 3000 * n_pairs(7, 3) / n_pairs(7, 0)
    assert min(met.values()) > 0.9 * expected
    assert max(met.values()) < 1.1 * expected


def test_zero_and_too_few_models_put_everybody_together() -> None:
    assert together(NAMES, 0) is None
    assert together(NAMES, 7) is None
    assert set(deal("a", NAMES, 0).values()) == {0}


@pytest.mark.parametrize("weights", ["em", "uniform"])
def test_a_run_with_panels_asks_fewer_votes_and_finds_the_same_order(tmp_path: Path, weights: str) -> None:
    every = crosscheck(sources(120), out=tmp_path / "every", weights=weights, n_boot=20)
    few = crosscheck(sources(120), out=tmp_path / "few", weights=weights, n_boot=20, panel=3)
    n_every, n_few = (
        len((tmp_path / name / "votes.jsonl").read_text().splitlines()) for name in ("every", "few")
    )
    assert n_every == 120 * n_pairs(7, 0)
    assert n_few == 120 * n_pairs(7, 3)
    assert [row.name for row in every.rows][:2] == [row.name for row in few.rows][:2]
    assert [row.name for row in every.rows][-1] == [row.name for row in few.rows][-1]
    assert every.rows[-1].score == pytest.approx(few.rows[-1].score, abs=0.12)


def test_a_panel_of_everybody_changes_nothing(tmp_path: Path) -> None:
    every = crosscheck(sources(30, 3), out=tmp_path / "every", n_boot=20)
    one = crosscheck(sources(30, 3), out=tmp_path / "one", n_boot=20, panel=3)
    assert [(row.name, row.score, row.ci) for row in every.rows] == [
        (row.name, row.score, row.ci) for row in one.rows
    ]


def test_votes_of_a_smaller_run_are_used_by_a_larger_one(tmp_path: Path) -> None:
    crosscheck(sources(30), out=tmp_path, n_boot=20, panel=3)
    crosscheck(sources(30), out=tmp_path, n_boot=20)
    assert len((tmp_path / "votes.jsonl").read_text().splitlines()) == 30 * n_pairs(7, 0)


@pytest.mark.parametrize(
    "settings",
    [{"panel": 2}, {"panel": 1, "weights": "uniform"}, {"panel": 3, "evidence": ("model1",)}],
    ids=["too small for em", "nobody else", "with --evidence"],
)
def test_settings_that_leave_nobody_to_judge_are_refused(tmp_path: Path, settings: dict[str, object]) -> None:
    with pytest.raises(BadInput, match="--panel"):
        crosscheck(sources(5), out=tmp_path, **settings)  # type: ignore[arg-type]
