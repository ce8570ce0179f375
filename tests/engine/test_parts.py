"""The parts of an engine that need no cluster."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from recording import Recording, calls, items

from vlmtools.answers import ask, row_keys
from vlmtools.crosscheck.collect import Draws, collect
from vlmtools.crosscheck.judges.base import Question
from vlmtools.crosscheck.judges.objects import Objects
from vlmtools.crosscheck.judging import FEW, Judging, worth_it
from vlmtools.crosscheck.voting import VoteCall
from vlmtools.engine.answering import Answering, absolute
from vlmtools.engine.base import Failed
from vlmtools.engine.block import differing
from vlmtools.engine.local import Local
from vlmtools.engine.ray import RayData
from vlmtools.engine.sizing import GB, Asked
from vlmtools.engine.spec import open_engine, refuse_budget
from vlmtools.errors import BadInput, ResponderError, UnknownName
from vlmtools.store import Store
from vlmtools.types import Decoding, Request, Sample


def test_local_is_what_there_was() -> None:
    assert isinstance(open_engine(), Local)
    assert open_engine().size(256) == 256


def test_ray_is_opened_without_starting_anything() -> None:
    engine = open_engine("ray:10.0.0.1:6379", workers=3, gpus_per_worker=0.5, block=7, memory_per_worker=2)
    assert isinstance(engine, RayData)
    assert (engine.address, engine.asked) == ("10.0.0.1:6379", Asked(3, 0.5, 1.0, 2 * GB))
    assert engine.size(256) == 7
    assert [RayData().size(chunk) for chunk in (256, 2048, 1)] == [16, 128, 1]
    assert open_engine("ray", batch_size=64).size(256) == 64, "a block holds at least a batch"
    engine.close()


@pytest.mark.parametrize(
    ("spec", "options", "error"),
    [
        ("spark", {}, UnknownName),
        ("local:here", {}, BadInput),
        ("local", {"workers": 2}, BadInput),
        ("local", {"memory_per_worker": 0}, BadInput),
        ("ray", {"memory_per_worker": -1}, BadInput),
        ("ray:a b", {}, BadInput),
        ("ray", {"workers": 0}, BadInput),
        ("ray", {"gpus_per_worker": -1}, BadInput),
        ("ray", {"cpus_per_worker": 0}, BadInput),
        ("ray", {"block": 0}, BadInput),
    ],
)
def test_what_makes_no_sense_is_refused(spec: str, options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        open_engine(spec, **options)


def test_a_budget_and_a_cluster_exclude_each_other() -> None:
    refuse_budget("local", object())
    refuse_budget("ray", None)
    with pytest.raises(BadInput, match="--budget"):
        refuse_budget("ray", object())


def test_identities_are_compared_as_they_are_stored() -> None:
    assert differing({"a": (1, 2), "b": None}, {"a": [1, 2], "b": None}) == []
    assert differing({"transformers": "5.1"}, {"transformers": "5.2", "more": 1}) == [
        "more is 1, here None",
        "transformers is '5.2', here '5.1'",
    ]


def test_relative_files_travel_by_absolute_path_and_addresses_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.png").write_bytes(b"")
    assert absolute(Sample("a", image="a.png")).image == str(tmp_path / "a.png")
    for where in ("s3://bucket/a.png", "data:image/png;base64,", "/elsewhere/a.png", "missing.png"):
        assert absolute(Sample("a", image=where)).image == where
    work = Answering(Recording("log"))
    key, request = work.travelling(("key", Request(Sample("a", image="a.png"))))
    assert (key, request.sample.image) == ("key", str(tmp_path / "a.png"))


class Fails:
    """An engine that gives nothing back but reasons."""

    def size(self, chunk: int) -> int:
        return chunk

    def map(self, blocks: Any, work: Any) -> Iterator[tuple[Any, Failed]]:
        for block in blocks:
            for call in block:
                yield call, Failed("its worker died")

    def close(self) -> None:
        """Nothing."""

    def __enter__(self) -> "Fails":
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing."""


def test_a_failed_call_is_recorded_and_asked_again_by_the_next_run(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with Store(tmp_path / "run") as store:
        store.bind({"what": "test"})
        found, tally = collect(store, Recording(str(log)), items(3), Draws(), engine=Fails())
        assert (len(found), tally.failed) == (0, {"its worker died": 3})
        assert store.count("failures") == 3
        found, tally = collect(store, Recording(str(log)), items(3), Draws(), engine=Local())
    assert len(found) == tally.asked == sum(calls(log).values()) == 3


def test_rows_of_generate_carry_the_reason_of_a_failed_call() -> None:
    responder, decoding = Recording("log"), Decoding(temperature=1.0)
    keys = row_keys(responder, items(2), decoding, 2)
    rows = list(ask(responder, items(2), decoding, 2, keys=keys, engine=Fails()))
    assert [row.error for row in rows] == ["its worker died"] * 2


class GivesUp(Objects):
    """Judges one question, then is gone."""

    def judge(self, questions: Any) -> Any:
        yield from super().judge(questions[:1])
        raise ResponderError("gone")


def test_questions_that_a_judge_left_have_failed_and_the_others_stand() -> None:
    asked = [("k", VoteCall("i", "t", "e", 0, Question(("dog",), "a dog", Sample("i")))) for _ in range(3)]
    found = dict(Judging(GivesUp()).do(asked))
    assert found[0] == next(iter(Objects().judge([asked[0][1].question])))[1]
    assert found[1] == found[2] == Failed("gone")


def test_judges_without_a_model_leave_the_process_only_for_many_questions() -> None:
    cluster = Fails()
    assert isinstance(worth_it(cluster, Objects(), FEW - 1), Local)
    assert worth_it(cluster, Objects(), FEW) is cluster
    assert isinstance(worth_it(None, Objects(), FEW), Local)


def test_help_and_the_engine_package_load_neither_ray_nor_torch() -> None:
    code = (
        "import sys; import vlmtools, vlmtools.engine.ray, vlmtools.engine.spec, vlmtools.crosscheck.run, vlmtools.cli;"
        "from typer.testing import CliRunner; from vlmtools.cli import app;"
        "assert '--engine' in CliRunner().invoke(app, ['crosscheck', '--help']).output;"
        "print([name for name in ('ray', 'torch', 'pandas') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]", done.stdout
