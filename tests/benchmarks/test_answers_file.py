"""A file of answers gives a right score or an error that names file, line and field; never a traceback."""

import gzip
import json
import math
import os
import string
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vlmtools.benchmarks._answers_file import read_answers
from vlmtools.benchmarks._files import read_entries
from vlmtools.benchmarks.chair import Chair
from vlmtools.benchmarks.pope import Pope
from vlmtools.errors import BadInput, MissingField, VlmToolsError
from vlmtools.evaluate.scoring import Scoring, score_file
from vlmtools.types import Sample

N_EXAMPLES = int(os.environ.get("VLMTOOLS_FUZZ_EXAMPLES", "200"))
SAMPLES = {
    f"{n}": Sample(f"{n}", "Is there a dog?", reference="yes", extra={"objects": ["dog"]}) for n in range(5)
}
QUICK = Scoring(n_boot=2)

plain = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20))
anything = st.recursive(
    plain,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
ids = st.sampled_from([*SAMPLES, 0, 1, 2, 2.0, 10**400, "9", "", None, True, 1e400])
names = st.sampled_from(
    ["image_id", "id", "question_id", "caption", "text", "answer", "question", "category"]
)
row = st.one_of(
    st.fixed_dictionaries({"image_id": ids, "caption": st.text(max_size=30)}),
    st.fixed_dictionaries({"question_id": ids, "answer": anything}),
    st.dictionaries(names, st.one_of(ids, anything), max_size=4),
    anything,
)
ending = st.sampled_from([".jsonl", ".json", ".csv", ".tsv", ".jsonl.gz", ".txt", ""])


@st.composite
def files(draw: st.DrawFn) -> tuple[str, bytes]:
    """A file somebody might hand over: right, half right, cut, doubled, in another format, or not a file of text."""
    rows, suffix = draw(st.lists(row, max_size=6)), draw(ending)
    text = draw(
        st.sampled_from(
            [
                "".join(json.dumps(one) + "\n" for one in rows),
                json.dumps(rows),
                json.dumps({str(place): one for place, one in enumerate(rows)}),
                "image_id,caption\n" + "".join(f"{place},{str(one)!r}\n" for place, one in enumerate(rows)),
            ]
        )
    )
    raw = text.encode("utf-8", "surrogatepass")
    raw = raw[: draw(st.integers(0, len(raw)))] if draw(st.booleans()) else raw
    raw = raw + draw(st.binary(max_size=4)) if draw(st.integers(0, 4)) == 0 else raw
    return suffix, gzip.compress(raw) if suffix.endswith(".gz") and draw(st.booleans()) else raw


@settings(
    max_examples=N_EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(made=files(), benchmark=st.sampled_from([Chair(), Pope()]))
def test_any_file_gives_answers_or_an_error_that_names_it(
    tmp_path: Path, made: tuple[str, bytes], benchmark: Any
) -> None:
    suffix, raw = made
    path = tmp_path / f"given{suffix}"
    path.write_bytes(raw)
    try:
        read = read_answers(path, benchmark, SAMPLES)
    except VlmToolsError as error:
        assert "given" in str(error), "the error does not name the file"
        return
    assert set(read.said) <= set(SAMPLES) and all(isinstance(one.text, str) for one in read.said.values())
    rows = [benchmark.score(SAMPLES[id], one) for id, one in read.said.items()]
    assert all(math.isfinite(number) for one in rows for number in one.numbers.values())


@settings(max_examples=N_EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.dictionaries(st.sampled_from(sorted(SAMPLES)), st.text(), min_size=1))
def test_every_right_file_is_read_as_it_was_written_in_every_format(
    tmp_path: Path, texts: dict[str, str]
) -> None:
    rows = [{"image_id": id, "caption": text} for id, text in texts.items()]
    forms = {
        "a.jsonl": "".join(json.dumps(one) + "\n" for one in rows),
        "a.json": json.dumps(rows),
        "b.json": json.dumps(texts),
        "c.json": "".join(json.dumps(one) + "\n" for one in rows) if len(rows) > 1 else json.dumps(rows),
    }
    for name, text in forms.items():
        (tmp_path / name).write_text(text)
        read = read_answers(tmp_path / name, Chair(), SAMPLES)
        assert {id: one.text for id, one in read.said.items()} == texts


def one_line(tmp_path: Path, *lines: str) -> Path:
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(line + "\n" for line in lines))
    return path


GOOD = '{"image_id": 1, "caption": "A dog."}'


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"image_id": 2}', "line 2 has no field for the answer"),
        ('{"caption": "A dog."}', "line 2 has no field for the id"),
        ('{"image_id": 2, "caption": ["A dog."]}', "line 2: the field 'caption'"),
        ('{"image_id": true, "caption": "A dog."}', "line 2: the field 'image_id'"),
        ('{"image_id": 1, "caption": "A cat."}', "line 2: the id '1' was answered before, differently"),
        ('{"image_id": 99, "caption": "A cat."}', "line 2: the id '99' is no item"),
        ('{"image_id": 2, "caption": "A do', "line 2 is not JSON"),
        ('["A dog."]', "line 2 is a list, not an object"),
    ],
)
def test_what_is_wrong_is_named_by_file_line_and_field(tmp_path: Path, line: str, said: str) -> None:
    with pytest.raises(BadInput) as caught:
        read_answers(one_line(tmp_path, GOOD, line), Chair(), SAMPLES)
    assert "mine.jsonl" in str(caught.value) and said in str(caught.value)


def test_a_named_field_that_is_not_there_is_said_with_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(MissingField, match="line 1 has no field 'idd'"):
        read_answers(one_line(tmp_path, GOOD), Chair(), SAMPLES, "idd", "caption")


def test_the_same_answer_twice_counts_once(tmp_path: Path) -> None:
    assert len(read_answers(one_line(tmp_path, GOOD, GOOD), Chair(), SAMPLES).said) == 1


def test_a_null_answer_is_no_answer_and_an_empty_one_is(tmp_path: Path) -> None:
    path = one_line(tmp_path, '{"image_id": 1, "caption": null}', '{"image_id": 2, "caption": ""}')
    read = read_answers(path, Chair(), SAMPLES)
    assert read.silent == ("1",) and read.said["2"].text == ""


def test_missing_answers_are_an_error_unless_asked_for(tmp_path: Path) -> None:
    data, answers = tmp_path / "coco_pope_random.json", tmp_path / "a.jsonl"
    questions = [
        {"question_id": n, "image": "1.jpg", "text": f"Is there a {n}?", "label": "no"} for n in range(3)
    ]
    data.write_text("".join(json.dumps(one) + "\n" for one in questions))
    answers.write_text('{"question_id": 0, "answer": "No"}\n')
    with pytest.raises(BadInput, match="2 of 3 items of pope have no answer, first of them '1'"):
        score_file(answers, Pope(), data, setting=QUICK)
    found = score_file(answers, Pope(), data, setting=Scoring(partial=True, n_boot=2))
    assert found.n == 1 and "Only 1 of 3" in found.record["warnings"][0]


def test_a_json_file_with_one_object_per_line_is_read_by_its_content(tmp_path: Path) -> None:
    path = tmp_path / "answers.json"
    path.write_text(f"{GOOD}\n{GOOD}\n")
    assert len(read_entries(path)) == 2


@pytest.mark.slow
def test_a_thousand_strange_files_leave_no_traceback(tmp_path: Path) -> None:
    inner = test_any_file_gives_answers_or_an_error_that_names_it.hypothesis.inner_test  # type: ignore[attr-defined]

    @settings(
        max_examples=1000,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )
    @given(made=files(), benchmark=st.sampled_from([Chair(), Pope()]))
    def many(made: tuple[str, bytes], benchmark: Any) -> None:
        inner(tmp_path, made, benchmark)

    many()


def test_letters_of_any_script_survive(tmp_path: Path) -> None:
    text = "Ein Hund – 犬 🐕 \u2028 " + string.punctuation
    path = one_line(tmp_path, json.dumps({"image_id": 1, "caption": text}, ensure_ascii=False))
    assert read_answers(path, Chair(), SAMPLES).said["1"].text == text


@pytest.mark.parametrize("indent", [None, 1])
def test_a_list_in_a_file_called_jsonl_is_read_as_a_list(tmp_path: Path, indent: int | None) -> None:
    rows = [{"id": "1", "text": "A dog."}, {"id": "2", "text": "A cat."}]
    (tmp_path / "a.jsonl").write_text(json.dumps(rows, indent=indent))
    assert [row.fields for row in read_entries(tmp_path / "a.jsonl")] == rows


def test_objects_one_after_another_over_several_lines_are_read_with_their_lines(tmp_path: Path) -> None:
    rows = [{"id": "1", "text": "A dog."}, {"id": "2", "text": "A cat."}, {"id": "3", "text": "{\n}"}]
    (tmp_path / "a.json").write_text("\n".join(json.dumps(row, indent=4) for row in rows) + "\n")
    read = read_entries(tmp_path / "a.json")
    assert [row.fields for row in read] == rows
    assert [row.where[-6:] for row in read] == ["line 1", "line 5", "line 9"]


def test_a_cut_file_of_such_objects_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{\n"id": "1",\n"text": "A dog."\n}\n{\n"id": "2",')
    with pytest.raises(BadInput, match=r"a\.json"):
        read_entries(tmp_path / "a.json")
