"""`vlmtools score` on strange files: a score, or an error that names the file; never a traceback."""

import copy
import csv
import gzip
import io
import json
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import tiny_data
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from vlmtools.cli import app
from vlmtools.errors import VlmToolsError
from vlmtools.types import Json

BENCHES = [*tiny_data.names(), "scenes"]
ids = st.sampled_from([*range(5), *map(str, range(5)), 1.0, "9", "", None, True, 10**400])
plain = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=12))
odd = st.one_of(
    st.sampled_from(["Yes", "No", "A dog.", "", " no\n", "🐶"]), plain, st.lists(plain, max_size=2), ids
)
keys = st.sampled_from(["id", "question_id", "image_id", "caption", "text", "answer", "response", "question"])
foreign = st.one_of(
    st.fixed_dictionaries({"id": ids, "response": odd}),
    st.fixed_dictionaries({"image_id": ids, "caption": odd}),
    st.dictionaries(keys, odd, max_size=4),
    plain,
)


@cache
def tiny(bench: str) -> tiny_data.Tiny:
    if bench == "scenes":
        answers = [{"id": "test-000000-random-0", "response": "Yes."}]
        return tiny_data.Tiny("scenes:n=1,captions=false", None, answers)
    return tiny_data.tiny(bench, Path(tempfile.mkdtemp(prefix="vlmtools-tiny-")))


def places(value: Json, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where in a right file something can be put that does not belong there."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at, *(place for key, one in inner for place in places(one, (*at, key)))]


def changed(value: Json, place: tuple[Any, ...], by: Json, what: str) -> Json:
    """The file with one value replaced, taken out or repeated."""
    if not place:
        return by
    made = copy.deepcopy(value)
    holder = made
    for key in place[:-1]:
        holder = holder[key]
    if what == "replace":
        holder[place[-1]] = by
    elif what == "remove":
        del holder[place[-1]]
    elif isinstance(holder, list):
        holder.append(copy.deepcopy(holder[place[-1]]))
    return made


@st.composite
def contents(draw: st.DrawFn, bench: str) -> Json:
    """A right file with up to three changes, or rows of anything."""
    if draw(st.integers(0, 3)) == 0:
        return draw(st.lists(foreign, max_size=5))
    made = tiny(bench).answers
    for _ in range(draw(st.integers(0, 3))):
        place = draw(st.sampled_from(places(made)))
        made = changed(made, place, draw(odd), draw(st.sampled_from(["replace", "remove", "repeat"])))
    return made


@st.composite
def files(draw: st.DrawFn, bench: str) -> tuple[str, bytes]:
    """A name and what is in it: right, half right, cut, or in another format than the name says."""
    made = draw(contents(bench))
    rows = made if isinstance(made, list) else [made]
    table = io.StringIO()
    heads = list(dict.fromkeys(key for row in rows if isinstance(row, dict) for key in row)) or ["id", "text"]
    cells = ([row.get(key, "") for key in heads] if isinstance(row, dict) else [str(row)] for row in rows)
    csv.writer(table, delimiter=draw(st.sampled_from(",\t"))).writerows([heads, *cells])
    text = draw(
        st.sampled_from(
            [
                "".join(json.dumps(row) + "\n" for row in rows),
                "\n".join(json.dumps(row, indent=1) for row in rows),
                json.dumps(made, ensure_ascii=False),
                table.getvalue(),
            ]
        )
    )
    raw = text.encode("utf-8", "surrogatepass")
    raw = raw[: draw(st.integers(0, len(raw)))] if draw(st.integers(0, 3)) == 0 else raw
    name = draw(
        st.sampled_from(["a.jsonl", "a.json", "a.csv", "a.tsv", "a.jsonl.gz", "a.json.gz", "a.csv.gz"])
    )
    return name, gzip.compress(raw) if name.endswith(".gz") and draw(st.booleans()) else raw


def check(folder: Path, bench: str, name: str, raw: bytes, partial: bool) -> None:
    spec, data, _, protocol = tiny(bench)
    answers = folder / name
    answers.write_bytes(raw)
    line = ["score", str(answers), "--bench", spec, "--bootstrap", "2", "--json"]
    line += ["--data", str(data)] if data else []
    line += ["--protocol", protocol] if protocol else []
    done = CliRunner().invoke(app, [*line, *(["--partial"] if partial else [])])
    if isinstance(done.exception, VlmToolsError):
        told = str(done.exception)
        assert name in told or "have no answer" in told or "judge" in told or "verdict" in told, told
        return
    assert done.exception is None, repr(done.exception)
    found: Any = json.loads(done.stdout)
    assert found["n"] >= 0 and set(found) == {"bench", "protocol", "metrics", "n", "unparsed", "record"}
    assert all(one["value"] is None or isinstance(one["value"], float) for one in found["metrics"].values())


def search(folder: Path, bench: str, n: int) -> None:
    @settings(max_examples=n, deadline=None, suppress_health_check=list(HealthCheck))
    @given(made=files(bench), partial=st.booleans())
    def many(made: tuple[str, bytes], partial: bool) -> None:
        check(folder, bench, *made, partial)

    many()


@pytest.mark.parametrize("bench", BENCHES)
def test_strange_files_are_scored_or_refused_by_name(tmp_path: Path, bench: str) -> None:
    search(tmp_path, bench, 15)


@pytest.mark.slow
@pytest.mark.parametrize("bench", BENCHES)
def test_thousands_of_strange_files_are_scored_or_refused_by_name(tmp_path: Path, bench: str) -> None:
    search(tmp_path, bench, 200)


RIGHT = [
    (bench, form)
    for bench in tiny_data.names()
    for form in ("a.json", "a.jsonl", "a.json.gz")
    if form != "a.jsonl" or bench not in ("eventhallusion", "vidhalluc")  # these are one object each
]


@pytest.mark.parametrize(("bench", "form"), RIGHT)
def test_a_right_file_is_scored(tmp_path: Path, bench: str, form: str) -> None:
    made = tiny(bench).answers
    text = "".join(json.dumps(row) + "\n" for row in made) if form == "a.jsonl" else json.dumps(made)
    raw = gzip.compress(text.encode()) if form.endswith(".gz") else text.encode()
    spec, data, _, protocol = tiny(bench)
    (tmp_path / form).write_bytes(raw)
    line = ["score", str(tmp_path / form), "--bench", spec, "--data", str(data), "--bootstrap", "2", "--json"]
    done = CliRunner().invoke(
        app, [*line, *(["--protocol", protocol] if protocol else [])], catch_exceptions=False
    )
    assert done.exit_code == 0 and json.loads(done.stdout)["n"] >= tiny_data.N, done.output
