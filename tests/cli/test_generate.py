"""`vlmtools generate`: one answer on the screen, many in a file that survives being killed."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny_models
import torch
import typer
from misbehaving_server import serving
from typer.testing import CliRunner

from vlmtools.cli.generate import generate
from vlmtools.errors import BadInput, CannotAttach, ResponderError, StoreMismatch, VlmToolsError
from vlmtools.patches._files import save_patches
from vlmtools.patches.pai import PAI
from vlmtools.patches.vhr import VHR
from vlmtools.responders.recorded import read_sources
from vlmtools.types import Decoding, Request, Sample
from vlmtools.vlm import VLM, load

app = typer.Typer(pretty_exceptions_enable=False)
app.command("generate")(generate)
ASK = ["-p", "What is this?", "--max-new-tokens", "12"]
NEAR = "pai:first_layer=0,strength=0.8"
SERVE = """
import sys, typer
from vlmtools.cli.generate import generate
app = typer.Typer(pretty_exceptions_enable=False)
app.command()(generate)
app()
"""


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.llava(tmp_path_factory.mktemp("models") / "llava")


@pytest.fixture(scope="module")
def vlm(folder: Path) -> VLM:
    return load(folder)


@pytest.fixture(autouse=True)
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.chdir(tmp_path)
    return [tiny_models.picture(tmp_path, i).name for i in range(5)]


def call(*words: str | Path, code: int = 0) -> Any:
    done = CliRunner().invoke(app, [str(word) for word in words])
    if isinstance(done.exception, VlmToolsError):
        raise done.exception
    assert done.exit_code == code, done.output
    return done


def rows(path: str) -> dict[str, dict[str, Any]]:
    found = [json.loads(line) for line in Path(path).read_text("utf-8").splitlines()]
    assert len({row["id"] for row in found}) == len(found), "an item has two rows"
    return {row["id"]: row for row in found}


def expected(vlm: VLM, picture: str, **decoding: Any) -> str:
    wanted = Decoding(**{"max_new_tokens": 12, **decoding})
    reply = vlm.generate([Request(Sample(Path(picture).stem, "What is this?", image=picture), wanted)])[0]
    return str(reply.text)


def test_one_picture_prints_its_answer(folder: Path, vlm: VLM, pictures: list[str]) -> None:
    answer = expected(vlm, pictures[0])
    assert call(folder, pictures[0], *ASK).stdout == answer + "\n"
    assert call(folder, pictures[0], *ASK, "--stream").stdout == answer + "\n"
    row = json.loads(call(folder, pictures[0], *ASK, "--json", "--stream").stdout)
    assert (row["id"], row["text"], row["model"]) == ("picture0", answer, "llava")


def test_a_question_without_a_picture_is_asked(folder: Path, vlm: VLM) -> None:
    assert call(folder, *ASK).stdout.strip() == vlm.answer(None, "What is this?", max_new_tokens=12)


def test_a_patched_answer_is_that_of_the_patched_model(folder: Path, vlm: VLM, pictures: list[str]) -> None:
    with VHR(strength=4.0).attach(vlm), PAI(first_layer=0, strength=0.8).attach(vlm):
        answer = expected(vlm, pictures[1])
    assert answer != expected(vlm, pictures[1])
    words = [folder, pictures[1], *ASK]
    assert call(*words, "--patch", "vhr:strength=4", "--patch", NEAR).stdout == answer + "\n"
    save_patches("mine.toml", [VHR(strength=4.0), PAI(first_layer=0, strength=0.8)])
    assert call(*words, "--patch-file", "mine.toml").stdout == answer + "\n"


def test_beams_are_searched(folder: Path, vlm: VLM, pictures: list[str]) -> None:
    vlm.num_beams = 3
    try:
        answer = expected(vlm, pictures[2])
    finally:
        vlm.num_beams = 1
    assert call(folder, pictures[2], *ASK, "--num-beams", "3", "--stream").stdout == answer + "\n"


def test_many_pictures_give_rows_that_crosscheck_reads(folder: Path, vlm: VLM, pictures: list[str]) -> None:
    told = call(folder, "picture*.png", *ASK, "-o", "mine.jsonl", "--patch", "vhr:strength=4")
    with VHR(strength=4.0).attach(vlm):
        answers = {Path(one).stem: expected(vlm, one) for one in pictures}
    assert {item: row["text"] for item, row in rows("mine.jsonl").items()} == answers
    (source,) = read_sources("mine.jsonl")
    assert {item: said.text for item, said in source.answers.items()} == answers
    assert source.samples["picture3"].prompt == "What is this?"
    assert rows("mine.jsonl")["picture3"]["model"] == "llava+vhr:strength=4"
    assert "5 rows, 5 of them new" in told.stderr and "vlmtools crosscheck mine.jsonl" in told.stderr
    record = json.loads(Path("mine.record.json").read_text())
    assert record["model"]["patches"][0]["strength"] == 4 and record["decoding"]["temperature"] == 0


def test_without_a_file_rows_go_to_stdout(folder: Path, vlm: VLM, pictures: list[str]) -> None:
    lines = call(folder, *pictures[:2], *ASK).stdout.splitlines()
    assert {row["id"]: row["text"] for row in map(json.loads, lines)} == {
        Path(one).stem: expected(vlm, one) for one in pictures[:2]
    }


def test_several_draws_are_samples_of_one_row_and_repeat(folder: Path, vlm: VLM, pictures: list[str]) -> None:
    draw = [*ASK, "--n", "3", "-t", "1", "--top-p", "0.9", "--seed", "4", "--patch", "vhr:strength=4"]
    call(folder, *pictures[:3], *draw, "-o", "a.jsonl", "--batch-size", "2")
    call(folder, *pictures[:3], *draw, "-o", "b.jsonl")
    assert {item: (row["text"], row["samples"]) for item, row in rows("a.jsonl").items()} == {
        item: (row["text"], row["samples"]) for item, row in rows("b.jsonl").items()
    }
    for row in rows("a.jsonl").values():
        assert len(row["samples"]) == 2 and len({row["text"], *row["samples"]}) == 3
    with VHR(strength=4.0).attach(vlm):
        assert rows("a.jsonl")["picture1"]["text"] == expected(
            vlm, pictures[1], temperature=1.0, top_p=0.9, seed=4
        )
    shown = call(folder, pictures[0], *draw).stdout
    assert (
        shown
        == "\n\n".join([rows("a.jsonl")["picture0"]["text"], *rows("a.jsonl")["picture0"]["samples"]]) + "\n"
    )


def test_items_from_a_file_bring_their_own_questions(folder: Path, pictures: list[str]) -> None:
    asked = [
        {"id": "a", "image": pictures[0], "prompt": "Why?"},
        {"id": "b", "image": pictures[1], "reference": "x"},
    ]
    Path("items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in asked))
    call(folder, "--items", "items.jsonl", *ASK, "-o", "mine.jsonl")
    found = rows("mine.jsonl")
    assert [found[item]["prompt"] for item in "ab"] == ["Why?", "What is this?"]
    assert found["b"]["reference"] == "x"
    with pytest.raises(BadInput, match="not both"):
        call(folder, pictures[0], "--items", "items.jsonl")


def test_an_item_without_an_answer_is_counted_and_asked_again(
    folder: Path, pictures: list[str], tmp_path: Path
) -> None:
    good = Path(pictures[2]).read_bytes()
    Path(pictures[2]).write_bytes(good[:80])
    told = call(folder, *pictures, *ASK, "-o", "mine.jsonl", code=1)
    assert "1 of 5 items have no row" in told.stderr
    assert set(rows("mine.jsonl")) == {f"picture{i}" for i in (0, 1, 3, 4)}
    Path(pictures[2]).write_bytes(good)
    summary = json.loads(call(folder, *pictures, *ASK, "-o", "mine.jsonl", "--json").stdout)
    assert summary == {"out": "mine.jsonl", "rows": 5, "new": 1, "failed": {}}


def test_the_same_line_again_asks_nothing(
    folder: Path, pictures: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    call(folder, *pictures[:2], *ASK, "-o", "mine.jsonl")
    before = Path("mine.jsonl").read_bytes()
    monkeypatch.setattr("vlmtools.responders.hf.load", lambda *_a, **_k: pytest.fail("loaded"))
    told = call(folder, *pictures[:2], *ASK, "-o", "mine.jsonl")
    assert Path("mine.jsonl").read_bytes() == before and "0 of them new" in told.stderr
    for more in (
        ["--patch", "vhr"],
        ["-t", "1"],
        ["--num-beams", "2"],
        ["--max-new-tokens", "9"],
        ["-p", "?"],
    ):
        with pytest.raises(StoreMismatch, match="another --out"):
            call(folder, *pictures[:2], *ASK, *more, "-o", "mine.jsonl")
    assert Path("mine.jsonl").read_bytes() == before


def test_a_killed_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    items = [{"id": f"x{i}", "prompt": f"question {i}"} for i in range(60)]
    Path("items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in items))
    with serving(delay_s=0.02) as log:
        words = [f"server:m@{log.url}", "--items", "items.jsonl", "-o", "mine.jsonl", "--concurrency", "2"]
        command = [sys.executable, "-c", SERVE, *words]
        for wanted in (5, 20):
            with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE) as run:
                until = time.monotonic() + 30
                while _lines("mine.jsonl") < wanted and run.poll() is None and time.monotonic() < until:
                    time.sleep(0.005)
                run.kill()
            assert wanted <= _lines("mine.jsonl") < len(items), "the run was not stopped half way"
        before = len(log.bodies)
        kept = _lines("mine.jsonl")
        call(*words)
        assert len(log.bodies) - before == len(items) - kept
    assert {item: row["text"] for item, row in rows("mine.jsonl").items()} == {
        f"x{i}": f"echo question {i}" for i in range(60)
    }


def _lines(path: str) -> int:
    return Path(path).read_bytes().count(b"\n") if Path(path).exists() else 0


def test_pictures_of_one_name_in_two_folders_stay_apart(folder: Path, pictures: list[str]) -> None:
    for name in ("one", "two"):
        Path(name).mkdir()
        shutil.copy(pictures[0], Path(name) / "same.png")
    call(folder, "one", "two/same.png", pictures[1], *ASK, "-o", "mine.jsonl")
    assert set(rows("mine.jsonl")) == {"one/same.png", "two/same.png", "picture1"}


def test_a_patch_that_does_not_fit_stops_the_run_with_its_reason(folder: Path, pictures: list[str]) -> None:
    with pytest.raises(CannotAttach, match="pai is set to layers"):
        call(folder, *pictures, *ASK, "--patch", "pai:first_layer=7", "-o", "mine.jsonl")
    assert not rows("mine.jsonl")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["llava"], "Nothing is asked"),
        (["llava", "picture0.png"], "Nothing is asked about 'picture0'"),
        (["llava", "gone.png", "-p", "?"], r"gone\.png"),
        (["llava", "-p", "?", "--n", "3"], "temperature 0 would be 3 times the same"),
        (["llava", "-p", "?", "--num-beams", "3", "-t", "1"], "excludes the other"),
        (["server:m@http://localhost:1/v1", "-p", "?", "--patch", "vhr"], "a server runs its own"),
        (["llava", "-p", "?", "--patch", "vhr:strenght=2"], "Did you mean 'strength'"),
        (["llava", "picture*.png", "-p", "?", "-o", "mine.csv"], r"ends in \.jsonl"),
        (["llava", "-p", "?", "--quant", "3bit"], "3bit"),
    ],
)
def test_a_line_that_cannot_work_is_answered_before_anything_is_loaded(
    words: list[str], says: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vlmtools.responders.hf.load", lambda *_a, **_k: pytest.fail("loaded"))
    with pytest.raises(VlmToolsError, match=says):
        call(*(folder if word == "llava" else word for word in words))


def test_one_answer_that_fails_is_an_error(folder: Path, pictures: list[str]) -> None:
    Path(pictures[0]).write_bytes(b"no picture")
    for more in ([], ["--stream"]):
        with pytest.raises(ResponderError, match="gave no answer"):
            call(folder, pictures[0], *ASK, *more)


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys, vlmtools.cli.generate\nfrom vlmtools.cli.patch import patch_app\n"
        "print(sorted(set(sys.modules) & {'torch', 'transformers', 'scipy', 'PIL', 'rich.table'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
