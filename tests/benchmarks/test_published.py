"""Local copies of published data are compared by checksum, and by count where the bytes differ."""

import gzip
import hashlib
import json
from pathlib import Path

import pytest
from places import cases, data_roots
from typer.testing import CliRunner

from vlmtools import registry
from vlmtools.benchmarks._files import read_entries
from vlmtools.benchmarks._published import Published, copies
from vlmtools.benchmarks.base import load_benchmark
from vlmtools.cli import app

ROWS = [{"id": n, "text": "A dog."} for n in range(3)]
TEXT = "".join(json.dumps(row) + "\n" for row in ROWS)
KNOWN = {"a.jsonl": Published(3, hashlib.sha256(TEXT.encode()).hexdigest())}


@pytest.mark.parametrize("name", ["a.jsonl", "deep/a.jsonl.gz"])
def test_the_published_bytes_are_recognised_packed_or_not(tmp_path: Path, name: str) -> None:
    raw = TEXT.encode()
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(gzip.compress(raw) if name.endswith(".gz") else raw)
    (one,) = copies(KNOWN, tmp_path)
    assert one.same and one.complete and str(one).endswith("as published")


def test_other_bytes_with_as_many_entries_are_told_and_complete(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps(ROWS))
    (one,) = copies(KNOWN, tmp_path / "a.jsonl")
    assert not one.same and one.complete and one.entries == 3 and "not the published bytes" in str(one)


@pytest.mark.parametrize("text", [TEXT[: len(TEXT) // 2], json.dumps(ROWS[:2]), ""])
def test_a_copy_with_entries_missing_is_incomplete(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.jsonl").write_text(text)
    (one,) = copies(KNOWN, tmp_path)
    assert not one.complete and one.expected == 3


def test_files_of_other_names_are_not_compared(tmp_path: Path) -> None:
    (tmp_path / "b.jsonl").write_text(TEXT)
    assert copies(KNOWN, tmp_path) == [] and copies(KNOWN, None) == []


def test_preparing_half_a_benchmark_fails_and_names_the_file(tmp_path: Path) -> None:
    row = {"question_id": 1, "text": "Is there a dog?", "label": "yes"}
    (tmp_path / "coco_pope_random.json").write_text(json.dumps(row) + "\n")
    done = CliRunner().invoke(app, ["bench", "prepare", "pope", "--path", str(tmp_path), "--json"])
    (file,) = json.loads(done.stdout)["files"]
    assert done.exit_code == 1 and (file["entries"], file["expected"]) == (1, 3000)


def test_every_checksum_has_the_length_of_one() -> None:
    kinds = [load_benchmark(name) for name in registry.names("vlmtools.benchmarks")]
    known = [one for kind in kinds for one in kind.published.values()]
    assert known and all(len(one.sha256) == 64 and int(one.sha256, 16) for one in known)


@pytest.mark.golden
@pytest.mark.parametrize("path", cases(data_roots(), "**/hallusionbench/HallusionBench.json*"))
def test_a_repacked_copy_of_hallusionbench_has_as_many_entries_as_published(path: Path) -> None:
    assert (
        len(read_entries(path)) == load_benchmark("hallusionbench").published["HallusionBench.json"].entries
    )
