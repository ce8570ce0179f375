import errno
import json
import math
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vlmtools import lines
from vlmtools.errors import BadInput, StoreError, StoreLocked, StoreMismatch
from vlmtools.store import Store, call_key, media_hash

ANY_TEXT = st.text(alphabet=st.characters(exclude_categories=()))  # lone surrogates included
NAMES = ("answers", "votes")
Records = dict[str, dict[str, Any]]


def as_json_reads(text: str) -> str:
    return str(json.loads(json.dumps(text)))


def fill(folder: Path, n: int = 6) -> dict[str, Records]:
    """A closed run with two kinds; gives back what is in it."""
    put = {
        kind: {f"{kind}{i}": {"item": str(i), "text": "wörd\u2028\n" * i} for i in range(n)} for kind in NAMES
    }
    with Store(folder) as store:
        store.bind({"judge": "nli"})
        for kind in NAMES:
            store.append_many(kind, put[kind].items())
    return put


def intact(folder: Path, kind: str) -> Records:
    """What plain reading of the bytes finds, without the store's help."""
    found: Records = {}
    for line in (folder / f"{kind}.jsonl").read_bytes().split(b"\n"):
        record = lines.decode(line)
        if record is not None:
            found[record.pop("key")] = record
    return found


def content(store: Store, kind: str) -> Records:
    return {record.pop("key"): record for record in store.read(kind)}


def heals(folder: Path, put: dict[str, Records], expected: dict[str, Records]) -> None:
    """Opening keeps every intact record, returns nothing wrong, and what was lost can be appended again."""
    with Store(folder, read_only=True) as reader:
        for kind in NAMES:
            assert expected[kind].items() <= content(reader, kind).items() <= put[kind].items()
    with Store(folder) as store:
        for kind in NAMES:
            there = content(store, kind)
            assert expected[kind].items() <= there.items() <= put[kind].items()
            assert there.keys() == {key for key in put[kind] if store.has(kind, key)}
            for key in put[kind]:
                record = store.get(kind, key)
                assert record is None if key not in there else record == {"key": key, **put[kind][key]}
            assert store.append_many(kind, put[kind].items()) == len(put[kind]) - len(there)
    with Store(folder) as store:
        assert store.repaired == {}
        for kind in NAMES:
            assert content(store, kind) == put[kind]
            assert store.count(kind) == len(put[kind])


@given(st.dictionaries(ANY_TEXT.filter(bool), ANY_TEXT, max_size=5))
@settings(deadline=None, max_examples=60)
def test_any_text_comes_back_as_json_reads_it(texts: dict[str, str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        with Store(folder) as store:
            for number, text in enumerate(texts.values()):
                store.append("answers", f"k{number}", {"text": text})
        raw = (Path(folder) / "answers.jsonl").read_bytes() if texts else b""
        assert len(raw.decode().splitlines()) == len(texts)
        with Store(folder) as store:
            assert [record["text"] for record in store.read("answers")] == [
                as_json_reads(t) for t in texts.values()
            ]


@pytest.mark.parametrize(
    "text", ["", "\n", "a\u2028b\u2029c\x85d", "\ud800", "x\udfff", '{"key":"a","crc":"00000000"}', "é😀"]
)
def test_awkward_texts_come_back_exactly(tmp_path: Path, text: str) -> None:
    with Store(tmp_path) as store:
        store.append("answers", 'k"\\ü', {"text": text, "claims": [text]})
        assert store.get("answers", 'k"\\ü') == {"key": 'k"\\ü', "text": text, "claims": [text]}
    with Store(tmp_path, read_only=True) as store:
        assert next(store.read("answers"))["text"] == text


def test_a_text_of_ten_megabytes_comes_back(tmp_path: Path) -> None:
    text = "wörd " * 2_000_000
    with Store(tmp_path) as store:
        store.append("answers", "big", {"text": text})
    with Store(tmp_path) as store:
        assert store.get("answers", "big") == {"key": "big", "text": text}


def test_the_first_record_under_a_key_stays(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        assert store.append("votes", "a", {"n": 1}) is True
        assert store.append("votes", "a", {"n": 2}) is False
        assert store.append_many("votes", [("b", {"n": 3}), ("b", {"n": 4}), ("a", {"n": 5})]) == 1
        assert [record["n"] for record in store.read("votes")] == [1, 3]


def test_records_appended_while_reading_are_left_out(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        store.append("answers", "a", {})
        for record in store.read("answers"):
            store.append("answers", record["key"] + "x", {})
        assert store.count("answers") == 2


@given(st.data())
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.data_too_large])
def test_cutting_a_file_at_any_byte_loses_only_what_was_cut(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        put = fill(folder)
        file = folder / data.draw(
            st.sampled_from(["answers.jsonl", "votes.jsonl", "index.sqlite", "index.seal"])
        )
        size = data.draw(st.integers(0, file.stat().st_size))
        with file.open("r+b") as handle:
            handle.truncate(size)
        heals(folder, put, {kind: intact(folder, kind) for kind in NAMES})


@given(st.data())
@settings(deadline=None, max_examples=120)
def test_flipping_any_byte_loses_only_the_record_it_lies_in(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        put = fill(folder)
        file = folder / data.draw(
            st.sampled_from(["answers.jsonl", "votes.jsonl", "index.sqlite", "index.seal", "lock"])
        )
        raw = bytearray(file.read_bytes())
        if raw:
            place, mask = data.draw(st.integers(0, len(raw) - 1)), data.draw(st.integers(1, 255))
            raw[place] ^= mask
            file.write_bytes(raw)
        expected = {kind: intact(folder, kind) for kind in NAMES}
        heals(folder, put, expected)
        lost = sum(len(put[kind]) - len(expected[kind]) for kind in NAMES)
        assert lost <= 2  # two only where the line break between them went


def test_every_line_break_that_is_lost_costs_no_record(tmp_path: Path) -> None:
    put = fill(tmp_path)
    file = tmp_path / "answers.jsonl"
    breaks = [place for place, byte in enumerate(file.read_bytes()) if byte == ord("\n")]
    for place in breaks:
        raw = bytearray(file.read_bytes())
        raw[place] = ord("x")
        file.write_bytes(raw)
        with Store(tmp_path) as store:
            assert content(store, "answers") == put["answers"]
            assert store.repaired == {"answers": 1}


def test_a_torn_last_line_is_cut_and_nothing_else_is_lost(tmp_path: Path) -> None:
    fill(tmp_path)
    file = tmp_path / "votes.jsonl"
    whole = file.read_bytes()
    file.write_bytes(whole[:-10])
    with Store(tmp_path) as store:
        assert store.count("votes") == 5
        assert store.repaired == {"votes": 1}
    assert file.read_bytes() == whole[: whole.rindex(b"\n", 0, -1) + 1]
    aside = json.loads((tmp_path / "votes.damaged.jsonl").read_text())
    torn = aside["bytes"].encode("utf-8", "surrogateescape")
    assert whole[: aside["offset"]] + torn == whole[:-10]


def test_a_damaged_line_in_the_middle_is_moved_aside_byte_for_byte(tmp_path: Path) -> None:
    fill(tmp_path)
    file = tmp_path / "answers.jsonl"
    rows = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join([*rows[:2], b"\xff\x00 nonsense\n", *rows[3:]]))
    with Store(tmp_path) as store:
        assert store.repaired == {} and store.count("answers") == 5
        assert store.repaired == {"answers": 1}
    assert file.read_bytes() == b"".join([*rows[:2], *rows[3:]])
    aside = json.loads((tmp_path / "answers.damaged.jsonl").read_text())
    assert aside["bytes"].encode("utf-8", "surrogateescape") == b"\xff\x00 nonsense\n"


def test_damage_behind_the_back_of_the_index_is_found_when_the_record_is_asked_for(tmp_path: Path) -> None:
    put = fill(tmp_path)
    file = tmp_path / "answers.jsonl"
    before = file.stat()
    raw = bytearray(file.read_bytes())
    raw[raw.index(b'"item":"3"') + 8] ^= 1
    file.write_bytes(raw)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    with Store(tmp_path) as store:
        assert store.has("answers", "answers3")  # nobody has looked yet
        assert store.get("answers", "answers3") is None
        assert not store.has("answers", "answers3")
        assert store.append("answers", "answers3", put["answers"]["answers3"])
        assert content(store, "answers") == put["answers"]


def test_check_finds_silent_damage_everywhere(tmp_path: Path) -> None:
    fill(tmp_path)
    file = tmp_path / "votes.jsonl"
    before = file.stat()
    file.write_bytes(file.read_bytes().replace(b'"item":"3"', b'"item":"4"'))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    with Store(tmp_path) as store:
        assert store.check() == {"votes": 1}


def test_repeated_keys_of_joined_files_are_moved_aside(tmp_path: Path) -> None:
    put = fill(tmp_path)
    file = tmp_path / "votes.jsonl"
    whole = file.read_bytes()
    file.write_bytes(whole + whole)
    with Store(tmp_path, read_only=True) as store:
        assert content(store, "votes") == put["votes"] and store.repaired == {"votes": 6}
    with Store(tmp_path) as store:
        assert content(store, "votes") == put["votes"] and store.repaired == {"votes": 6}
    assert file.read_bytes() == whole


def test_an_up_to_date_index_opens_without_reading_the_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path)
    monkeypatch.setattr("vlmtools.store.journal.scan", lambda path: pytest.fail(f"{path} was read"))
    with Store(tmp_path) as store:
        assert store.has("answers", "answers3") and store.count("votes") == 6
        store.append("answers", "new", {})
    with Store(tmp_path, read_only=True) as store:
        assert store.has("answers", "new")


def test_a_kind_nobody_used_stays_indexed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path)
    with Store(tmp_path) as store:
        store.append("answers", "new", {})
    monkeypatch.setattr("vlmtools.store.journal.scan", lambda path: pytest.fail(f"{path} was read"))
    with Store(tmp_path) as store:
        assert store.count("votes") == 6


def test_an_index_of_another_run_is_not_believed(tmp_path: Path) -> None:
    put = fill(tmp_path / "a")
    fill(tmp_path / "b", n=3)
    shutil.copy2(tmp_path / "b" / "index.sqlite", tmp_path / "a" / "index.sqlite")
    shutil.copy2(tmp_path / "b" / "index.seal", tmp_path / "a" / "index.seal")
    heals(tmp_path / "a", put, put)


def test_the_index_is_sqlite_that_anyone_can_query(tmp_path: Path) -> None:
    fill(tmp_path)
    database = sqlite3.connect(tmp_path / "index.sqlite")
    start, length = database.execute("SELECT start, length FROM votes WHERE key = 'votes2'").fetchone()
    database.close()
    raw = (tmp_path / "votes.jsonl").read_bytes()[start : start + length]
    assert lines.decode(raw) == {"key": "votes2", "item": "2", "text": "wörd\u2028\n" * 2}


def test_equal_runs_give_equal_bytes_however_they_were_cut_into_batches(tmp_path: Path) -> None:
    pairs = [(f"k{i}", {"text": f"t{i}"}) for i in range(50)]
    for name, size in (("a", 50), ("b", 7)):
        for start in range(0, 50, size):
            with Store(tmp_path / name) as store:
                store.append_many("answers", pairs[max(0, start - 3) : start + size])
    assert (tmp_path / "a" / "answers.jsonl").read_bytes() == (tmp_path / "b" / "answers.jsonl").read_bytes()


def test_a_second_writer_is_refused_by_name_and_readers_are_not(tmp_path: Path) -> None:
    code = (
        "import sys; from vlmtools.store import Store\n"
        f"store = Store({str(tmp_path)!r}); store.append('answers', 'a', {{}}); print('open', flush=True)\n"
        "sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None and other.stdout.readline() == b"open\n"
        with pytest.raises(StoreLocked, match=str(other.pid)):
            Store(tmp_path)
        with Store(tmp_path, read_only=True) as reader:
            assert reader.count("answers") == 1
        other.kill()
    with Store(tmp_path) as store:
        assert store.count("answers") == 1


def test_a_reader_sees_the_folder_as_it_was_and_changes_nothing(tmp_path: Path) -> None:
    fill(tmp_path)
    (tmp_path / "index.seal").unlink()
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with Store(tmp_path, read_only=True) as reader:
        assert reader.count("answers") == 6
        with pytest.raises(StoreError, match="open for reading"):
            reader.append("answers", "x", {})
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_folder_of_somebody_elses_files_is_refused_untouched(tmp_path: Path) -> None:
    theirs = '{"id": "1", "text": "a"}\n'
    (tmp_path / "answers.jsonl").write_text(theirs)
    for _ in range(2):
        with Store(tmp_path) as store, pytest.raises(StoreError, match="not written by vlmtools"):
            store.append("answers", "k", {})
    assert (tmp_path / "answers.jsonl").read_text() == theirs


def test_there_is_no_reading_of_a_run_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no run folder"):
        Store(tmp_path / "nowhere", read_only=True)
    assert not (tmp_path / "nowhere").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be a run folder"):
        Store(tmp_path / "file")


def test_a_closed_store_says_so(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        pass
    store.close()
    with pytest.raises(StoreError, match="was closed"):
        store.has("answers", "a")


@pytest.mark.parametrize(
    "record",
    [{"x": math.nan}, {"x": [math.inf]}, {"x": object()}, {"x": Path("a")}, {"crc": "1"}, {"key": "z"}],
)
def test_what_json_cannot_hold_is_refused_and_nothing_of_the_batch_is_kept(
    tmp_path: Path, record: dict[str, object]
) -> None:
    with Store(tmp_path) as store:
        with pytest.raises(BadInput):
            store.append_many("answers", [("good", {}), ("bad", record)])
        assert store.count("answers") == 0
        assert store.append("answers", "good", {"key": "good"})
        with pytest.raises(BadInput):
            store.append("answers", "", {})
        with pytest.raises(BadInput):
            store.append("../answers", "a", {})


def test_a_full_disk_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Store(tmp_path) as store:
        store.append("answers", "a", {"n": 1})
        before = (tmp_path / "answers.jsonl").read_bytes()

        def half(handle: int, content: bytes) -> None:
            os.write(handle, content[: len(content) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr("vlmtools.store.journal.write_all", half)
            with pytest.raises(StoreError, match="No space left"):
                store.append("answers", "b", {"n": 2})
        assert (tmp_path / "answers.jsonl").read_bytes() == before
        assert not store.has("answers", "b")
        assert store.append("answers", "b", {"n": 2})
        assert store.repaired == {}


def test_another_question_is_refused_with_every_setting_that_differs(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        store.bind({"judge": {"name": "nli", "threshold": 0.5}, "models": ["a", "b"]}, {"n_boot": 100})
        store.bind({"models": ["a", "b"], "judge": {"threshold": 0.5, "name": "nli"}}, {"n_boot": 2000})
        said = json.loads(store.read_file("run.json") or b"")
        assert said["settings"] == {"n_boot": 2000}
        with pytest.raises(StoreMismatch) as refusal:
            store.bind({"judge": {"name": "nli", "threshold": 0.6}, "models": ["a", "b"], "new": True})
    text = str(refusal.value)
    assert "judge.threshold: given 0.6, stored 0.5" in text and "new: given true, stored not set" in text
    assert "models" not in text and "judge.name" not in text and "another --out" in text


def test_a_damaged_run_file_is_an_error_and_not_another_question(tmp_path: Path) -> None:
    fill(tmp_path)
    (tmp_path / "run.json").write_bytes(b"{")
    with Store(tmp_path) as store, pytest.raises(StoreError, match="Restore"):
        store.bind({"judge": "nli"})


def test_whole_files_are_written_and_read_inside_the_folder_only(tmp_path: Path) -> None:
    with Store(tmp_path / "run") as store:
        store.write_file("report.html", "é\ud800")
        store.write_file("figures/a.bin", b"\x00")
        assert store.read_file("report.html") == "é\\ud800".encode()
        assert store.read_file("figures/a.bin") == b"\x00" and store.read_file("none") is None
        for name in ("../x", "/etc/x", "answers.jsonl", ""):
            with pytest.raises(BadInput):
                store.write_file(name, "x")
    assert not list((tmp_path / "run").glob(".*.tmp"))


def test_the_log_keeps_events_in_order(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        store.log("started", host="here")
        store.log("ended", seconds=1.5)
        assert [record["event"] for record in store.read("log")] == ["started", "ended"]


def test_keys_depend_on_every_part_and_not_on_their_order() -> None:
    parts = {"model": {"name": "a", "patches": ["x"]}, "draw": 0, "temperature": 1.0, "text": "\ud800é"}
    key = call_key("answers", parts)
    assert len(key) == 32 and key == call_key("answers", dict(reversed(parts.items())))
    assert key == call_key("answers", {**parts, "temperature": 1})
    others = [{**parts, "draw": 1}, {**parts, "draw": False}, {**parts, "draw": "0"}, {**parts, "new": None}]
    assert len({key, call_key("votes", parts), *(call_key("answers", other) for other in others)}) == 6


@pytest.mark.parametrize(
    ("part", "says"), [(math.nan, "nan"), (b"x", "bytes"), ({1: 2}, "field name 1"), ({"a"}, "set")]
)
def test_a_key_of_something_json_cannot_hold_is_refused_with_its_place(part: object, says: str) -> None:
    with pytest.raises(BadInput, match=f"decoding.*{says}"):
        call_key("answers", {"decoding": {"x": [part]}})


def test_media_are_known_by_content_and_urls_by_address(tmp_path: Path) -> None:
    a, b = tmp_path / "a.jpg", tmp_path / "b.jpg"
    a.write_bytes(b"picture")
    b.write_bytes(b"picture")
    first = media_hash(str(a))
    assert first == media_hash(str(b)) and first.startswith("sha256:")
    a.write_bytes(b"another")
    assert media_hash(str(a)) != first
    assert media_hash("https://x.org/a.jpg") == "https://x.org/a.jpg"
    assert media_hash("data:image/png;base64,AA==").startswith("sha256:")
    with pytest.raises(BadInput, match="no file"):
        media_hash(str(tmp_path / "c.jpg"))


def test_fifty_thousand_records_are_appended_in_seconds(tmp_path: Path) -> None:
    record = {"item": "1", "model": "m", "draw": 0, "text": "A man rides a wave on his board. " * 6}
    started = time.process_time()
    with Store(tmp_path) as store:
        for start in range(0, 50_000, 1_000):
            store.append_many(
                "answers", ((f"{number:032x}", record) for number in range(start, start + 1_000))
            )
    assert time.process_time() - started < 3


def test_a_worker_forked_during_a_run_does_not_keep_the_folder_locked(tmp_path: Path) -> None:
    code = (
        "import os, time; from vlmtools.store import Store\n"
        f"store = Store({str(tmp_path)!r}); store.append('answers', 'a', {{}})\n"
        "child = os.fork()\n"
        "print(os.getpid(), flush=True) if not child else None\n"  # the worker itself, once it runs
        "time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as run:
        assert run.stdout is not None
        worker = int(run.stdout.readline())
        run.kill()
        run.wait()
        try:
            with Store(tmp_path) as store:
                assert store.count("answers") == 1
        finally:
            os.kill(worker, signal.SIGKILL)


def test_an_index_that_cannot_be_written_costs_nothing_but_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patch, Store(tmp_path) as store:
        store.append("answers", "a", {"n": 1})
        patch.setattr("vlmtools.store.journal.put_seal", full)
        store.close()
    with Store(tmp_path) as store:
        assert store.get("answers", "a") == {"key": "a", "n": 1}


def test_threads_may_append_and_read_at_the_same_time(tmp_path: Path) -> None:
    def work(number: int) -> None:
        for step in range(20):
            store.append("answers", f"{number}-{step}", {"n": step})
            assert sum(1 for _ in store.read("answers")) > step

    with Store(tmp_path) as store:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(work, range(4)))
        assert store.count("answers") == 80
    with Store(tmp_path) as store:
        assert store.repaired == {} and sum(1 for _ in store.read("answers")) == 80
