"""`vlmtools score` on strange files: a score, or an error that names the file; never a traceback."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from vlmtools.cli import app
from vlmtools.errors import VlmToolsError

N_ITEMS = 4


def _chair(folder: Path) -> Path:
    (folder / "truth.json").write_text(json.dumps({f"{n}": ["dog"] for n in range(N_ITEMS)}))
    return folder / "truth.json"


def _pope(folder: Path) -> Path:
    rows = [
        {"question_id": n, "image": f"{n}.jpg", "text": f"Is there a {n}?", "label": ["no", "yes"][n % 2]}
        for n in range(N_ITEMS)
    ]
    (folder / "coco_pope_random.json").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / "coco_pope_random.json"


def _amber(folder: Path) -> Path:
    rows = [
        {"id": n, "type": "discriminative-hallucination", "truth": ["no", "yes"][n % 2]}
        for n in range(N_ITEMS)
    ]
    (folder / "annotations.json").write_text(json.dumps(rows))
    return folder / "annotations.json"


DATA: dict[str, tuple[str, Callable[[Path], Path]]] = {
    "chair": ("chair", _chair),
    "pope": ("pope", _pope),
    "amber": ("amber:task=existence", _amber),
}
plain = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=12))
ids = st.sampled_from([*range(N_ITEMS), *map(str, range(N_ITEMS)), 1.0, "9", "", None, True, 10**400])
texts = st.one_of(st.sampled_from(["Yes", "No", "A dog.", ""]), plain, st.lists(plain, max_size=2))
keys = st.sampled_from(["id", "question_id", "image_id", "caption", "text", "answer", "response", "question"])
rows = st.one_of(
    st.fixed_dictionaries({"id": ids, "response": texts}),
    st.fixed_dictionaries({"question_id": ids, "answer": texts}),
    st.fixed_dictionaries({"image_id": ids, "caption": texts}),
    st.dictionaries(keys, texts, max_size=4),
    plain,
)


@st.composite
def files(draw: st.DrawFn) -> tuple[str, bytes]:
    """A name and what is in it: right, half right, cut, or in another format than the name says."""
    made = draw(st.lists(rows, max_size=5))
    table = io.StringIO()
    csv.writer(table).writerows([["id", "response"], *([str(n), str(row)] for n, row in enumerate(made))])
    text = draw(
        st.sampled_from(["".join(json.dumps(row) + "\n" for row in made), json.dumps(made), table.getvalue()])
    )
    raw = text.encode("utf-8", "surrogatepass")
    raw = raw[: draw(st.integers(0, len(raw)))] if draw(st.booleans()) else raw
    return draw(st.sampled_from(["a.jsonl", "a.json", "a.csv", "a.tsv", "a.jsonl.gz"])), raw


def check(folder: Path, bench: str, name: str, raw: bytes, partial: bool) -> None:
    spec, write = DATA[bench]
    place = folder / bench
    place.mkdir(exist_ok=True)
    answers = folder / name
    answers.write_bytes(raw)
    line = ["score", str(answers), "--bench", spec, "--data", str(write(place)), "--bootstrap", "2", "--json"]
    done = CliRunner().invoke(app, [*line, *(["--partial"] if partial else [])])
    if isinstance(done.exception, VlmToolsError):
        told = str(done.exception)
        assert name in told or "have no answer" in told, told
        return
    assert done.exception is None, repr(done.exception)
    found: Any = json.loads(done.stdout)
    assert 0 <= found["n"] <= N_ITEMS
    rates = [one["value"] for one in found["metrics"].values() if one["value"] is not None]
    assert all(value >= 0 for value in rates)


def search(folder: Path, n: int) -> None:
    @settings(max_examples=n, deadline=None, suppress_health_check=list(HealthCheck))
    @given(made=files(), bench=st.sampled_from(sorted(DATA)), partial=st.booleans())
    def many(made: tuple[str, bytes], bench: str, partial: bool) -> None:
        check(folder, bench, *made, partial)

    many()


def test_strange_files_are_scored_or_refused_by_name(tmp_path: Path) -> None:
    search(tmp_path, 150)


@pytest.mark.slow
def test_a_thousand_strange_files_are_scored_or_refused_by_name(tmp_path: Path) -> None:
    search(tmp_path, 1000)


@pytest.mark.parametrize("bench", sorted(DATA))
def test_a_right_file_is_scored(tmp_path: Path, bench: str) -> None:
    field = {"chair": ("image_id", "caption")}.get(bench, ("id", "response"))
    field = ("question_id", "answer") if bench == "pope" else field
    raw = "".join(json.dumps({field[0]: n, field[1]: "No"}) + "\n" for n in range(N_ITEMS)).encode()
    check(tmp_path, bench, "a.jsonl", raw, False)
