"""A file of rows survives being killed at any byte, and never answers a changed question."""

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vlmtools import lines
from vlmtools.errors import BadInput, StoreError, StoreLocked, StoreMismatch
from vlmtools.store import spool
from vlmtools.store.rows import RowFile


@pytest.fixture(autouse=True, params=[None, 1], ids=["in memory", "in files"])
def limit(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test runs twice: what is known of the rows is in memory, and with a limit of one row it is not."""
    if request.param is not None:
        monkeypatch.setattr(spool, "MOST", request.param)


ROWS = [(f"x{i}", f"k{i}", {"id": f"x{i}", "text": "ü\u2028\n" * i}) for i in range(3)]
RUN = """
import sys
from vlmtools.store import spool
from vlmtools.store.rows import RowFile
spool.MOST = int(sys.argv[2])
with RowFile(sys.argv[1]) as file:
    print("open", flush=True)
    for i in range(4000):
        file.append(str(i), f"k{i}", {"id": str(i), "text": "wörd " * (i % 50)})
"""


def written(path: Path) -> bytes:
    with RowFile(path) as file:
        for item, key, row in ROWS:
            file.append(item, key, row)
    return path.read_bytes()


def test_a_file_stopped_after_every_single_byte_ends_with_the_same_bytes(tmp_path: Path) -> None:
    whole = written(tmp_path / "calm.jsonl")
    for size in range(len(whole) + 1):
        path = tmp_path / "torn.jsonl"
        path.write_bytes(whole[:size])
        assert written(path) == whole, f"cut after {size} bytes"


def test_a_writer_killed_again_and_again_ends_with_the_bytes_of_an_undisturbed_one(tmp_path: Path) -> None:
    def start(name: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-c", RUN, str(tmp_path / name), str(spool.MOST)], stdout=subprocess.PIPE
        )

    chance, sizes = random.Random(0), set()
    for _ in range(4):
        with start("killed.jsonl") as run:
            assert run.stdout is not None and run.stdout.readline() == b"open\n"
            time.sleep(chance.uniform(0, 0.02))
            run.kill()
        sizes.add((tmp_path / "killed.jsonl").stat().st_size)
    for name in ("killed.jsonl", "calm.jsonl"):
        with start(name) as run:
            run.communicate()
    assert len(sizes) > 1, "no writer was stopped half way: the test tested nothing"
    assert (tmp_path / "killed.jsonl").read_bytes() == (tmp_path / "calm.jsonl").read_bytes()


def test_a_row_is_kept_once(tmp_path: Path) -> None:
    with RowFile(tmp_path / "a.jsonl") as file:
        assert file.append(*ROWS[1])
        assert not file.append(*ROWS[1])
        assert len(file) == 1
    with RowFile(tmp_path / "a.jsonl") as file:
        assert not file.append(*ROWS[1])
        assert "x1" in file and "x2" not in file
        assert file.check("x1", "k1") and not file.check("x2", "k2")
    (line,) = (tmp_path / "a.jsonl").read_bytes().splitlines()
    assert lines.decode(line) == {"key": "k1", **ROWS[1][2]}


def test_a_changed_question_to_the_same_item_is_refused(tmp_path: Path) -> None:
    with RowFile(tmp_path / "a.jsonl") as file:
        file.append(*ROWS[1])
        with pytest.raises(StoreMismatch, match=r"another answer to 'x1'.*another --out"):
            file.append("x1", "other", ROWS[1][2])
    with RowFile(tmp_path / "a.jsonl") as file, pytest.raises(StoreMismatch):
        file.check("x1", "other")


@pytest.mark.parametrize(
    "content",
    [
        b'{"id": "1", "text": "mine"}\n',
        b'{"id": "1", "text": "mine"}',
        b"notes",
        b'{"key":"k","id":"1","text":"edited","crc":"00000000"}\n',
        lines.encode("k", {"item": "1", "text": "a record of a run folder"}) + b"\n",
        lines.encode("k", {"id": "1"}) + b"\n" + b"\n",
    ],
)
def test_a_file_of_somebody_else_is_refused_and_left_as_it_is(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(content)
    with pytest.raises(BadInput, match="no row as it was written here"):
        RowFile(path)
    assert path.read_bytes() == content


def test_two_writers_at_a_time_are_refused(tmp_path: Path) -> None:
    with RowFile(tmp_path / "a.jsonl"), pytest.raises(StoreLocked, match="another process"):
        RowFile(tmp_path / "a.jsonl")
    RowFile(tmp_path / "a.jsonl").close()


def test_a_full_disk_leaves_the_rows_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = written(tmp_path / "a.jsonl")

    def full(handle: int, content: bytes) -> None:
        import os

        os.write(handle, content[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("vlmtools.store.rows.write_all", full)
    with RowFile(tmp_path / "a.jsonl") as file:
        with pytest.raises(StoreError, match="No space left"):
            file.append("new", "new", {"id": "new", "text": ""})
        assert len(file) == len(ROWS)
    assert (tmp_path / "a.jsonl").read_bytes() == whole


def test_a_folder_in_the_way_is_said(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be written"):
        RowFile(tmp_path)
