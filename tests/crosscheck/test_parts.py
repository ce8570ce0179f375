"""Any number of items: results do not depend on how the items are parted, and memory does not grow with them."""

import gc
import json
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from vlmtools.crosscheck import compared
from vlmtools.crosscheck.api import crosscheck
from vlmtools.crosscheck.book import ClaimRows
from vlmtools.crosscheck.collect import Draws, collect
from vlmtools.crosscheck.judges import objects
from vlmtools.crosscheck.judges.objects import Objects
from vlmtools.crosscheck.run import PASSES
from vlmtools.crosscheck.shelf import Shelf
from vlmtools.crosscheck.suspects import review
from vlmtools.errors import BadInput, StoreError
from vlmtools.responders.recorded import Recorded
from vlmtools.store import Store, spool
from vlmtools.types import Answers, Sample

THINGS = ("cat", "dog", "bus", "car", "cup", "bed", "cow", "sheep", "bird", "truck")


def sources(n_items: int, n_models: int = 4, n_samples: int = 0) -> list[Recorded]:
    """Models that leave things out, invent some, say some twice, and skip every ninth item."""
    found = []
    for k in range(n_models):
        rng = random.Random(k)
        said = {}
        for i in range(n_items):
            if (i + k) % 9 == 0:
                continue
            texts = [_caption(rng, i, k) for _ in range(1 + n_samples)]
            said[f"{i}"] = Answers(f"{i}", f"m{k}", texts[0], tuple(texts[1:]), ("image",))
        found.append(Recorded(f"m{k}", said))
    return found


def _caption(rng: random.Random, i: int, k: int) -> str:
    shown = [THINGS[(i * 7 + j) % 10] for j in range(4)]
    things = [thing for thing in shown if rng.random() < 0.9 - 0.1 * k]
    things += [rng.choice(THINGS) for _ in range(2) if rng.random() < 0.1 + 0.1 * k]
    return " ".join(f"There is a {thing} near a {rng.choice(shown)}." for thing in things) or "A picture."


def numbers(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every leaf of a JSON value with its path."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from numbers(inner, f"{path}/{key}")
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            yield from numbers(inner, f"{path}/{place}")
    else:
        yield path, value


def small_parts(monkeypatch: pytest.MonkeyPatch, most: int = 7) -> None:
    monkeypatch.setattr(compared, "MOST_ITEMS", most)
    monkeypatch.setattr(compared, "FEWEST_ITEMS", 1)
    monkeypatch.setattr(Shelf.__init__, "__defaults__", (2_000,))
    monkeypatch.setattr(spool, "MOST", 20)


SETTINGS: dict[str, dict[str, Any]] = {
    "em": {},
    "uniform": {"weights": "uniform"},
    "macro": {"weights": "uniform", "average": "macro"},
    "loo": {"weights": "loo"},
    "panels": {"panel": 3, "judge": "objects"},
    "sentences": {"judge": "ngram"},
    "em of sentences": {"judge": "ngram", "weights": "em"},
    "softmax": {"judge": "ngram", "weights": "softmax", "include_self": True},
    "self": {"judge": "ngram", "mode": "self"},
}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_ranking_is_the_same_however_the_items_are_parted(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = sources(90, n_samples=2 if name in ("softmax", "self") else 0)
    items = [Sample(f"{i}") for i in range(90)]
    whole = crosscheck(asked, items=items, out=tmp_path / "whole", n_boot=30, **SETTINGS[name])
    small_parts(monkeypatch)
    parted = crosscheck(asked, items=items, out=tmp_path / "parted", n_boot=30, **SETTINGS[name])
    one, other = (dict(numbers(json.loads(json.dumps(r.to_json(full=True))))) for r in (whole, parted))
    assert len(whole.worst) == 20 and one.keys() == other.keys()
    for path, value in one.items():
        if isinstance(value, float):
            assert other[path] == pytest.approx(value, abs=1e-9), path
        else:
            assert other[path] == value, path
    stored = [sorted((tmp_path / f / "votes.jsonl").read_text().split("\n")) for f in ("whole", "parted")]
    assert stored[0] == stored[1]


def test_a_resumed_run_uses_the_votes_of_a_run_with_other_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = sources(60)
    first = crosscheck(asked, out=tmp_path, n_boot=20)
    votes = (tmp_path / "votes.jsonl").read_bytes()
    small_parts(monkeypatch)
    again = crosscheck(asked, out=tmp_path, n_boot=20)
    assert (tmp_path / "votes.jsonl").read_bytes() == votes
    assert [row.score for row in again.rows] == pytest.approx([row.score for row in first.rows])


def test_two_items_of_one_id_are_refused_wherever_they_stand(tmp_path: Path) -> None:
    items = [Sample(f"{i}") for i in range(1, 9)]
    for twice in ([items[0], *items], [*items, Sample("1", "Another question.")]):
        with pytest.raises(BadInput, match="Two items are called '1'"):
            crosscheck(sources(9), items=twice, out=tmp_path, n_boot=4)
    assert len(crosscheck(sources(9), items=items, out=tmp_path, n_boot=4).rows) == 4


@dataclass(frozen=True)
class Counting(Objects):
    """Counts how often its identity is asked for."""

    asked: list[int] = field(default_factory=list)

    def identity(self) -> Mapping[str, Any]:
        self.asked.append(1)
        return super().identity()


def test_a_judge_is_not_asked_who_it_is_for_every_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_parts(monkeypatch)
    asked = []
    for n in (7, 90):
        judge = Counting()
        crosscheck(sources(n), out=tmp_path / f"{n}", n_boot=4, judge=judge)
        asked.append(len(judge.asked))
    assert asked[0] == asked[1]


def most_objects(n_items: int, folder: Path) -> int:
    """Most Python objects seen alive during a whole run on recorded files."""
    files = []
    for source in sources(n_items, 3):
        files.append(folder / f"{source.name}.jsonl")
        rows = ({"id": one.id, "text": one.text} for one in source.answers.values())
        files[-1].write_text("".join(json.dumps(row) + "\n" for row in rows))
    calls, counts = 0, []

    def told(stage: str, done: int, total: int) -> None:
        nonlocal calls
        calls += 1
        if calls % 499 == 0:
            gc.collect()
            counts.append(len(gc.get_objects()))

    crosscheck(files, out=folder / "run", n_boot=4, progress=told)
    return max(counts)


def test_memory_does_not_grow_with_the_items(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small_parts(monkeypatch, most=50)
    monkeypatch.setattr("vlmtools.crosscheck.asking.CHUNK", 64)
    monkeypatch.setattr("vlmtools.crosscheck.collect.CHUNK", 64)
    # What the judge remembers of passages has a limit of its own, far above these few.
    monkeypatch.setattr(objects, "_named", objects._named.__wrapped__)
    most = []
    for n in (100, 101, 800):  # the first run pays for what is imported and remembered once
        (tmp_path / f"{n}").mkdir()
        most.append(most_objects(n, tmp_path / f"{n}"))
    assert most[2] - most[1] < 700, most  # less than one object for each further item


def test_answers_of_a_model_are_read_from_the_folder(tmp_path: Path) -> None:
    (source,) = sources(12, 1, n_samples=2)
    with Store(tmp_path) as store:
        told, tally = collect(store, source, [Sample(f"{i}") for i in range(12)], Draws())
        assert tally.asked == 3 * len(told) and "0" not in told and "1" in told and told.kinds == {"image"}
        assert {item: one.answers for item, one in told.items()} == source.answers
        assert len(told["1"].keys) == 3
        with pytest.raises(KeyError):
            told["0"]


def test_coverage_counts_who_shares_items_with_whom() -> None:
    cover = compared.Coverage(["a", "b", "c"])
    for who in (["a", "b"], ["a", "b"], ["a"], ["c", "a"]):
        cover.add(who)
    assert [cover.answered(*names) for names in (["a"], ["b"], ["a", "b"], ["b", "c"])] == [4, 2, 2, 0]
    assert cover.apart(2) == [("a", "c", 1), ("b", "c", 0)]


def test_a_part_has_fewer_items_when_there_are_more_votes_about_each() -> None:
    sizes = [compared.part_size(models, passages) for models, passages in ((2, 1), (20, 1), (20, 10))]
    assert sizes == [1024, 81, 16]


def test_a_shelf_gives_back_what_was_put_there(monkeypatch: pytest.MonkeyPatch) -> None:
    for most in (10**9, 100):
        made = Shelf(most)
        wanted = [{"a": np.arange(n), "b": np.full((n, 2), np.nan)} for n in (3, 0, 40, 5)]
        for arrays in wanted:
            made.append(arrays)
        assert len(made) == 4
        for _ in range(2):
            for given, asked in zip(made, wanted, strict=True):
                assert all(np.array_equal(given[name], asked[name], equal_nan=True) for name in asked)
        one, other = iter(made), iter(made)
        next(one)
        assert np.array_equal(next(other)["a"], wanted[0]["a"]) and len(next(one)["a"]) == 0


def test_a_shelf_without_room_says_so() -> None:
    made = Shelf(10)
    made.append({"a": np.zeros(8)})
    assert made._file is not None
    made._file.close()
    full = Path("/dev/full").open("r+b", buffering=0)  # noqa: SIM115 (closed with the shelf's own)
    with full, pytest.raises(StoreError, match="temporary file cannot be written"):
        made._file = full
        made.append({"a": np.zeros(8)})


class OnePage:
    """Claims on one page."""

    targets = ("a", "b")

    def __init__(self, claims: ClaimRows) -> None:
        self.page = SimpleNamespace(first=0, claims=claims)

    def __iter__(self) -> Iterator[Any]:
        yield self.page


def _given(scores: np.ndarray, page: Any) -> np.ndarray:
    return scores


def test_the_worst_claims_do_not_change_places_for_a_rounding_error() -> None:
    item = np.arange(6)
    zero = np.zeros(6, dtype=np.int64)
    claims = ClaimRows(item % 2, item, zero, zero, np.zeros((6, 2)), zero)
    pages: Any = OnePage(claims)
    even = np.array([0.3, 0.3, 0.3, 0.3, 0.3, 0.5])
    for noise in (0.0, 1e-15):
        noisy = even + noise * item
        found = review(pages, partial(_given, noisy), 4)
        assert [one.item for one in found.suspects] == [0, 5, 2, 1]


def test_the_worst_claims_take_turns_and_equal_ones_of_an_answer_count_once(tmp_path: Path) -> None:
    answers = {"a": "A cat and a dog and a dog.", "b": "A cat.", "c": "A cat."}
    given = [Recorded(name, {"1": Answers("1", name, text)}) for name, text in answers.items()]
    found = crosscheck(given, out=tmp_path, n_boot=4, weights="uniform")
    assert [(claim.model, claim.claim) for claim in found.worst if claim.model == "a"] == [
        ("a", "dog"),
        ("a", "cat"),
    ]
    assert {claim.model for claim in found.worst[1:]} == {"a", "b", "c"}


@pytest.mark.parametrize("name", ["em", "uniform", "softmax", "em of sentences"])
def test_progress_covers_the_scores_and_ends_at_the_end(name: str, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    asked = sources(30, n_samples=2 if name == "softmax" else 0)
    crosscheck(asked, out=tmp_path, n_boot=4, progress=lambda *told: seen.append(told), **SETTINGS[name])
    scores = [(done, total) for stage, done, total in seen if stage == "computing scores"]
    assert scores[-1] == (PASSES * 30, PASSES * 30)
    passes = len(scores) - 1
    assert abs(passes - PASSES) <= 1, f"a ranking goes through all claims {passes} times, not some {PASSES}"
