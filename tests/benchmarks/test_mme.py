import json

import pytest

from vlmtools.benchmarks.base import Said, score_answers
from vlmtools.benchmarks.mme import Mme
from vlmtools.errors import BadInput
from vlmtools.evaluate.scoring import Scoring, score_file
from vlmtools.scoring.mme import HALLUCINATION


def folder_of(tmp_path):
    for task in HALLUCINATION:
        (tmp_path / f"{task}.txt").write_text("1.jpg\tIs it?\tYes\n1.jpg\tIs it not?\tNo\n")
    return tmp_path


def test_a_perfect_model_gets_800_points(tmp_path):
    benchmark = Mme()
    samples = {sample.id: sample for sample in benchmark.samples(folder_of(tmp_path))}
    assert list(samples)[:2] == ["existence/1.jpg/1", "existence/1.jpg/2"]
    rows = score_answers(benchmark, samples, {id: Said(str(s.reference)) for id, s in samples.items()})
    found = benchmark.values(rows)
    assert found["hallucination"] == 800 and "perception" not in found


def test_always_yes_gets_half_of_accuracy_and_nothing_of_accuracy_plus(tmp_path):
    benchmark = Mme()
    samples = {sample.id: sample for sample in benchmark.samples(folder_of(tmp_path))}
    found = benchmark.values(score_answers(benchmark, samples, {id: Said("Yes") for id in samples}))
    assert found["hallucination"] == 200
    assert (found["accuracy/count"], found["accuracy_plus/count"], found["points/count"]) == (0.5, 0.0, 50.0)


def test_json_lines_are_read_and_a_lone_question_is_refused(tmp_path):
    path = tmp_path / "mme.jsonl"
    row = {"task": "count", "image": "1.jpg", "question": "Q", "answer": "Yes"}
    path.write_text("\n".join(json.dumps(one) for one in (row, row | {"answer": "No"})))
    assert [sample.reference for sample in Mme().samples(path)] == ["yes", "no"]
    path.write_text(json.dumps(row))
    with pytest.raises(BadInput, match="has two"):
        list(Mme().samples(path))


def test_a_folder_in_the_layout_of_the_official_tool_is_scored_as_it_scores(tmp_path):
    lines = [
        "1.jpg\tIs it?\tYes\tyes, it is",
        "1.jpg\tNot?\tNo\tNo",
        "2.jpg\tA?\tYes\tI think yes",
        "2.jpg\tB?\tNo\tno.",
    ]
    for task in HALLUCINATION:
        (tmp_path / f"{task}.txt").write_text("\n".join(lines) + "\n")
    found = score_file(tmp_path, Mme(), tmp_path, setting=Scoring(n_boot=2))
    assert (found.n, found.unparsed) == (16, 4)  # yes stands behind the fourth character
    assert found.metrics["hallucination"].value == 4 * (75 + 50)


def test_a_line_without_an_answer_is_named(tmp_path):
    folder_of(tmp_path)
    with pytest.raises(BadInput, match=r"existence\.txt', line 1: it has 3 columns"):
        score_file(tmp_path, Mme(), tmp_path)
