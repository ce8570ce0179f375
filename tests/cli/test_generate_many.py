"""`vlmtools generate` for any number of items: the same rows, whether items and keys are in memory or in a file."""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from vlmtools.answers import wanted_samples
from vlmtools.cli import _generating
from vlmtools.cli.generate import generate
from vlmtools.errors import BadInput, StoreMismatch
from vlmtools.store import spool
from vlmtools.types import Reply, Request, Sample

app = typer.Typer(pretty_exceptions_enable=False)
app.command()(generate)
N = 700
ECHO = """
import resource, sys
import typer
import vlmtools.crosscheck.sources as sources
from typer.testing import CliRunner
from vlmtools.cli.generate import generate
from vlmtools.types import Reply


class Echo:
    name = "echo"

    def identity(self):
        return {"kind": "echo"}

    def answer(self, requests):
        for request in requests:
            yield request, Reply(request.sample.prompt)

    def close(self):
        pass


def ask(items):
    done = CliRunner().invoke(app, ["echo", "--items", items, "-p", "Why?", "-o", items + ".out.jsonl"])
    assert done.exit_code == 0, done.output


sources.responder = lambda *a, **k: Echo()
app = typer.Typer(pretty_exceptions_enable=False)
app.command()(generate)
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
few, many = sys.argv[1:]
ask(few)
before = peak()
ask(many)
ask(many)
print((peak() - before) // 1024)
"""


class Parrot:
    """Says the question; nothing about items it was told to leave out."""

    name = "parrot"

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.mute: set[str] = set()

    def identity(self) -> Mapping[str, Any]:
        return {"kind": "parrot"}

    def answer(self, requests: Sequence[Request]) -> Iterator[tuple[Request, Reply]]:
        for request in reversed(requests):
            id = request.sample.id
            self.asked.append(id)
            yield request, Reply(None, error=f"no {id}") if id in self.mute else Reply(request.sample.prompt)

    def close(self) -> None:
        """Nothing."""


@pytest.fixture(params=[10_000, 3], ids=["in memory", "in files"])
def parrot(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Parrot:
    monkeypatch.setattr(spool, "MOST", request.param)
    monkeypatch.chdir(tmp_path)
    bird = Parrot()
    monkeypatch.setattr("vlmtools.crosscheck.sources.responder", lambda *_a, **_k: bird)
    rows = [{"id": f"{n * 3 % N}"} | ({"prompt": f"is it {n}"} if n % 2 else {}) for n in range(N)]
    Path("items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return bird


def call(*words: str, code: int = 0) -> Any:
    done = CliRunner().invoke(app, ["m", "--items", "items.jsonl", "-p", "Why?", *words])
    if isinstance(done.exception, StoreMismatch):
        raise done.exception
    assert done.exit_code == code, done.output
    return done


def said() -> dict[str, str]:
    rows = [json.loads(line) for line in Path("a.jsonl").read_text().splitlines()]
    assert len({row["id"] for row in rows}) == len(rows), "an item has two rows"
    return {row["id"]: row["text"] for row in rows}


def test_a_cut_file_is_filled_up_with_what_is_missing_and_nothing_else(parrot: Parrot) -> None:
    call("-o", "a.jsonl")
    assert said() == {f"{n * 3 % N}": f"is it {n}" if n % 2 else "Why?" for n in range(N)}
    whole = Path("a.jsonl").read_bytes()
    for size in (0, 1, len(whole) // 3, len(whole) // 2 + 7, len(whole) - 1, len(whole)):
        Path("a.jsonl").write_bytes(whole[:size])
        parrot.asked.clear()
        call("-o", "a.jsonl")
        assert Path("a.jsonl").read_bytes() == whole
        assert len(parrot.asked) == N - whole[:size].count(b"\n")
    with pytest.raises(StoreMismatch, match="another answer to"):
        call("-o", "a.jsonl", "--max-new-tokens", "9")
    assert Path("a.jsonl").read_bytes() == whole


def test_items_that_failed_are_asked_again_and_the_reasons_are_counted(
    parrot: Parrot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_generating, "MOST_REASONS", 2)
    parrot.mute = {"3", "5", "600", "699"}
    told = call("-o", "a.jsonl", code=1)
    assert "4 of 700 items have no row" in told.stderr and "(2 items): other reasons" in told.stderr
    parrot.asked.clear()
    missing, parrot.mute = parrot.mute, set()
    call("-o", "a.jsonl")
    assert set(parrot.asked) == missing and len(said()) == N


def test_the_first_items_are_asked_when_there_is_a_limit(parrot: Parrot) -> None:
    call("-o", "a.jsonl", "--limit", "300")
    assert set(said()) == {f"{n * 3 % N}" for n in range(300)}
    call("-o", "a.jsonl")
    assert sorted(parrot.asked) == sorted(said()) and len(said()) == N


@pytest.mark.parametrize("most", [10_000, 1])
def test_pictures_are_items_once_in_the_order_they_are_named(
    most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool, "MOST", most)
    monkeypatch.chdir(tmp_path)
    for name in ("b/10.png", "b/9.png", "a/9.png", "a/1.png"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).touch()
    found = wanted_samples(["http://x.org/z.png", "b", "a/*.png", "b/9.png"], prompt="?")
    named = [("b/9.png", "b/9.png"), ("10", "b/10.png"), ("1", "a/1.png"), ("a/9.png", "a/9.png")]
    assert [(one.id, one.image) for one in found] == [("z", "http://x.org/z.png"), *named]
    assert {one.prompt for one in found} == {"?"} and wanted_samples([], prompt="?") == [Sample("1", "?")]
    with pytest.raises(BadInput, match="Nothing is asked about 'z'"):
        wanted_samples(["http://x.org/z.png"])


@pytest.mark.slow
def test_memory_does_not_grow_with_the_items(tmp_path: Path) -> None:
    """Asked and resumed: the peak above the start was 18 MB for a hundred thousand items, and 140 MB held."""
    for name, n in (("few", 2), ("many", 100_000)):
        rows = (json.dumps({"id": k, "prompt": f"{k:200}"}) + "\n" for k in range(n))
        (tmp_path / f"{name}.jsonl").write_text("".join(rows))
    files = [str(tmp_path / f"{name}.jsonl") for name in ("few", "many")]
    done = subprocess.run([sys.executable, "-c", ECHO, *files], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 60
    assert (tmp_path / "many.jsonl.out.jsonl").read_bytes().count(b"\n") == 100_000
