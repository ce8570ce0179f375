import json

import pytest
from places import published

from vlmtools.benchmarks.base import Said, score_answers
from vlmtools.benchmarks.faithscore import Faithscore
from vlmtools.errors import BadInput


@pytest.mark.golden
def test_the_human_annotation_gives_the_measured_means():
    benchmark = Faithscore()
    samples = {sample.id: sample for sample in benchmark.samples(published("faithscore"))}
    rows = score_answers(benchmark, samples, {id: Said(s.extra["answer"]) for id, s in samples.items()})
    found = benchmark.values(rows)
    assert (round(found["micro"], 6), round(found["macro"], 6)) == (0.807246, 0.846979)
    assert found["faithscore"] == pytest.approx(found["macro"] * 164 / 180)
    assert "16 of 180" in benchmark.warnings(rows)[0]


def test_a_checker_decides_where_it_was_asked(tmp_path):
    path = tmp_path / "facts.jsonl"
    path.write_text(json.dumps({"id": "a", "answer": "x", "facts": ["There is a dog.", "It is red."]}) + "\n")
    benchmark = Faithscore()
    (sample,) = benchmark.samples(path)
    assert [q.prompt.startswith("Statement: ") for q in benchmark.questions(sample, "x")] == [True, True]
    row = benchmark.score(sample, Said("x", verdicts=("Yes", "No")))
    assert row.numbers["share"] == 0.5 and row.detail == {"unsupported": ["It is red."]}
    with pytest.raises(BadInput, match="--judge"):
        benchmark.score(sample, Said("x"))
