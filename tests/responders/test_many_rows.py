"""Tables and items of any size: gone through again and again, never held, and the same as if they were."""

import csv
import gzip
import json
import os
import pickle
import subprocess
import sys
import tempfile
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlmtools.crosscheck.api import load_samples
from vlmtools.errors import BadInput
from vlmtools.responders._tables import Table, read_table
from vlmtools.responders.items import Items, _natural, items_from_images, read_items
from vlmtools.responders.recorded import Recorded, read_sources
from vlmtools.store import spool
from vlmtools.types import Sample, by_id

N = 40
ROWS: list[dict[str, Any]] = [
    {
        "id": f"{n * 7 % N}",
        "text": f"Ä {n}\u2028 😀",
        "prompt": "?" * (n % 3),
        "image": f"{n}.jpg",
        "label": [n],
    }
    for n in range(N)
]


def written(folder: Path, name: str, rows: list[dict[str, Any]]) -> Path:
    path = folder / name
    kind = name.split(".")[1]
    if kind == "jsonl":
        text = "".join(json.dumps(row) + "\n" for row in rows)
    elif kind == "json":
        text = json.dumps(rows)
    else:
        plain = folder / "plain"
        with plain.open("w", encoding="utf-8", newline="") as file:
            table = csv.DictWriter(file, list(rows[0]), delimiter="," if kind == "csv" else "\t")
            table.writeheader()
            table.writerows(rows)
        text = plain.read_text("utf-8")
    raw = text.encode("utf-8", "surrogatepass")
    path.write_bytes(gzip.compress(raw) if name.endswith(".gz") else raw)
    return path


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.json", "a.csv", "a.csv.gz", "a.tsv"])
def test_many_rows_are_read_as_few_are(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, name, ROWS)
    sources, items = read_sources(path), read_items(path)
    monkeypatch.setattr(spool, "MOST", 3)
    (source,), (many,) = sources, read_sources(path)
    assert many.answers._file is not None and many.samples._file is not None  # type: ignore[attr-defined]
    assert many == source and list(many.answers.items()) == list(source.answers.items())
    assert read_items(path) == items == list(items) and len(items) == N
    assert pickle.loads(pickle.dumps(many)) == source  # noqa: S301
    assert load_samples(sources, prompt="Why?") == load_samples([many], prompt="Why?")
    assert load_samples([], items=path, prompt="Why?") == [
        sample if sample.prompt else replace(sample, prompt="Why?") for sample in items
    ]


def test_many_rows_of_many_models_are_sorted_by_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{**row, "model": f"m{n}"} for row in ROWS for n in (2, 0, 1)]
    path = written(tmp_path, "a.jsonl", rows)
    sources = read_sources(path)
    monkeypatch.setattr(spool, "MOST", 3)
    assert [source.name for source in sources] == ["m2", "m0", "m1"]
    assert read_sources(path) == sources
    # of several errors, the first of the model that comes first is told, as if its rows came first
    wrong = [*rows, {"id": 1, "text": [], "model": "m1"}, {"id": 1, "text": {}, "model": "m0"}]
    with pytest.raises(BadInput, match=rf"line {3 * N + 2}: the field 'text'"):
        read_sources(written(tmp_path, "b.jsonl", wrong))


def test_a_damaged_line_is_told_before_anything_that_is_wrong_with_a_row(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"id": 1}\n{"id": 1, "text": "a"}\n{"id": \n')
    with pytest.raises(BadInput, match="line 3 is not JSON"):
        read_sources(path)
    path.write_bytes(b'{"id": 1, "te\n{"id": 1, "text": "\xff"}\n')
    with pytest.raises(BadInput, match="line 2: the byte 0xff"):
        read_sources(path)


def test_a_byte_that_is_no_text_is_named_behind_a_byte_order_mark_too(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"\xef\xbb\xbfid,text\n1,ab\xfecdefgh\n")
    with pytest.raises(BadInput, match="line 2: the byte 0xfe"):
        read_sources(path)
    path.write_bytes(b"id,text\n1,a\xc3")
    with pytest.raises(BadInput, match="line 2: the byte 0xc3"):
        read_sources(path)


def test_gzip_files_of_several_members_are_read_and_a_cut_one_is_refused(tmp_path: Path) -> None:
    text = "".join(json.dumps({"id": n, "text": f"{n:x}" * 999}) + "\n" for n in range(3_000)).encode()
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(text[:1_000]) + gzip.compress(text[1_000:]))
    assert len(read_sources(path)[0].answers) == 3_000
    whole = path.read_bytes()
    for damaged in (whole[:-5], whole[:-40] + b"\0" * 40, whole + b"more"):
        path.write_bytes(damaged)
        with pytest.raises(BadInput, match="damaged gzip"):
            read_sources(path)


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.csv"])
def test_a_file_that_changes_while_it_is_read_is_refused(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool, "MOST", 3)
    table = read_table(written(tmp_path, name, ROWS))
    assert len(list(table)) == len(list(table)) == N
    written(tmp_path, name, [*ROWS[:-1], {**ROWS[-1], "text": "other"}])
    with pytest.raises(BadInput, match="has changed while it was read"):
        list(table)
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:-20])
    with pytest.raises(BadInput, match="has changed while it was read"):
        list(table)


def test_what_comes_through_a_pipe_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "MOST", 3)
    pipe = tmp_path / "a.jsonl"
    os.mkfifo(pipe)
    raw = written(tmp_path, "plain.jsonl", ROWS).read_bytes()
    writer = threading.Thread(target=pipe.write_bytes, args=(raw,))
    writer.start()
    before = set(_temporary(tmp_path, monkeypatch))
    table: Table | None = read_table(pipe)
    writer.join()
    assert table is not None and len(set(_temporary(tmp_path, monkeypatch)) - before) == 1
    assert [row.fields for row in table] == [row.fields for row in table] and len(list(table)) == N
    table = None
    assert set(_temporary(tmp_path, monkeypatch)) == before, "the copy is still there"


def _temporary(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    (folder / "tmp").mkdir(exist_ok=True)
    monkeypatch.setattr(tempfile, "tempdir", str(folder / "tmp"))
    return [path.name for path in (folder / "tmp").iterdir()]


def test_half_read_tables_with_long_cells_do_not_disturb_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool, "MOST", 1)
    rows = [{"id": str(n), "text": "x" * 200_000} for n in range(4)]
    before = 131_072
    csv.field_size_limit(before)
    one, two = (
        iter(read_table(written(tmp_path, "a.csv", rows))),
        iter(read_table(written(tmp_path, "b.csv", rows))),
    )
    next(one), next(two), list(one)
    assert csv.field_size_limit() == before
    assert len(list(two)) == 3 and csv.field_size_limit() == before


@pytest.mark.parametrize("most", [100_000, 5])
def test_items_are_a_sequence_and_a_mapping(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "MOST", most)
    wanted = [Sample(f"{n * 3 % 20}", "?", reference="r", extra={"n": [n]}) for n in range(20)]
    items = Items(wanted)
    assert items == wanted and wanted == items and items != wanted[1:] and items != [*wanted[1:], Sample("0")]
    assert len(items) == 20 and items[0] == wanted[0] and items[-1] == wanted[-1] and items[7] == wanted[7]
    for part in (
        slice(None, 3),
        slice(3, 12),
        slice(None),
        slice(None, None, -4),
        slice(9, 2),
        slice(15, 99),
    ):
        assert list(items[part]) == wanted[part]
    assert isinstance(items[:7], Items) and by_id(items[:7]) == by_id(wanted[:7])
    with pytest.raises(IndexError):
        items[20]
    assert (
        by_id(items) is items.by_id
        and by_id(items) == by_id(wanted)
        and list(items.by_id) == list(by_id(wanted))
    )
    assert pickle.loads(pickle.dumps(items)) == items  # noqa: S301
    assert not items.add(Sample("3")) and items == wanted
    with pytest.raises(BadInput, match="'a'"):
        Items([Sample("a"), Sample("a", "?")])


def test_samples_that_a_caller_made_stay_in_memory_whatever_they_carry() -> None:
    given = [Sample("a", "?", extra={"what": object()}), Sample("b")]
    found = load_samples([], items=given, prompt="Why?")
    assert isinstance(found, list) and found[0] is given[0] and found[1] == Sample("b", "Why?")
    items = Items([Sample("a"), Sample("b", "?")])
    assert load_samples([], items=items, prompt="Why?") == [Sample("a", "Why?"), Sample("b", "?")]
    assert items[0] == Sample("a"), "the caller's items are the caller's"


def test_items_of_several_sources_are_joined_in_whatever_order_they_stand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool, "MOST", 2)
    asked = [{"id": n, "text": "a" if n % 5 else None, "prompt": "p" * (n % 2)} for n in range(9)]
    one = written(tmp_path, "one.jsonl", [*asked, {"id": 5, "text": "late"}])
    two = written(tmp_path, "two.jsonl", [{"id": n, "text": "b", "image": f"{n}.png"} for n in (11, 7, 2, 5)])
    found = load_samples([*read_sources(one), *read_sources(two)])
    assert [sample.id for sample in found] == ["1", "2", "3", "4", "6", "7", "8", "5", "11"]
    assert by_id(found)["5"] == Sample("5", "p", image="5.png")
    assert by_id(found)["7"] == Sample("7", "p", image="7.png") and by_id(found)["1"] == Sample("1", "p")
    other = written(tmp_path, "other.jsonl", [{"id": 7, "text": "c", "image": "8.png"}])
    with pytest.raises(BadInput, match=r"Item '7' has image '8\.png'"):
        load_samples([source for path in (one, two, other) for source in read_sources(path)])


def test_a_source_that_names_no_samples_still_gives_items() -> None:
    (answers,) = (source.answers for source in [Recorded("a", {"x": None}, {})])  # type: ignore[dict-item]
    assert load_samples([Recorded("a", answers, {})]) == [Sample("x")]


@given(st.lists(st.text(st.sampled_from("019aZä٣²./\udc80\U0001f600"), max_size=8), unique=True))
def test_names_sort_as_lists_of_their_numbers_and_texts(names: list[str]) -> None:
    import re

    def parts(name: str) -> list[tuple[int, int, str]]:
        found = [part for part in re.split(r"(\d+)", name) if part]
        return [(0, int(one), "") if one.isdecimal() else (1, 0, one) for one in found]

    assert sorted(names, key=_natural) == sorted(
        names, key=lambda name: (parts(name), name.encode("utf-8", "surrogatepass"))
    )


def test_pictures_are_found_once_and_called_by_their_paths_where_names_repeat(tmp_path: Path) -> None:
    for name in ("a/b/1.png", "a/1.png", "a/b/c/2.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    found = items_from_images(f"{tmp_path}/**/**/*.png", "?")
    assert [sample.id for sample in found] == [f"{tmp_path}/a/1.png", f"{tmp_path}/a/b/1.png", "2"]


@pytest.mark.slow
@pytest.mark.parametrize("what", ["read_sources", "read_items"])
def test_memory_does_not_grow_with_the_rows(tmp_path: Path, what: str) -> None:
    """The peak above the start was 14 MB for a hundred thousand rows of 200 characters, and 150 to 200 MB held."""
    path = tmp_path / "a.jsonl"
    with path.open("w") as file:
        for n in range(100_000):
            file.write(json.dumps({"id": n, "text": f"{n:200}", "more": [n]}) + "\n")
    code = (
        f"from vlmtools.responders.recorded import {what} as read\nimport resource, sys\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "before = peak(); found = read(sys.argv[1]); print((peak() - before) // 1024)"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 50
